package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.exactIn;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class NormRopeContract extends OpContract {
  private static final float NORM_EPS = 1e-6f;
  private static final int POSITIONS = 50; // of the tables
  private static final int KEYS = 90; // of the cache

  NormRopeContract(KernelsContract contract) {
    super(contract);
  }

  /// What is normalised together.
  enum Norm {
    NONE,
    PER_HEAD,
    WHOLE
  }

  /// @param rotated R, elements that turn
  /// @param cached whether keys and values go to a cache
  record Case(
      int tokens, int heads, int headDim, int rotated, Norm norm, DType dtype, boolean cached) {
    int size() {
      return tokens * heads * headDim;
    }

    int width() {
      return norm == Norm.WHOLE ? heads * headDim : headDim;
    }

    /// Tables by any row, with a factor, as YaRN's have one.
    float[] table(boolean cosine) {
      float[] table = new float[POSITIONS * rotated / 2];
      for (int i = 0; i < table.length; i++) {
        table[i] = (float) (1.3 * (cosine ? Math.cos(i) : Math.sin(i)));
      }
      return table;
    }

    int[] positions() {
      int[] positions = new int[tokens];
      Arrays.setAll(positions, n -> (7 * n + 3) % POSITIONS);
      return positions;
    }

    /// Distinct, in no order.
    int[] cacheRows() {
      int[] rows = new int[tokens];
      Arrays.setAll(rows, n -> (37 * n + 11) % KEYS);
      return rows;
    }
  }

  static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    for (boolean cached : new boolean[] {false, true}) {
      for (Norm norm : Norm.values()) {
        cases.add(new Case(1, 1, 2, 2, norm, DType.F32, cached));
        cases.add(new Case(1, 8, 128, 128, norm, DType.F32, cached));
        cases.add(new Case(5, 3, 17, 16, norm, DType.BF16, cached));
        cases.add(new Case(13, 6, 12, 6, norm, DType.F16, cached));
        cases.add(new Case(7, 2, 34, 34, norm, DType.F32, cached));
        cases.add(new Case(67, 5, 64, 16, norm, DType.BF16, cached));
        cases.add(new Case(3, 9, 96, 90, norm, DType.F32, cached));
      }
    }
    return cases;
  }

  /// Queries or keys, statistics, and all of the cache, by one op.
  static float[][] atOnce(Workbench on, Case c) {
    return compute(
        on,
        c,
        (out, rstd, x, norm, cos, sin, positions, v, cache) ->
            on.ops.normRope(out, rstd, x, norm, NORM_EPS, cos, sin, positions, v, cache));
  }

  /// The same one after the other.
  private static float[][] oneByOne(Workbench on, Case c) {
    return compute(
        on,
        c,
        (out, rstd, x, norm, cos, sin, positions, v, cache) -> {
          Tensor normed = x;
          if (norm != null && rstd != null) {
            normed = out;
            Tensor flat = out.view(rstd.size(), c.width());
            on.ops.rmsNorm(flat, rstd, x.view(rstd.size(), c.width()), norm, NORM_EPS);
          }
          on.ops.rope(out, normed, cos, sin, positions);
          if (cache != null && v != null) {
            on.ops.scatterRows(cache.keys(), out, cache.rows());
            on.ops.scatterRows(cache.values(), v, cache.rows());
          }
        });
  }

  private interface Op {
    void run(
        Tensor out,
        @Nullable Tensor rstd,
        Tensor x,
        @Nullable Tensor norm,
        Tensor cos,
        Tensor sin,
        Tensor positions,
        @Nullable Tensor v,
        @Nullable CacheLines cache);
  }

  private static float[][] compute(Workbench on, Case c, Op op) {
    Tensor out = on.garbage("out", c.tokens(), c.heads(), c.headDim());
    Tensor x = on.f32("x", normal(1, c.size()), c.tokens(), c.heads(), c.headDim());
    Tensor rstd = null;
    Tensor norm = null;
    if (c.norm() != Norm.NONE) {
      rstd = on.garbage("rstd", c.size() / c.width());
      float[] weight = exactIn(c.dtype(), normal(2, c.width()));
      norm = on.weight("norm", c.dtype(), weight, c.width());
    }
    Tensor v = null;
    CacheLines cache = null;
    if (c.cached()) {
      v = on.f32("v", normal(3, c.size()), c.tokens(), c.heads(), c.headDim());
      cache =
          new CacheLines(
              on.filled("keys", 5, KEYS, c.heads(), c.headDim()),
              on.filled("values", 6, KEYS, c.heads(), c.headDim()),
              on.ints("rows", c.cacheRows()));
    }
    Tensor cos = on.f32("cos", c.table(true), POSITIONS, c.rotated() / 2);
    Tensor sin = on.f32("sin", c.table(false), POSITIONS, c.rotated() / 2);
    op.run(out, rstd, x, norm, cos, sin, on.ints("positions", c.positions()), v, cache);
    List<float[]> outputs = new ArrayList<>(List.of(on.floats(out), on.floats(x)));
    if (rstd != null) {
      outputs.add(on.floats(rstd));
    }
    if (cache != null) {
      outputs.add(on.floats(cache.keys()));
      outputs.add(on.floats(cache.values()));
    }
    return outputs.toArray(float[][]::new);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void hasTheBitsOfItsPartsOneAfterTheOther(Case c) {
    assertSameBits("norm_rope of " + c, atOnce(bench, c), oneByOne(bench, c));
  }

  @Test
  void worksInPlaceWithoutNorm() {
    Case c = new Case(5, 3, 24, 16, Norm.NONE, DType.F32, true);
    float[][] want = atOnce(bench, c);
    float[][] got =
        compute(
            bench,
            c,
            (out, rstd, x, norm, cos, sin, positions, v, cache) ->
                bench.ops.normRope(x, rstd, x, norm, NORM_EPS, cos, sin, positions, v, cache));
    TensorAssert.assertThat("x", got[1]).hasBits(want[0]);
    TensorAssert.assertThat("keys", got[2]).hasBits(want[2]);
    TensorAssert.assertThat("values", got[3]).hasBits(want[3]);
  }

  @Test
  void isReproducible() {
    Case c = new Case(50, 6, 34, 34, Norm.PER_HEAD, DType.F32, true);
    assertReproducible("norm_rope", on -> atOnce(on, c));
  }
}
