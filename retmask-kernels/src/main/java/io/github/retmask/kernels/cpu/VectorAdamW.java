package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

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
    MemorySegment p = param.segment();
    MemorySegment g = grad.segment();
    MemorySegment first = m.segment();
    MemorySegment second = v.segment();
    Factors factors = Factors.of(step);
    VectorElementwise.stretches(
        pool, param.size(), (from, count) -> update(p, g, first, second, 4 * from, count, factors));
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
      MemorySegment param,
      MemorySegment grad,
      MemorySegment m,
      MemorySegment v,
      long at,
      int count,
      Factors f) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      long o = at + i * 4L;
      FloatVector g = Lanes.load(grad, o).mul(f.scale);
      FloatVector m1 = Lanes.load(m, o).mul(f.keep1).add(g.mul(f.take1));
      FloatVector v1 = Lanes.load(v, o).mul(f.keep2).add(g.mul(f.take2).mul(g));
      FloatVector root = v1.div(f.correction).sqrt().add(f.eps);
      m1.intoMemorySegment(m, o, LE);
      v1.intoMemorySegment(v, o, LE);
      Lanes.load(param, o)
          .mul(f.keepParam)
          .sub(m1.mul(f.rate).div(root))
          .intoMemorySegment(param, o, LE);
    }
    for (; i < count; i++) {
      long o = at + i * 4L;
      float g = Lanes.get(grad, o) * f.scale;
      float m1 = Lanes.get(m, o) * f.keep1 + g * f.take1;
      float v1 = Lanes.get(v, o) * f.keep2 + g * f.take2 * g;
      float root = (float) Math.sqrt(v1 / f.correction) + f.eps;
      Lanes.set(m, o, m1);
      Lanes.set(v, o, v1);
      Lanes.set(param, o, Lanes.get(param, o) * f.keepParam - m1 * f.rate / root);
    }
  }
}
