package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import io.github.retmask.backend.AttentionCase;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.IntStream;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A vector that the compiler leaves in a box costs an allocation per operation, and some twenty times
/// the time. Whether it does depends on what the JVM ran before: here vectors of another width, which
/// share profiles within the vector library, products whose chains resume after others, and weights of
/// another type, for which code that both share is compiled again before the new kernel has run much.
class BoxedVectorsTest {

  @Test
  void compiledKernelsAllocateNoVectors() throws Exception {
    assertThatRuns(Program.class);
  }

  @ParameterizedTest
  @ValueSource(strings = {"F32 BF16 F16 Q8_0 Q4_0", "BF16 F32 Q4_0 Q8_0", "Q8_0 F16 F32 BF16 Q4_0"})
  void norDoKernelsOfTypesThatFollowEachOther(String types) throws Exception {
    assertThatRuns(TypesInTurn.class, "-Dtypes=" + types);
  }

  private static void assertThatRuns(Class<?> program, String... options) throws Exception {
    Process process = FreshJvm.start(program, options);
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as(out).isZero();
  }

  /// Bytes a call may allocate. The least of the calls below has 2^16 multiply-adds of the longest
  /// vectors, 6 MB if each leaves a box, 0.8 MB if one in eight does; the others have twice that and
  /// more. Lists of tasks, read-outs and short loops outside of the long ones take up to 0.24 MB at
  /// first, which falls as more is compiled.
  private static final long MOST = 1 << 18;

  private static final int CALLS = 3000;

  private static void assertNoVectorsAllocated(String what, Runnable call) {
    assertThat(allocated(call)).as("bytes of a call: %s", what).isLessThanOrEqualTo(MOST);
  }

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

  /// Products of one row, and of two, with weights of one type after the other.
  private static final class TypesInTurn {
    static void main(String[] args) {
      String[] types = System.getProperty("types").split(" ");
      try (Kernels kernels = new VectorKernels(2);
          TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
        for (int rows = 1; rows <= 2; rows++) {
          Tensor x = arena.floats("x", rows, 1024);
          Tensor out = arena.floats("out", rows, 8192);
          for (String type : types) {
            Tensor stored = arena.allocate("w", DType.valueOf(type), 8192, 1024);
            Tensor w = kernels.place(stored, arena);
            Runnable product = () -> kernels.matmul(out, x, w, null);
            for (int i = 0; i < 500; i++) { // until what the types share is compiled
              product.run();
            }
            assertNoVectorsAllocated(rows + " rows with " + type, product);
          }
        }
      }
    }
  }

  /// What runs in a JVM of its own.
  private static final class Program {
    static void main(String[] args) {
      VectorSpecies<Float> other =
          VectorSpecies.of(float.class, VectorShape.forBitSize(Lanes.WIDTH == 16 ? 256 : 128));
      float[] x = new float[4096];
      for (int i = 0; i < 3000; i++) {
        assertThat(sum(other, x)).isZero();
      }
      AttentionCase whole = AttentionCase.packed(4, 2, 64, 300).mixed(false);
      AttentionCase narrow = AttentionCase.packed(8, 4, 16, 96, 96, 96, 96, 96, 96, 96, 96);
      AttentionCase step =
          AttentionCase.packed(4, 2, 64, 1, 1)
              .mixed(false)
              .cached(new int[] {3999, 3999}, new int[] {0, 4000}, 8000);
      AttentionCase odd =
          AttentionCase.packed(4, 2, 72, 1, 1)
              .mixed(false)
              .cached(new int[] {3999, 3999}, new int[] {0, 4000}, 8000);
      try (Kernels kernels = new VectorKernels(2);
          TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
        Map<String, Runnable> calls = new LinkedHashMap<>();
        addProducts(calls, kernels, arena);
        addAttention(calls, "attention", whole, true, kernels, arena);
        addAttention(calls, "attention of narrow heads", narrow, true, kernels, arena);
        addAttention(calls, "attention of a step", step, false, kernels, arena);
        addAttention(calls, "attention of a step, D 72", odd, false, kernels, arena);
        // The second round finds what code compiled later has done to code compiled before.
        for (int round = 1; round <= 2; round++) {
          for (Map.Entry<String, Runnable> call : calls.entrySet()) {
            assertNoVectorsAllocated(call.getKey() + ", round " + round, call.getValue());
          }
        }
      }
    }

    /// Vector code as others may have it in the same JVM.
    private static float sum(VectorSpecies<Float> species, float[] x) {
      FloatVector sum = FloatVector.zero(species);
      for (int i = 0; i < x.length; i += species.length()) {
        FloatVector v = FloatVector.fromArray(species, x, i);
        sum = v.fma(v, sum).add(v).mul(v);
      }
      return sum.lane(0);
    }

    private static void addProducts(
        Map<String, Runnable> calls, Kernels kernels, TensorArena arena) {
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
      calls.put("product", () -> kernels.matmul(ofMany, many, w, null));
      calls.put("product of long rows", () -> kernels.matmul(ofLong, longRows, longW, null));
      calls.put("product of few rows", () -> kernels.matmul(ofFew, few, w, null));
      calls.put("product of few rows with BF16", () -> kernels.matmul(ofFew, few, half, null));
      Tensor rows = w.slice(0, 16);
      Tensor fewOutputs = arena.floats("fewOutputs", 192, 16);
      calls.put("product of few outputs", () -> kernels.matmul(fewOutputs, many, rows, null));
      for (DType type : new DType[] {DType.Q8_0, DType.Q4_0}) {
        Tensor blocks = kernels.place(arena.allocate("blocks", type, 512, 1024), arena);
        calls.put(
            "product of few rows with " + type, () -> kernels.matmul(ofFew, few, blocks, null));
      }
      calls.put(
          "gradient of a weight", () -> kernels.matmulBackwardWeight(dWeight, null, ofMany, many));
    }

    private static void addAttention(
        Map<String, Runnable> calls,
        String what,
        AttentionCase c,
        boolean withGradients,
        Kernels kernels,
        TensorArena arena) {
      int heads = c.dims().heads();
      long[] narrow = {c.cache(), c.dims().kvHeads(), c.dims().headDim()};
      long[] wide = {c.tokens(), heads, c.dims().headDim()};
      Tensor q = arena.floats("q", wide).copyFrom(c.q());
      Tensor k = arena.floats("k", narrow).copyFrom(c.k());
      Tensor v = arena.floats("v", narrow).copyFrom(c.v());
      Tensor z = arena.floats("z", wide);
      Tensor lse = arena.floats("lse", c.tokens(), heads);
      calls.put(
          what, () -> kernels.attention(z, lse, q, k, v, c.layout(), c.plan(), c.spec(), null));
      int[] queries = IntStream.range(0, c.tokens()).toArray();
      int[][][] spans = new int[c.tokens()][][];
      Arrays.setAll(spans, i -> new int[][] {{0, i / 2}, {i / 4, i + 1}});
      AttentionReadout readout = AttentionReadout.of(arena, heads, queries, spans);
      calls.put(
          "read-outs of " + what,
          () -> kernels.attention(z, lse, q, k, v, c.layout(), c.plan(), c.spec(), readout));
      if (withGradients) {
        Tensor dq = arena.floats("dq", wide);
        Tensor dk = arena.floats("dk", narrow);
        Tensor dv = arena.floats("dv", narrow);
        calls.put(
            "gradients of " + what,
            () ->
                kernels.attentionBackward(
                    dq, dk, dv, z, q, k, v, z, lse, c.layout(), c.plan(), c.spec()));
      }
    }
  }
}
