package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import io.github.retmask.backend.AttentionCase;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.management.ManagementFactory;
import java.util.LinkedHashMap;
import java.util.Map;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;
import org.junit.jupiter.api.Test;

/// A vector that the compiler leaves in a box costs an allocation per operation, and some twenty times
/// the time. Whether it does depends on what the JVM ran before: here vectors of other widths, which
/// share profiles within the vector library, and products whose chains resume after others.
class BoxedVectorsTest {
  /// Bytes a call may allocate once it is compiled: tasks and views, no vectors. The least of the calls
  /// below has 2^17 multiply-adds of vectors, 10 MB if each leaves a box.
  private static final long MOST = 1 << 20;

  private static final int CALLS = 3000;

  /// Calls until no more than [#MOST] bytes are allocated in a call, or often.
  ///
  /// @return bytes of the last call
  private static long allocated(Runnable call) {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    long bytes = Long.MAX_VALUE;
    for (int i = 0; i < CALLS && bytes > MOST; i++) {
      long before = threads.getTotalThreadAllocatedBytes();
      call.run();
      bytes = threads.getTotalThreadAllocatedBytes() - before;
    }
    return bytes;
  }

  @Test
  void compiledKernelsAllocateNoVectors() {
    OtherVectors.run();
    AttentionCase c = AttentionCase.packed(4, 2, 64, 300).mixed(false);
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor few = arena.floats("few", 4, 1024);
      Tensor many = arena.floats("many", 192, 1024);
      Tensor longRows = arena.floats("longRows", 48, 4096);
      Tensor w = arena.floats("w", 512, 1024);
      Tensor longW = arena.floats("longW", 64, 4096);
      Tensor half = arena.allocate("half", DType.BF16, 512, 1024);
      Tensor ofFew = arena.floats("ofFew", 4, 512);
      Tensor ofMany = arena.floats("ofMany", 192, 512);
      Tensor ofLong = arena.floats("ofLong", 48, 64);
      Tensor dWeight = arena.floats("dWeight", 512, 1024);
      Tensor q = arena.floats("q", c.tokens(), 4, 64).copyFrom(c.q());
      Tensor k = arena.floats("k", c.tokens(), 2, 64).copyFrom(c.k());
      Tensor v = arena.floats("v", c.tokens(), 2, 64).copyFrom(c.v());
      Tensor z = arena.floats("z", c.tokens(), 4, 64);
      Tensor lse = arena.floats("lse", c.tokens(), 4);
      Tensor dq = arena.floats("dq", c.tokens(), 4, 64);
      Tensor dk = arena.floats("dk", c.tokens(), 2, 64);
      Tensor dv = arena.floats("dv", c.tokens(), 2, 64);
      Map<String, Runnable> calls = new LinkedHashMap<>();
      calls.put("product", () -> kernels.matmul(ofMany, many, w, null));
      calls.put("product of long rows", () -> kernels.matmul(ofLong, longRows, longW, null));
      calls.put("product of few rows", () -> kernels.matmul(ofFew, few, w, null));
      calls.put("product of few rows with BF16", () -> kernels.matmul(ofFew, few, half, null));
      calls.put(
          "gradient of a weight", () -> kernels.matmulBackwardWeight(dWeight, null, ofMany, many));
      calls.put(
          "attention",
          () -> kernels.attention(z, lse, q, k, v, c.layout(), c.plan(), c.spec(), null));
      calls.put(
          "gradients of attention",
          () ->
              kernels.attentionBackward(
                  dq, dk, dv, z, q, k, v, z, lse, c.layout(), c.plan(), c.spec()));
      // The second round finds what code compiled later has done to code compiled before.
      for (int round = 1; round <= 2; round++) {
        for (Map.Entry<String, Runnable> call : calls.entrySet()) {
          assertThat(allocated(call.getValue()))
              .as("bytes of a %s, round %d", call.getKey(), round)
              .isLessThanOrEqualTo(MOST);
        }
      }
    }
  }

  /// Vector code as others may have it in the same JVM. The class that has the tests may not name vectors
  /// in its methods: it is looked at in a JVM without their module.
  private static final class OtherVectors {

    private static float sum(VectorSpecies<Float> species, float[] x) {
      FloatVector sum = FloatVector.zero(species);
      for (int i = 0; i < x.length; i += species.length()) {
        FloatVector v = FloatVector.fromArray(species, x, i);
        sum = v.fma(v, sum).add(v).mul(v);
      }
      return sum.lane(0);
    }

    static void run() {
      float[] x = new float[4096];
      for (int i = 0; i < 3000; i++) {
        assertThat(sum(FloatVector.SPECIES_64, x) + sum(FloatVector.SPECIES_128, x)).isZero();
        assertThat(sum(FloatVector.SPECIES_256, x) + sum(FloatVector.SPECIES_512, x)).isZero();
      }
    }
  }
}
