package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.VectorElementwise.read;
import static io.github.retmask.kernels.cpu.VectorElementwise.write;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// AdamW with decoupled decay (Loshchilov and Hutter 2019), elementwise and in place. Limited by
/// memory: 28 bytes per parameter.
final class VectorAdamW {
  private VectorAdamW() {}

  static void adamW(
      WorkerPool pool, Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    MemorySegment params = param.segment();
    MemorySegment grads = grad.segment();
    MemorySegment firsts = m.segment();
    MemorySegment seconds = v.segment();
    Factors factors = Factors.of(step);
    VectorElementwise.stretches(
        pool,
        param.size(),
        (from, count, scratch) -> {
          float[] p = read(scratch, 0, params, from, count);
          float[] g = read(scratch, 1, grads, from, count);
          float[] m1 = read(scratch, 2, firsts, from, count);
          float[] m2 = read(scratch, 3, seconds, from, count);
          update(p, g, m1, m2, count, factors);
          write(params, from, p, count);
          write(firsts, from, m1, count);
          write(seconds, from, m2, count);
        });
  }

  /// The scalars of a step, combined in double and rounded once.
  ///
  /// @param scale factor on the gradient
  /// @param keep1 beta1
  /// @param take1 1 - beta1
  /// @param keep2 beta2
  /// @param take2 1 - beta2
  /// @param keepParam 1 - lr decay
  /// @param rate lr / (1 - beta1^t)
  /// @param correction 1 - beta2^t
  /// @param eps added to the root
  private record Factors(
      float scale,
      float keep1,
      float take1,
      float keep2,
      float take2,
      float keepParam,
      float rate,
      float correction,
      float eps) {

    static Factors of(AdamWStep s) {
      return new Factors(
          (float) s.gradScale(),
          (float) s.beta1(),
          (float) (1 - s.beta1()),
          (float) s.beta2(),
          (float) (1 - s.beta2()),
          (float) (1 - s.learningRate() * s.weightDecay()),
          (float) (s.learningRate() / (1 - StrictMath.pow(s.beta1(), s.step()))),
          (float) (1 - StrictMath.pow(s.beta2(), s.step())),
          (float) s.eps());
    }
  }

  private static void update(
      float[] param, float[] grad, float[] m, float[] v, int count, Factors f) {
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector g = FloatVector.fromArray(FLOAT, grad, i).mul(f.scale);
      FloatVector m1 = FloatVector.fromArray(FLOAT, m, i).mul(f.keep1).add(g.mul(f.take1));
      FloatVector v1 = FloatVector.fromArray(FLOAT, v, i).mul(f.keep2).add(g.mul(f.take2).mul(g));
      FloatVector root = v1.div(f.correction).sqrt().add(f.eps);
      m1.intoArray(m, i);
      v1.intoArray(v, i);
      FloatVector.fromArray(FLOAT, param, i)
          .mul(f.keepParam)
          .sub(m1.mul(f.rate).div(root))
          .intoArray(param, i);
    }
  }
}
