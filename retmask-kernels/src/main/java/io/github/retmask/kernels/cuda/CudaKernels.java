package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// [Kernels] on one GPU, one launcher class per op. Calls from several threads run one after another,
/// on one stream; they return when the work is queued.
final class CudaKernels implements Kernels {
  private final Gpu gpu;
  private final int threads;
  private final DType withBf16;

  /// @param threads threads that the caller may use beside the GPU
  /// @param withBf16 type of the activations of models whose weights are BF16
  CudaKernels(Gpu gpu, int threads, DType withBf16) {
    this.gpu = gpu;
    this.threads = threads;
    this.withBf16 = withBf16;
  }

  @Override
  public String name() {
    return "cuda";
  }

  @Override
  public String device() {
    return gpu.driver().deviceName();
  }

  @Override
  public synchronized long freeBytes() {
    return op().driver().freeBytes();
  }

  @Override
  public int threads() {
    return threads;
  }

  @Override
  public TensorArena arena(TensorArena.Lifetime lifetime) {
    return new CudaArena(gpu);
  }

  @Override
  public DType activations(DType weights) {
    return weights == DType.BF16 ? withBf16 : DType.F32;
  }

  @Override
  public Tensor place(Tensor weight, TensorArena arena) {
    return weight.isOnHost()
        ? arena.allocate(weight.name(), weight.dtype(), weight.shape().dims()).copyFrom(weight)
        : weight;
  }

  /// Begins an op.
  Gpu op() {
    gpu.op();
    return gpu;
  }

  @Override
  public synchronized <T> T together(Supplier<T> ops) {
    return gpu.together(ops);
  }

  @Override
  public synchronized void embedding(Tensor out, Tensor ids, Tensor table) {
    CudaRows.embedding(op(), out, ids, table);
  }

  @Override
  public synchronized void embeddingBackward(Tensor dTable, Tensor dOut, Tensor ids) {
    CudaRows.embeddingBackward(op(), dTable, dOut, ids);
  }

  @Override
  public synchronized void gatherRows(Tensor out, Tensor in, Tensor rows) {
    CudaRows.gather(op(), out, in, rows);
  }

  @Override
  public synchronized void scatterRows(Tensor out, Tensor in, Tensor rows) {
    CudaRows.scatter(op(), out, in, rows);
  }

  @Override
  public synchronized void add(Tensor out, Tensor a, Tensor b) {
    CudaElementwise.add(op(), out, a, b);
  }

  @Override
  public synchronized void zero(Tensor out) {
    op().zero(Launch.address(out), out.storage().bytes());
  }

  @Override
  public synchronized void cast(Tensor out, Tensor in) {
    CudaElementwise.cast(op(), out, in);
  }

  @Override
  public synchronized double sumOfSquares(Tensor x) {
    return sumsOfSquares(List.of(x))[0];
  }

  @Override
  public synchronized double[] sumsOfSquares(List<Tensor> tensors) {
    return CudaElementwise.sumsOfSquares(op(), tensors);
  }

  @Override
  public synchronized void rmsNorm(Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    CudaRmsNorm.rmsNorm(op(), out, rstd, x, weight, eps);
  }

  @Override
  public synchronized void addRmsNorm(
      Tensor out, Tensor rstd, Tensor sum, Tensor a, Tensor b, Tensor weight, float eps) {
    CudaRmsNorm.addRmsNorm(op(), out, rstd, sum, a, b, weight, eps);
  }

  @Override
  public synchronized void rmsNormBackward(
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx) {
    CudaRmsNorm.backward(op(), dx, dWeight, dOut, x, rstd, weight, intoDx);
  }

  @Override
  public synchronized void matmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    CudaMatmul.matmul(op(), out, x, weight, bias);
  }

  @Override
  public synchronized void matmuls(Tensor x, List<Projection> projections) {
    CudaMatmul.matmuls(op(), x, projections);
  }

  @Override
  public synchronized void matmulBackwardInput(
      Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    CudaMatmul.backwardInput(op(), dx, dOut, weight, intoDx);
  }

  @Override
  public synchronized void matmulBackwardWeight(
      Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    CudaMatmul.backwardWeight(op(), dWeight, dBias, dOut, x);
  }

  @Override
  public synchronized void rope(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions) {
    CudaRope.rotate(op(), out, x, cos, sin, positions, 1);
  }

  @Override
  public synchronized void ropeBackward(
      Tensor dx, Tensor dOut, Tensor cos, Tensor sin, Tensor positions) {
    CudaRope.rotate(op(), dx, dOut, cos, sin, positions, -1);
  }

  @Override
  public synchronized void normRope(
      Tensor out,
      @Nullable Tensor rstd,
      Tensor x,
      @Nullable Tensor norm,
      float eps,
      Tensor cos,
      Tensor sin,
      Tensor positions,
      @Nullable Tensor v,
      @Nullable CacheLines cache) {
    CudaNormRope.normRope(op(), out, rstd, x, norm, eps, cos, sin, positions, v, cache);
  }

  @Override
  public synchronized void attention(
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    CudaAttention.attention(op(), z, lse, q, k, v, layout, plan, spec, readout);
  }

  @Override
  public synchronized void attentionBackward(
      Tensor dq,
      Tensor dk,
      Tensor dv,
      Tensor dz,
      Tensor q,
      Tensor k,
      Tensor v,
      Tensor z,
      Tensor lse,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec) {
    CudaAttentionBackward.backward(op(), dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
  }

  @Override
  public synchronized void headGate(Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    CudaHeadGate.headGate(op(), out, z, layout, plan);
  }

  @Override
  public synchronized void headGateBackward(
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    CudaHeadGate.backward(op(), dz, dGates, dOut, z, layout, plan);
  }

  @Override
  public synchronized void swiglu(Tensor out, Tensor gate, Tensor up) {
    CudaSwiglu.swiglu(op(), out, gate, up);
  }

  @Override
  public synchronized void swigluBackward(
      Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    CudaSwiglu.backward(op(), dGate, dUp, dOut, gate, up);
  }

  @Override
  public synchronized void tokenLogProbs(
      Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    CudaTokenLogProbs.tokenLogProbs(op(), logps, lse, hidden, lmHead, targets);
  }

  @Override
  public synchronized void tokenLogProbsBackward(
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse) {
    CudaTokenLogProbs.backward(op(), dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
  }

  @Override
  public synchronized void tokenLogProbsAndGradients(
      Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    CudaTokenLogProbs.logProbsAndGradients(
        op(), logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  @Override
  public synchronized int[] drawTokens(Tensor logits, List<TokenDraw> draws) {
    return CudaSampler.draw(op(), logits, draws);
  }

  @Override
  public synchronized void adamW(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    CudaAdamW.adamW(op(), param, grad, m, v, step);
  }

  @Override
  public synchronized void adamW(
      Tensor weight, Tensor master, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    CudaAdamW.adamW(op(), weight, master, grad, m, v, step);
  }

  @Override
  public synchronized void close() {
    gpu.close();
  }
}
