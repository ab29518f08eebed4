package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.VectorElementwise.read;
import static io.github.retmask.kernels.cpu.VectorElementwise.write;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// `out = gate sigmoid(gate) up` (Shazeer 2020), elementwise. Limited by memory and exp.
final class VectorSwiglu {
  private VectorSwiglu() {}

  static void swiglu(WorkerPool pool, Tensor out, Tensor gate, Tensor up) {
    MemorySegment to = out.segment();
    MemorySegment gates = gate.segment();
    MemorySegment ups = up.segment();
    VectorElementwise.stretches(
        pool,
        out.size(),
        (from, count, scratch) -> {
          float[] g = read(scratch, 0, gates, from, count);
          float[] u = read(scratch, 1, ups, from, count);
          float[] e = scratch.floats(2, VectorElementwise.STRETCH);
          Exp.exp(e, 0, g, 0, count, -1f, 0f);
          swiglu(g, u, e, count);
          write(to, from, g, count);
        });
  }

  /// The result replaces `gate`; `e` is exp(-gate).
  private static void swiglu(float[] gate, float[] up, float[] e, int count) {
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector g = FloatVector.fromArray(FLOAT, gate, i);
      FloatVector u = FloatVector.fromArray(FLOAT, up, i);
      FloatVector s = one.div(FloatVector.fromArray(FLOAT, e, i).add(1f));
      g.mul(s).mul(u).intoArray(gate, i);
    }
  }

  /// With `s = sigmoid(gate)`: `dUp = dOut gate s`, `dGate = dOut up s (1 + gate (1 - s))`.
  static void backward(
      WorkerPool pool, Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    MemorySegment dGates = dGate.segment();
    MemorySegment dUps = dUp.segment();
    MemorySegment dOuts = dOut.segment();
    MemorySegment gates = gate.segment();
    MemorySegment ups = up.segment();
    VectorElementwise.stretches(
        pool,
        dOut.size(),
        (from, count, scratch) -> {
          float[] d = read(scratch, 0, dOuts, from, count);
          float[] g = read(scratch, 1, gates, from, count);
          float[] u = read(scratch, 2, ups, from, count);
          float[] e = scratch.floats(3, VectorElementwise.STRETCH);
          Exp.exp(e, 0, g, 0, count, -1f, 0f);
          backward(d, g, u, e, count);
          write(dUps, from, d, count);
          write(dGates, from, g, count);
        });
  }

  /// dUp replaces `dOut`, dGate replaces `gate`; `e` is exp(-gate).
  private static void backward(float[] dOut, float[] gate, float[] up, float[] e, int count) {
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector d = FloatVector.fromArray(FLOAT, dOut, i);
      FloatVector g = FloatVector.fromArray(FLOAT, gate, i);
      FloatVector u = FloatVector.fromArray(FLOAT, up, i);
      FloatVector s = one.div(FloatVector.fromArray(FLOAT, e, i).add(1f));
      FloatVector slope = one.sub(s).mul(g).add(1f).mul(s);
      d.mul(g.mul(s)).intoArray(dOut, i);
      d.mul(u).mul(slope).intoArray(gate, i);
    }
  }
}
