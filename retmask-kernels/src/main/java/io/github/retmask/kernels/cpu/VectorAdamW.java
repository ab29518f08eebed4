package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.VectorElementwise.read;
import static io.github.retmask.kernels.cpu.VectorElementwise.write;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

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

  /// C2 turns this loop into vectors.
  private static void update(
      float[] param, float[] grad, float[] m, float[] v, int count, Factors f) {
    for (int i = 0; i < count; i++) {
      float g = grad[i] * f.scale;
      float m1 = m[i] * f.keep1 + g * f.take1;
      float v1 = v[i] * f.keep2 + g * f.take2 * g;
      float root = (float) Math.sqrt(v1 / f.correction) + f.eps;
      m[i] = m1;
      v[i] = v1;
      param[i] = param[i] * f.keepParam - m1 * f.rate / root;
    }
  }
}
