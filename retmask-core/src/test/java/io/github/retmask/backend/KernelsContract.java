package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// What every backend must do. A backend's test extends this class and opens the backend; the ops
/// are tested by one nested class each.
public abstract class KernelsContract {

  protected KernelsContract() {}

  /// Opens the backend under test.
  protected abstract Kernels open(int threads);

  /// Copies a host tensor into new memory of the backend.
  static Tensor upload(TensorArena arena, Tensor host) {
    return arena.allocate(host.name(), host.dtype(), host.shape().dims()).copyFrom(host);
  }

  /// The same elements in host memory.
  static Tensor download(Tensor tensor) {
    return tensor.toHost();
  }

  @Test
  void namesItselfAndItsThreads() {
    try (Kernels kernels = open(1)) {
      assertThat(kernels.name()).isNotBlank();
      assertThat(kernels.threads()).isEqualTo(1);
    }
  }

  @Test
  void tensorsOutliveTheKernelsThatAllocatedThem() {
    Kernels kernels = open(2);
    try (TensorArena arena = kernels.arena(TensorArena.Lifetime.MODEL)) {
      Tensor out = arena.floats("out", 3);
      kernels.add(out, arena.floats("a", 3), arena.floats("b", 3));
      kernels.close();
      assertThat(download(out).toFloats()).containsExactly(0, 0, 0);
    }
  }

  /// Whether [Backends] finds this backend by name in a fresh JVM; a test double says no.
  protected boolean isFoundByName() {
    return true;
  }

  /// JVM options under which a fresh JVM finds this backend.
  protected List<String> freshJvmOptions() {
    return List.of();
  }

  /// A line per op with a hash of what it computed.
  protected final List<String> bits() {
    try (Workbench bench = new Workbench(this, 2)) {
      return OpBits.of(bench);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"-Xint", "-XX:TieredStopAtLevel=1"})
  void coldAndCompiledCodeGiveTheSameBits(String mode) throws Exception {
    assumeTrue(isFoundByName(), "skipped: this backend is a test double that no JVM finds by name");
    try (Workbench bench = new Workbench(this, 2)) {
      OpBits.of(bench); // now some of it is compiled
      List<String> options = new ArrayList<>(freshJvmOptions());
      options.add(mode);
      assertThat(OpBits.inFreshJvm(bench.ops.backend(), options.toArray(String[]::new)))
          .isEqualTo(OpBits.of(bench));
    }
  }

  @Nested
  class Rows extends RowsContract {
    Rows() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class RmsNorm extends RmsNormContract {
    RmsNorm() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class Matmul extends MatmulContract {
    Matmul() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class BlockWeights extends BlockWeightsContract {
    BlockWeights() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class Rope extends RopeContract {
    Rope() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class NormRope extends NormRopeContract {
    NormRope() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class Attention extends AttentionContract {
    Attention() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class AttentionRead extends AttentionReadoutContract {
    AttentionRead() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class AttentionBackward extends AttentionBackwardContract {
    AttentionBackward() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class HeadGate extends HeadGateContract {
    HeadGate() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class Swiglu extends SwigluContract {
    Swiglu() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class TokenLogProbs extends TokenLogProbsContract {
    TokenLogProbs() {
      super(KernelsContract.this);
    }
  }

  @Nested
  class AdamW extends AdamWContract {
    AdamW() {
      super(KernelsContract.this);
    }
  }
}
