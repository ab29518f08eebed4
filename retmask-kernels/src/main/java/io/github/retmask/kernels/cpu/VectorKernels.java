package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [Kernels] on the Vector API, one class per op. Calls from several threads run one after another:
/// each uses all threads and their scratch memory.
final class VectorKernels implements Kernels {
  private final WorkerPool pool;

  /// @param threads threads that compute, the caller included
  VectorKernels(int threads) {
    pool = new WorkerPool(threads);
  }

  @Override
  public String name() {
    return "vector";
  }

  @Override
  public int threads() {
    return pool.threads();
  }

  @Override
  public TensorArena arena(TensorArena.Lifetime lifetime) {
    return new HostArena();
  }

  /// Weights of types that convert slowly are copied into the form that decoding reads best.
  @Override
  public synchronized Tensor place(Tensor weight, TensorArena arena) {
    return RowGroups.suits(weight) ? RowGroups.place(pool, weight, arena) : weight;
  }

  @Override
  public synchronized void embedding(Tensor out, Tensor ids, Tensor table) {
    VectorRows.embedding(pool, out, ids, table);
  }

  @Override
  public synchronized void embeddingBackward(Tensor dTable, Tensor dOut, Tensor ids) {
    VectorRows.embeddingBackward(pool, dTable, dOut, ids);
  }

  @Override
  public synchronized void gatherRows(Tensor out, Tensor in, Tensor rows) {
    VectorRows.gather(pool, out, in, rows);
  }

  @Override
  public synchronized void scatterRows(Tensor out, Tensor in, Tensor rows) {
    VectorRows.scatter(pool, out, in, rows);
  }

  @Override
  public synchronized void add(Tensor out, Tensor a, Tensor b) {
    VectorElementwise.add(pool, out, a, b);
  }

  @Override
  public void zero(Tensor out) {
    out.segment().fill((byte) 0);
  }

  @Override
  public synchronized void cast(Tensor out, Tensor in) {
    VectorElementwise.cast(pool, out, in);
  }

  @Override
  public synchronized double sumOfSquares(Tensor x) {
    return VectorElementwise.sumOfSquares(pool, x);
  }

  @Override
  public synchronized void rmsNorm(Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    VectorRmsNorm.rmsNorm(pool, out, rstd, x, weight, eps);
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
    VectorRmsNorm.backward(pool, dx, dWeight, dOut, x, rstd, weight, intoDx);
  }

  @Override
  public synchronized void matmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    VectorMatmul.matmul(pool, out, x, weight, bias);
  }

  @Override
  public synchronized void matmuls(Tensor x, List<Projection> projections) {
    VectorMatmul.matmuls(pool, x, projections);
  }

  @Override
  public synchronized void matmulBackwardInput(
      Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    VectorMatmul.backwardInput(pool, dx, dOut, weight, intoDx);
  }

  @Override
  public synchronized void matmulBackwardWeight(
      Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    VectorMatmul.backwardWeight(pool, dWeight, dBias, dOut, x);
  }

  @Override
  public synchronized void rope(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions) {
    VectorRope.rotate(pool, out, x, cos, sin, positions, 1);
  }

  @Override
  public synchronized void ropeBackward(
      Tensor dx, Tensor dOut, Tensor cos, Tensor sin, Tensor positions) {
    VectorRope.rotate(pool, dx, dOut, cos, sin, positions, -1);
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
    VectorAttention.attention(pool, z, lse, q, k, v, layout, plan, spec, readout);
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
    VectorAttention.backward(pool, dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
  }

  @Override
  public synchronized void headGate(Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    VectorHeadGate.headGate(pool, out, z, layout, plan);
  }

  @Override
  public synchronized void headGateBackward(
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    VectorHeadGate.backward(pool, dz, dGates, dOut, z, layout, plan);
  }

  @Override
  public synchronized void swiglu(Tensor out, Tensor gate, Tensor up) {
    VectorSwiglu.swiglu(pool, out, gate, up);
  }

  @Override
  public synchronized void swigluBackward(
      Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    VectorSwiglu.backward(pool, dGate, dUp, dOut, gate, up);
  }

  @Override
  public synchronized void tokenLogProbs(
      Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    VectorTokenLogProbs.tokenLogProbs(pool, logps, lse, hidden, lmHead, targets);
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
    VectorTokenLogProbs.backward(pool, dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
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
    VectorTokenLogProbs.logProbsAndGradients(
        pool, logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  @Override
  public synchronized void adamW(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    VectorAdamW.adamW(pool, param, grad, m, v, step);
  }

  @Override
  public synchronized void close() {
    pool.close();
  }
}
