package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

abstract class SwigluContract extends OpContract {
  /// Sixteen roundings cover exp (a few units in the last place), its sum, quotient and products;
  /// below 2^-126 sigmoid may underflow.
  private static final double BOUND = 16 * EPS;

  private static final String SOURCE = "16 roundings";

  SwigluContract(KernelsContract contract) {
    super(contract);
  }

  /// Normal values, with large ones of both signs among them.
  static float[] gates(int length) {
    float[] gates = normal(1, length);
    float[] large = {0f, -0f, 20, -20, 88, -87, 100, -104, 1000, -1000, -1.2784645f};
    for (int i = 0; i < length; i++) {
      gates[i] = i % 3 == 1 ? large[i / 3 % large.length] : gates[i] * 3;
    }
    return gates;
  }

  private static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
  }

  private static Tensor matrix(Workbench on, String name, float[] values) {
    return on.f32(name, values, 1, values.length);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3, 13, 15, 16, 17, 33, 207, 70_001})
  void isGateTimesItsSigmoidTimesUp(int length) {
    float[] gate = gates(length);
    float[] up = normal(2, length);
    double[] want = new double[length];
    double[] tolerance = new double[length];
    for (int i = 0; i < length; i++) {
      want[i] = gate[i] * sigmoid(gate[i]) * up[i];
      tolerance[i] =
          BOUND * Math.abs(want[i]) + Float.MIN_NORMAL * (1 + 2 * Math.abs(gate[i] * up[i]));
    }
    float[] got = forward(bench, gate, up)[0];
    TensorAssert.assertThat("swiglu out", got).isClose(want, tolerance, SOURCE);
    Tensor intoGate = matrix(bench, "gate", gate);
    bench.ops.swiglu(intoGate, intoGate, matrix(bench, "up", up));
    TensorAssert.assertThat("swiglu into gate", bench.floats(intoGate)).hasBits(got);
    Tensor intoUp = matrix(bench, "up", up);
    bench.ops.swiglu(intoUp, matrix(bench, "gate", gate), intoUp);
    TensorAssert.assertThat("swiglu into up", bench.floats(intoUp)).hasBits(got);
  }

  static float[][] forward(Workbench on, float[] gate, float[] up) {
    Tensor out = on.garbage("out", 1, gate.length);
    on.ops.swiglu(out, matrix(on, "gate", gate), matrix(on, "up", up));
    return new float[][] {on.floats(out)};
  }

  static float[][] backward(Workbench on, float[] dOut, float[] gate, float[] up) {
    Tensor dGate = on.garbage("dGate", 1, gate.length);
    Tensor dUp = on.garbage("dUp", 1, gate.length);
    on.ops.swigluBackward(
        dGate, dUp, matrix(on, "dOut", dOut), matrix(on, "gate", gate), matrix(on, "up", up));
    return new float[][] {on.floats(dGate), on.floats(dUp)};
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3, 13, 15, 16, 17, 33, 207, 70_001})
  void backwardIsTheGradientOfForward(int length) {
    float[] gate = gates(length);
    float[] up = normal(3, length);
    float[] dOut = normal(4, length);
    double[] dGate = new double[length];
    double[] dGateTolerance = new double[length];
    double[] dUp = new double[length];
    double[] dUpTolerance = new double[length];
    for (int i = 0; i < length; i++) {
      double s = sigmoid(gate[i]);
      int at = i;
      dGate[i] = gradient(new float[] {gate[i]}, g -> dOut[at] * up[at] * g[0] * sigmoid(g[0]))[0];
      dUp[i] = dOut[i] * gate[i] * s;
      double size = Math.abs(dOut[i] * up[i]) * (1 + Math.abs(gate[i]));
      dGateTolerance[i] = size * (BOUND * s + 1e-10) + Float.MIN_NORMAL * (1 + 2 * size);
      dUpTolerance[i] =
          BOUND * Math.abs(dUp[i]) + Float.MIN_NORMAL * (1 + 2 * Math.abs(dOut[i] * gate[i]));
    }
    float[][] got = backward(bench, dOut, gate, up);
    TensorAssert.assertThat("swiglu_backward dGate", got[0])
        .isClose(dGate, dGateTolerance, SOURCE + " and 1e-10 of the differences");
    TensorAssert.assertThat("swiglu_backward dUp", got[1]).isClose(dUp, dUpTolerance, SOURCE);
    Tensor dUpInPlace = matrix(bench, "dOut", dOut);
    Tensor dGateBeside = bench.garbage("dGate", 1, length);
    bench.ops.swigluBackward(
        dGateBeside, dUpInPlace, dUpInPlace, matrix(bench, "gate", gate), matrix(bench, "up", up));
    TensorAssert.assertThat("swiglu_backward dUp in place", bench.floats(dUpInPlace))
        .hasBits(got[1]);
    TensorAssert.assertThat("swiglu_backward dGate beside it", bench.floats(dGateBeside))
        .hasBits(got[0]);
  }

  @Test
  void isReproducible() {
    float[] gate = gates(1001);
    float[] up = normal(5, 1001);
    float[] dOut = normal(6, 1001);
    assertReproducible("swiglu", on -> forward(on, gate, up));
    assertReproducible("swiglu_backward", on -> backward(on, dOut, gate, up));
  }

  @Test
  void anElementDoesNotDependOnItsPlace() {
    float[] one = {-0.7f};
    float[] many = new float[37];
    Arrays.fill(many, -0.7f);
    float[] want = new float[37];
    Arrays.fill(want, forward(bench, one, one)[0][0]);
    TensorAssert.assertThat("swiglu out", forward(bench, many, many)[0]).hasBits(want);
  }

  @Test
  void carriesNan() {
    float[] gate = {Float.NaN, 1, 2};
    float[] up = {1, Float.NaN, 2};
    float[] got = forward(bench, gate, up)[0];
    TensorAssert.assertThat("swiglu out", got).hasBits(Float.NaN, Float.NaN, got[2]);
    if (!(got[2] > 3.5 && got[2] < 3.6)) { // 4 sigmoid(2) = 3.523
      throw new AssertionError("swiglu beside NaN: " + got[2]);
    }
  }
}
