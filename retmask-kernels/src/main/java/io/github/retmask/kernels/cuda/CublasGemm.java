package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jcuda.Pointer;
import jcuda.cudaDataType;
import jcuda.driver.CUstream;
import jcuda.jcublas.JCublas2;
import jcuda.jcublas.cublasComputeType;
import jcuda.jcublas.cublasGemmAlgo;
import jcuda.jcublas.cublasHandle;
import jcuda.jcublas.cublasOperation;
import jcuda.jcublas.cublasPointerMode;
import jcuda.jcublas.cublasStatus;
import jcuda.runtime.cudaStream_t;
import org.jspecify.annotations.Nullable;

/// [Gemm] by cuBLAS, through JCuda. cuBLAS is column-major: it sees every row-major matrix transposed,
/// so `C = A B` is asked for as `C^T = B^T A^T`.
final class CublasGemm implements Gemm {
  /// What NVIDIA recommends for Hopper; of our own, so that a captured graph may hold products.
  private static final long WORKSPACE_BYTES = 32L << 20;

  /// `CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION`: partial sums stay in F32.
  private static final int FULL_SUMS = 16;

  private final Gpu gpu;
  private final cublasHandle handle = new cublasHandle();
  private final long workspace;
  private @Nullable CUstream stream; // that products are queued on
  private final int version;
  private final Pointer zero = scalar(0);
  private final Pointer one = scalar(1);

  /// Takes the library; [CublasLibrary#load] said null before.
  ///
  /// @throws IllegalStateException when it does not start
  CublasGemm(Gpu gpu) {
    this.gpu = gpu;
    int rc = JCublas2.cublasCreate(handle);
    if (rc == cublasStatus.CUBLAS_STATUS_ALLOC_FAILED) {
      gpu.driver().trim(); // its memory is not of the pool
      rc = JCublas2.cublasCreate(handle);
    }
    check(rc, "start");
    check(
        JCublas2.cublasSetPointerMode(handle, cublasPointerMode.CUBLAS_POINTER_MODE_HOST),
        "read scalars on the host");
    check(JCublas2.cublasSetMathMode(handle, FULL_SUMS), "keep sums in F32");
    int[] number = new int[1];
    check(JCublas2.cublasGetVersion(handle, number), "say its version");
    version = number[0];
    workspace = gpu.driver().allocate(WORKSPACE_BYTES);
    queueOn(gpu.driver().stream());
  }

  /// Another stream takes the workspace away.
  private void queueOn(CUstream on) {
    if (on.equals(stream)) {
      return;
    }
    check(JCublas2.cublasSetStream(handle, new cudaStream_t(on)), "take a stream");
    check(
        JCublas2.cublasSetWorkspace(handle, CudaDriver.pointer(workspace), WORKSPACE_BYTES),
        "take a workspace");
    stream = on;
  }

  /// In direct memory: JCuda copies an array on every call.
  private static Pointer scalar(float value) {
    MemorySegment memory = Arena.ofAuto().allocate(ValueLayout.JAVA_FLOAT);
    memory.set(ValueLayout.JAVA_FLOAT, 0, value);
    return Pointer.to(memory.asByteBuffer().order(ByteOrder.nativeOrder()));
  }

  @Override
  public void forward(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    if (bias != null) {
      TensorCoreGemm.fillRows(gpu, out, bias);
    }
    // out^T [O,N] = W [O,I] x^T [I,N]
    multiply(out, weight, true, x, false, bias != null);
  }

  @Override
  public void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    // dx^T [I,N] = W^T [I,O] dOut^T [O,N]
    multiply(dx, weight, false, dOut, false, intoDx == Accumulate.ADD);
  }

  @Override
  public void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x) {
    // dW^T [I,O] += x^T [I,N] dOut [N,O]
    multiply(dWeight, x, false, dOut, true, true);
  }

  /// `C^T (+)= op(A^T) op(B^T)`, where A^T and B^T are the matrices as cuBLAS sees them and op
  /// transposes them where asked to.
  private void multiply(
      Tensor c, Tensor a, boolean transposeA, Tensor b, boolean transposeB, boolean add) {
    int m = Math.toIntExact(c.dim(1));
    int n = Math.toIntExact(c.dim(0));
    int k = Math.toIntExact(transposeA ? a.dim(1) : a.dim(0));
    long[] numbers = {
      transposeA ? 1 : 0,
      transposeB ? 1 : 0,
      m,
      n,
      k,
      Launch.address(a),
      a.dtype().ordinal(),
      Launch.address(b),
      Launch.address(c),
      c.dtype().ordinal(),
      add ? 1 : 0
    };
    gpu.queue(
        "product",
        numbers,
        on -> {
          queueOn(on);
          multiply(m, n, k, c, a, transposeA, b, transposeB, add);
        });
  }

  private void multiply(
      int m,
      int n,
      int k,
      Tensor c,
      Tensor a,
      boolean transposeA,
      Tensor b,
      boolean transposeB,
      boolean add) {
    int rc =
        JCublas2
            .cublasGemmEx_new( // the old form answers 15, without throwing, to this type of sums
                handle,
                transposeA ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N,
                transposeB ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N,
                m,
                n,
                k,
                one,
                CudaDriver.pointer(Launch.address(a)),
                type(a),
                Math.toIntExact(a.dim(1)),
                CudaDriver.pointer(Launch.address(b)),
                type(b),
                Math.toIntExact(b.dim(1)),
                add ? one : zero,
                CudaDriver.pointer(Launch.address(c)),
                type(c),
                m,
                cublasComputeType.CUBLAS_COMPUTE_32F,
                cublasGemmAlgo.CUBLAS_GEMM_DEFAULT);
    if (rc != cublasStatus.CUBLAS_STATUS_SUCCESS) {
      check(rc, "multiply %s and %s into %s".formatted(a, b, c));
    }
  }

  private static int type(Tensor t) {
    return t.dtype() == DType.BF16 ? cudaDataType.CUDA_R_16BF : cudaDataType.CUDA_R_32F;
  }

  @Override
  public String name() {
    return "cuBLAS %d.%d".formatted(version / 10_000, version / 100 % 100);
  }

  @Override
  public void close() {
    check(JCublas2.cublasDestroy(handle), "end");
    gpu.driver().free(workspace);
  }

  private static void check(int rc, String what) {
    if (rc != cublasStatus.CUBLAS_STATUS_SUCCESS) {
      throw new IllegalStateException(
          "cuda: cuBLAS cannot %s: %s (%d)".formatted(what, cublasStatus.stringFor(rc), rc));
    }
  }
}
