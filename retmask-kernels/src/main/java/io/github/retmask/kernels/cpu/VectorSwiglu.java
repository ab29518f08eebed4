package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// `out = gate sigmoid(gate) up` (Shazeer 2020), elementwise. Limited by memory and exp.
final class VectorSwiglu {
  private VectorSwiglu() {}

  static void swiglu(WorkerPool pool, Tensor out, Tensor gate, Tensor up) {
    MemorySegment to = out.segment();
    MemorySegment g = gate.segment();
    MemorySegment u = up.segment();
    VectorElementwise.stretches(
        pool, out.size(), (from, count) -> swiglu(to, g, u, 4 * from, count));
  }

  private static void swiglu(
      MemorySegment out, MemorySegment gate, MemorySegment up, long at, int count) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      FloatVector g = Lanes.load(gate, at + i * 4L);
      FloatVector u = Lanes.load(up, at + i * 4L);
      g.mul(sigmoid(g)).mul(u).intoMemorySegment(out, at + i * 4L, LE);
    }
    for (; i < count; i++) {
      float g = Lanes.get(gate, at + i * 4L);
      float u = Lanes.get(up, at + i * 4L);
      Lanes.set(out, at + i * 4L, g * sigmoid(g) * u);
    }
  }

  /// With `s = sigmoid(gate)`: `dUp = dOut gate s`, `dGate = dOut up s (1 + gate (1 - s))`.
  static void backward(
      WorkerPool pool, Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    MemorySegment dg = dGate.segment();
    MemorySegment du = dUp.segment();
    MemorySegment d = dOut.segment();
    MemorySegment g = gate.segment();
    MemorySegment u = up.segment();
    VectorElementwise.stretches(
        pool, dOut.size(), (from, count) -> backward(dg, du, d, g, u, 4 * from, count));
  }

  private static void backward(
      MemorySegment dGate,
      MemorySegment dUp,
      MemorySegment dOut,
      MemorySegment gate,
      MemorySegment up,
      long at,
      int count) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      FloatVector d = Lanes.load(dOut, at + i * 4L);
      FloatVector g = Lanes.load(gate, at + i * 4L);
      FloatVector u = Lanes.load(up, at + i * 4L);
      FloatVector s = sigmoid(g);
      FloatVector slope = FloatVector.broadcast(FLOAT, 1f).sub(s).mul(g).add(1f).mul(s);
      d.mul(g.mul(s)).intoMemorySegment(dUp, at + i * 4L, LE);
      d.mul(u).mul(slope).intoMemorySegment(dGate, at + i * 4L, LE);
    }
    for (; i < count; i++) {
      float d = Lanes.get(dOut, at + i * 4L);
      float g = Lanes.get(gate, at + i * 4L);
      float u = Lanes.get(up, at + i * 4L);
      float s = sigmoid(g);
      float slope = ((1f - s) * g + 1f) * s;
      Lanes.set(dUp, at + i * 4L, d * (g * s));
      Lanes.set(dGate, at + i * 4L, d * u * slope);
    }
  }

  private static FloatVector sigmoid(FloatVector x) {
    return FloatVector.broadcast(FLOAT, 1f).div(Lanes.exp(x.neg()).add(1f));
  }

  private static float sigmoid(float x) {
    return 1f / (Lanes.exp(-x) + 1f);
  }
}
