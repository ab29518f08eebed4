package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// One attention call: shapes, layout, plan and data. What no query may see, such as cache entries
/// between the rows, is NaN.
public record AttentionCase(
    String name,
    DenseAttention.Dims dims,
    BatchLayout layout,
    int cache,
    HeadPlan plan,
    AttentionSpec spec) {

  /// Whole sequences of these lengths, every head intact.
  public static AttentionCase packed(int heads, int kvHeads, int headDim, int... lengths) {
    return new AttentionCase(
        "H=%d Hkv=%d D=%d T=%s".formatted(heads, kvHeads, headDim, Arrays.toString(lengths)),
        new DenseAttention.Dims(heads, kvHeads, headDim),
        BatchLayout.packed(lengths),
        Arrays.stream(lengths).sum(),
        HeadPlan.neutral(lengths.length, heads),
        new AttentionSpec(AttentionSpec.NO_WINDOW, (float) (1 / Math.sqrt(headDim))));
  }

  public AttentionCase window(int window) {
    return new AttentionCase(
        name + " window=" + window,
        dims,
        layout,
        cache,
        plan,
        new AttentionSpec(window, spec.scale()));
  }

  public AttentionCase plan(String what, HeadPlan newPlan) {
    return new AttentionCase(name + " " + what, dims, layout, cache, newPlan, spec);
  }

  /// Rows with every kind of head, rotated from row to row; needs at least one head per kind to
  /// show all in one row.
  public AttentionCase mixed(boolean keepGatedOff) {
    List<HeadMask> masks = new ArrayList<>();
    for (int r = 0; r < layout.rows(); r++) {
      masks.add(mixedMask(dims, r));
    }
    return plan(
        keepGatedOff ? "mixed plan, gated off heads kept" : "mixed plan",
        HeadPlan.of(masks, 0, dims.headDim(), keepGatedOff));
  }

  /// The same kinds, each of two neighbours; rows alike.
  public AttentionCase inPairs() {
    HeadMask mask = HeadMask.none(1, dims.heads());
    for (int h = 0; h < dims.heads(); h++) {
      List<HeadId> id = List.of(new HeadId(0, h));
      mask =
          switch (h / 2 % 8) {
            case 1 -> mask.withGate(id, 0);
            case 2 -> mask.withKind(id, HeadKind.UNIFORM);
            case 3 -> mask.withKind(id, new HeadKind.Local(2, 30));
            case 4 -> mask.withKind(id, new HeadKind.Mean(normal(90 + h, dims.headDim())));
            case 6 -> mask.withKind(id, new HeadKind.Local(0, 1));
            default -> mask;
          };
    }
    List<HeadMask> masks = Collections.nCopies(layout.rows(), mask);
    return plan("kinds in pairs", HeadPlan.of(masks, 0, dims.headDim(), false));
  }

  /// Head h of row r has the kind (h + r) mod 8.
  public static HeadMask mixedMask(DenseAttention.Dims dims, int row) {
    HeadMask mask = HeadMask.none(1, dims.heads());
    for (int h = 0; h < dims.heads(); h++) {
      List<HeadId> id = List.of(new HeadId(0, h));
      mask =
          switch ((h + row) % 8) {
            case 1 -> mask.withGate(id, 0);
            case 2 -> mask.withKind(id, HeadKind.UNIFORM);
            case 3 -> mask.withKind(id, new HeadKind.Local(2, 3));
            case 4 -> mask.withKind(id, new HeadKind.Mean(normal(90 + h, dims.headDim())));
            case 5 -> mask.withGate(id, 0.3f);
            case 6 -> mask.withKind(id, new HeadKind.Local(0, 1)).withGate(id, 0.3f);
            case 7 -> mask.withKind(id, HeadKind.UNIFORM).withGate(id, 0);
            default -> mask;
          };
    }
    return mask;
  }

  /// The same tokens as a continuation: row r has `past[r]` cached keys, and its keys start at
  /// `keyStart[r]` of a larger cache.
  public AttentionCase cached(int[] past, int[] keyStart, int cache) {
    int[] lengths = new int[layout.rows()];
    Arrays.setAll(lengths, layout::length);
    return new AttentionCase(
        name + " past=" + Arrays.toString(past),
        dims,
        BatchLayout.cached(lengths, past, keyStart),
        cache,
        plan,
        spec);
  }

  public int tokens() {
    return layout.tokens();
  }

  public float[] q() {
    return normal(11, tokens() * dims.heads() * dims.headDim());
  }

  public float[] k() {
    return keys(12);
  }

  public float[] v() {
    return keys(13);
  }

  private float[] keys(long seed) {
    int width = dims.kvHeads() * dims.headDim();
    float[] all = normal(seed, cache * width);
    for (int j : keysOfNobody()) {
      Arrays.fill(all, j * width, (j + 1) * width, Float.NaN);
    }
    return all;
  }

  private int[] keysOfNobody() {
    boolean[] owned = new boolean[cache];
    for (int r = 0; r < layout.rows(); r++) {
      Arrays.fill(owned, layout.keyStart(r), layout.keyStart(r) + layout.keys(r), true);
    }
    return IntStream.range(0, cache).filter(j -> !owned[j]).toArray();
  }

  /// Puts NaN, the garbage of all outputs, where no row has a key.
  public void leaveKeysOfNobody(double[] gradients) {
    int width = gradients.length / cache;
    for (int j : keysOfNobody()) {
      Arrays.fill(gradients, j * width, (j + 1) * width, Double.NaN);
    }
  }

  DenseAttention dense() {
    return new DenseAttention(q(), k(), v(), dims, layout, plan, spec);
  }

  /// z `[N,H,D]` and lse `[N,H]` of a backend.
  float[][] forward(Workbench on) {
    return forward(on, q(), k(), v(), null);
  }

  float[][] forward(
      Workbench on, float[] q, float[] k, float[] v, @Nullable AttentionReadout readout) {
    int headDim = dims.headDim();
    Tensor z = on.garbage("z", tokens(), dims.heads(), headDim);
    Tensor lse = on.garbage("lse", tokens(), dims.heads());
    on.ops.attention(
        z,
        lse,
        on.f32("q", q, tokens(), dims.heads(), headDim),
        on.f32("k", k, cache, dims.kvHeads(), headDim),
        on.f32("v", v, cache, dims.kvHeads(), headDim),
        layout,
        plan,
        spec,
        readout);
    return new float[][] {on.floats(z), on.floats(lse)};
  }

  /// z, lse and the read-outs of every query: all a forward tells, a row of each array per token.
  float[][] everything(Workbench on, float[] q, float[] k, float[] v) {
    int[] queries = IntStream.range(0, tokens()).toArray();
    int[][][] spans = new int[tokens()][][];
    int[] positions = layout.positions();
    for (int n = 0; n < tokens(); n++) {
      int i = positions[n];
      spans[n] = new int[][] {{0, i / 2}, {i / 3, i}, {i, i + 1}};
    }
    AttentionReadout readout = on.readout(dims.heads(), queries, spans);
    float[][] outputs = forward(on, q, k, v, readout);
    return new float[][] {
      outputs[0],
      outputs[1],
      widened(on.ints(readout.topPosition())),
      on.floats(readout.topWeight()),
      on.floats(readout.spanMass()),
      on.floats(readout.logSumExp())
    };
  }

  /// Exact for positions below 2^24.
  static float[] widened(int[] values) {
    float[] wide = new float[values.length];
    for (int i = 0; i < wide.length; i++) {
      wide[i] = values[i];
    }
    return wide;
  }

  /// The part of arrays with a row per token that belongs to tokens `[from, to)`.
  float[][] tokensOf(float[][] arrays, int from, int to) {
    float[][] parts = new float[arrays.length][];
    for (int i = 0; i < parts.length; i++) {
      int width = arrays[i].length / tokens();
      parts[i] = Arrays.copyOfRange(arrays[i], from * width, to * width);
    }
    return parts;
  }

  /// dq, dk and dv of a backend; z and lse are given as F32 arithmetic leaves them at best.
  float[][] backward(Workbench on, float[] dz, float[] z, float[] lse) {
    return backward(on, new float[][] {dz, q(), k(), v(), z, lse});
  }

  /// The same for other data: dz, q, k, v, z and lse.
  float[][] backward(Workbench on, float[][] in) {
    int headDim = dims.headDim();
    Tensor dq = on.garbage("dq", tokens(), dims.heads(), headDim);
    Tensor dk = on.garbage("dk", cache, dims.kvHeads(), headDim);
    Tensor dv = on.garbage("dv", cache, dims.kvHeads(), headDim);
    on.ops.attentionBackward(
        dq,
        dk,
        dv,
        on.f32("dz", in[0], tokens(), dims.heads(), headDim),
        on.f32("q", in[1], tokens(), dims.heads(), headDim),
        on.f32("k", in[2], cache, dims.kvHeads(), headDim),
        on.f32("v", in[3], cache, dims.kvHeads(), headDim),
        on.f32("z", in[4], tokens(), dims.heads(), headDim),
        on.f32("lse", in[5], tokens(), dims.heads()),
        layout,
        plan,
        spec);
    return new float[][] {on.floats(dq), on.floats(dk), on.floats(dv)};
  }

  static float[] rounded(double[] values) {
    float[] rounded = new float[values.length];
    for (int i = 0; i < rounded.length; i++) {
      rounded[i] = (float) values[i];
    }
    return rounded;
  }

  @Override
  public String toString() {
    return name;
  }
}
