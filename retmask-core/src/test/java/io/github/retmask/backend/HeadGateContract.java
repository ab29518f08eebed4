package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

abstract class HeadGateContract extends OpContract {

  HeadGateContract(KernelsContract contract) {
    super(contract);
  }

  private static final int[] LENGTHS = {3, 1, 13};
  private static final BatchLayout LAYOUT = BatchLayout.packed(LENGTHS);
  private static final int TOKENS = 17;
  private static final int HEADS = 8;

  /// Gates 0, 1, 0.3 and more in every row.
  static HeadPlan plan(int headDim, boolean keep) {
    DenseAttention.Dims dims = new DenseAttention.Dims(HEADS, 2, headDim);
    return HeadPlan.of(
        List.of(
            AttentionCase.mixedMask(dims, 0),
            AttentionCase.mixedMask(dims, 1),
            AttentionCase.mixedMask(dims, 2).withGate(List.of(new HeadId(0, 0)), -2.5f)),
        0,
        headDim,
        keep);
  }

  private static float[] gated(Workbench on, float[] z, int headDim, HeadPlan plan, boolean alias) {
    Tensor in = on.f32("z", z, TOKENS, HEADS, headDim);
    Tensor out = alias ? in : on.garbage("out", TOKENS, HEADS, headDim);
    on.ops.headGate(out, in, LAYOUT, plan);
    return on.floats(out);
  }

  private static float[] scaled(float[] z, int headDim, HeadPlan plan) {
    float[] want = new float[z.length];
    for (int i = 0; i < z.length; i++) {
      int n = i / headDim / HEADS;
      float gate = plan.gate(n < 3 ? 0 : n < 4 ? 1 : 2, i / headDim % HEADS);
      want[i] = gate == 0 ? 0f : gate * z[i];
    }
    return want;
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 12, 15, 16, 17, 64})
  void scalesEveryHeadOfEveryRowByItsGate(int headDim) {
    float[] z = normal(1, TOKENS * HEADS * headDim);
    z[5] = -0f;
    for (boolean keep : new boolean[] {false, true}) {
      HeadPlan plan = plan(headDim, keep);
      for (boolean alias : new boolean[] {false, true}) {
        TensorAssert.assertThat(
                "head_gate out", gated(bench, z, headDim, plan, alias), TOKENS, HEADS, headDim)
            .hasBits(scaled(z, headDim, plan));
      }
    }
  }

  @Test
  void aGateOfZeroWritesZeroWhateverZIs() {
    HeadPlan plan = plan(12, true);
    float[] z = new float[TOKENS * HEADS * 12];
    Arrays.fill(z, Float.NaN);
    Arrays.fill(z, z.length / 2, z.length, Float.NEGATIVE_INFINITY);
    TensorAssert.assertThat("head_gate out", gated(bench, z, 12, plan, false), TOKENS, HEADS, 12)
        .hasBits(scaled(z, 12, plan));
  }

  @Test
  void theNeutralPlanCopies() {
    float[] z = normal(2, TOKENS * HEADS * 12);
    z[3] = Float.NaN;
    z[4] = -0f;
    TensorAssert.assertThat("head_gate", gated(bench, z, 12, HeadPlan.neutral(3, HEADS), false))
        .hasBits(z);
    HeadPlan ones = HeadPlan.of(Collections.nCopies(3, HeadMask.none(1, HEADS)), 0, 12, false);
    TensorAssert.assertThat("head_gate", gated(bench, z, 12, ones, true)).hasBits(z);
  }

  static float[][] backward(
      Workbench on, float[] dOut, float[] z, int headDim, HeadPlan plan, boolean alias) {
    Tensor d = on.f32("dOut", dOut, TOKENS, HEADS, headDim);
    Tensor dz = alias ? d : on.garbage("dz", TOKENS, HEADS, headDim);
    Tensor dGates = on.filled("dGates", 0.25f, 3, HEADS);
    on.ops.headGateBackward(dz, dGates, d, on.f32("z", z, TOKENS, HEADS, headDim), LAYOUT, plan);
    return new float[][] {on.floats(dz), on.floats(dGates)};
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 12, 15, 16, 17, 64})
  void backwardScalesDzAndSumsTheGatesGradient(int headDim) {
    float[] z = normal(3, TOKENS * HEADS * headDim);
    float[] dOut = normal(4, z.length);
    HeadPlan plan = plan(headDim, true);
    double[] dGates = new double[3 * HEADS];
    double[] tolerance = new double[dGates.length];
    Arrays.fill(dGates, 0.25);
    for (int i = 0; i < z.length; i++) {
      int n = i / headDim / HEADS;
      int row = n < 3 ? 0 : n < 4 ? 1 : 2;
      int cell = row * HEADS + i / headDim % HEADS;
      double bound = (LENGTHS[row] * headDim + 2) * EPS;
      dGates[cell] += (double) dOut[i] * z[i];
      tolerance[cell] += bound * (Math.abs((double) dOut[i] * z[i]) + 0.25);
    }
    for (boolean alias : new boolean[] {false, true}) {
      float[][] got = backward(bench, dOut, z, headDim, plan, alias);
      TensorAssert.assertThat("head_gate_backward dz", got[0], TOKENS, HEADS, headDim)
          .hasBits(scaled(dOut, headDim, plan));
      TensorAssert.assertThat("head_gate_backward dGates", got[1], 3, HEADS)
          .isClose(dGates, tolerance, "rounding of an F32 sum of products");
    }
  }

  @Test
  void backwardWithoutGateGradient() {
    float[] z = normal(5, TOKENS * HEADS * 12);
    float[] dOut = normal(6, z.length);
    dOut[12] = Float.NaN; // head 1 of row 0 is off
    HeadPlan plan = plan(12, false);
    Tensor dz = bench.garbage("dz", TOKENS, HEADS, 12);
    bench.ops.headGateBackward(
        dz,
        null,
        bench.f32("dOut", dOut, TOKENS, HEADS, 12),
        bench.f32("z", z, TOKENS, HEADS, 12),
        LAYOUT,
        plan);
    TensorAssert.assertThat("head_gate_backward dz", bench.floats(dz), TOKENS, HEADS, 12)
        .hasBits(scaled(dOut, 12, plan));
  }

  @Test
  void theGateGradientOfARowIsTheSameAlone() {
    float[] z = normal(9, TOKENS * HEADS * 17);
    float[] dOut = normal(10, z.length);
    HeadPlan plan = plan(17, true);
    float[] all = backward(bench, dOut, z, 17, plan, false)[1];
    int from = 4; // row 2: the last 13 tokens
    Tensor dGates = bench.filled("dGates", 0.25f, 1, HEADS);
    bench.ops.headGateBackward(
        bench.garbage("dz", 13, HEADS, 17),
        dGates,
        bench.f32("dOut", dOut, TOKENS, HEADS, 17).slice(from, TOKENS),
        bench.f32("z", z, TOKENS, HEADS, 17).slice(from, TOKENS),
        BatchLayout.packed(13),
        HeadPlan.neutral(1, HEADS));
    TensorAssert.assertThat("head_gate_backward dGates of row 2", bench.floats(dGates))
        .hasBits(Arrays.copyOfRange(all, 2 * HEADS, 3 * HEADS));
  }

  @Test
  void isReproducible() {
    float[] z = normal(7, TOKENS * HEADS * 17);
    float[] dOut = normal(8, z.length);
    HeadPlan plan = plan(17, true);
    assertReproducible("head_gate", on -> new float[][] {gated(on, z, 17, plan, false)});
    assertReproducible("head_gate_backward", on -> backward(on, dOut, z, 17, plan, false));
  }
}
