package io.github.retmask.backend;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.FreeMemory;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// The op contract: what every backend computes. Call it through [Ops], which checks shapes and
/// types; implementations trust their arguments.
///
/// **Conventions.** Outputs first, then inputs, weights, layout, scalars; letters as in
/// `io.github.retmask.tensor`. Activations and their gradients are of the type that [#activations]
/// says, one type in a call, F32 below; statistics, logits and all gradients of weights are F32;
/// weights are F32, BF16 or F16, matrices of weights also of block types, and are widened to F32
/// before use. Gradients of activations are overwritten unless an [Accumulate] says otherwise,
/// gradients of weights are always added to. An output may be the same tensor as an input only where
/// the op says so.
///
/// **Order of arithmetic.** Every output element is computed in an order that depends on its own
/// row alone: not on the number of threads, on the other rows of the batch, or on how a sequence
/// was cut into chunks; interpreted and compiled code give the same bits. In [#matmul] that order
/// is given to the bit, so all backends agree there. With BF16 activations a backend may choose an order
/// by the numbers of rows and tokens too; equal calls give the same bits.
public interface Kernels extends AutoCloseable {

  /// Name of the backend, such as `vector`.
  String name();

  /// What computes, for reports: a GPU by its name, else `CPU`.
  default String device() {
    return "CPU";
  }

  /// Threads that compute.
  int threads();

  /// Bytes that tensors of this backend can still take.
  default long freeBytes() {
    return FreeMemory.bytes();
  }

  /// New memory for tensors of this backend.
  TensorArena arena(TensorArena.Lifetime lifetime);

  /// A weight where this backend reads it: itself, or a copy in memory or a form of its own. What was
  /// read of a file for a copy need not stay in memory.
  ///
  /// @param weight on the host, or of this backend already
  /// @param arena memory of the copy
  default Tensor place(Tensor weight, TensorArena arena) {
    return weight;
  }

  /// Type of the activations of a model whose matrices are of type `weights`: F32, or BF16 where the
  /// backend computes with it.
  default DType activations(DType weights) {
    return DType.F32;
  }

  /// Runs ops of which the same will come again, on tensors of the same shapes: those of a step of
  /// decoding. A backend may put off what they do until they are all called, and keep what it takes to
  /// call them; it may do so only as far as nobody sees it.
  ///
  /// @return what `ops` returns
  default <T> T together(Supplier<T> ops) {
    return ops.get();
  }

  // --- rows -----------------------------------------------------------------------------------

  /// Token embedding: `out[n,:] = table[ids[n],:]`.
  ///
  /// @param out `[N,C]`
  /// @param ids I32 `[N]`
  /// @param table `[V,C]`
  void embedding(Tensor out, Tensor ids, Tensor table);

  /// `dTable[ids[n],:] += dOut[n,:]`, in ascending n for equal ids.
  ///
  /// @param dTable `[V,C]`
  /// @param dOut `[N,C]`
  /// @param ids I32 `[N]`
  void embeddingBackward(Tensor dTable, Tensor dOut, Tensor ids);

  /// `out[m,:] = in[rows[m],:]`.
  ///
  /// @param out `[M, ...]`
  /// @param in `[N, ...]`
  /// @param rows I32 `[M]`
  void gatherRows(Tensor out, Tensor in, Tensor rows);

  /// `out[rows[n],:] = in[n,:]`; other rows of out stay. Appends to key/value caches, and is the
  /// backward of [#gatherRows] into a zeroed tensor. Rows are distinct.
  ///
  /// @param out `[M, ...]`
  /// @param in `[N, ...]`
  /// @param rows I32 `[N]`
  void scatterRows(Tensor out, Tensor in, Tensor rows);

  // --- elementwise ----------------------------------------------------------------------------

  /// `out = a + b`; out may be a or b.
  void add(Tensor out, Tensor a, Tensor b);

  /// Sets every byte to zero.
  void zero(Tensor out);

  /// Rounds or widens to the type of `out` (round to nearest, ties to even), which is no block type.
  /// `in` may lie on the host whatever the backend.
  void cast(Tensor out, Tensor in);

  /// Sum of squares, accumulated in double in an order that depends on the length alone.
  double sumOfSquares(Tensor x);

  /// The sum of squares of every tensor; a backend may wait once for all.
  default double[] sumsOfSquares(List<Tensor> tensors) {
    return tensors.stream().mapToDouble(this::sumOfSquares).toArray();
  }

  // --- rms_norm -------------------------------------------------------------------------------

  /// Root-mean-square norm (Zhang and Sennrich 2019): `rstd = 1 / sqrt(mean(x^2) + eps)`, `out = x
  /// * rstd * weight` over the last axis.
  ///
  /// @param out `[R,W]`; R is N for hidden norms and N H for per-head norms
  /// @param rstd `[R]`, kept for the backward
  /// @param x `[R,W]`
  /// @param weight `[W]`
  void rmsNorm(Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps);

  /// [#add] and [#rmsNorm] of the sum, to the bit; a backend may read the sum from where it made it.
  ///
  /// @param out `[R,W]`
  /// @param rstd `[R]`
  /// @param sum `[R,W]`, may be a or b
  /// @param a `[R,W]`
  /// @param b `[R,W]`
  /// @param weight `[W]`
  default void addRmsNorm(
      Tensor out, Tensor rstd, Tensor sum, Tensor a, Tensor b, Tensor weight, float eps) {
    add(sum, a, b);
    rmsNorm(out, rstd, sum, weight, eps);
  }

  /// With `g = dOut * weight`: `dx = rstd * (g - x * rstd^2 * mean(g * x))`, `dWeight += sum_r dOut
  /// * x * rstd`.
  ///
  /// @param dx `[R,W]`
  /// @param dWeight `[W]`
  /// @param dOut `[R,W]`
  /// @param x `[R,W]`
  /// @param rstd `[R]`
  /// @param weight `[W]`
  void rmsNormBackward(
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx);

  // --- matmul ---------------------------------------------------------------------------------

  /// Linear layer with the weight as checkpoints store it: `out = x W^T + bias`.
  ///
  /// Step i of the inner dimension belongs to chain `i mod` [#chains]. Every chain is one of fused
  /// multiply-adds over ascending i from zero; eight of them are then added as `((c0 + c4) + (c2 +
  /// c6)) + ((c1 + c5) + (c3 + c7))`, and the bias last.
  ///
  /// @param out `[N,O]`
  /// @param x `[N,I]`
  /// @param weight `[O,I]`
  /// @param bias `[O]` or null
  void matmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias);

  /// Several linear layers of one input: what [#matmul] gives for each, to the same bits.
  ///
  /// @param x `[N,I]`
  /// @param projections at least one; their outputs do not overlap
  default void matmuls(Tensor x, List<Projection> projections) {
    for (Projection one : projections) {
      matmul(one.out(), x, one.weight(), one.bias());
    }
  }

  /// Chains per output of [#matmul]: with eight, one row can be multiplied at the speed of reading
  /// the weight as it is stored; below 512 elements weights are small, and one is faster with many
  /// rows.
  ///
  /// @param inner elements of the inner dimension
  static int chains(int inner) {
    return inner < 512 ? 1 : 8;
  }

  /// `dx (+)= dOut W`.
  ///
  /// @param dx `[N,I]`
  /// @param dOut `[N,O]`
  /// @param weight `[O,I]`
  void matmulBackwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx);

  /// `dWeight += dOut^T x`, `dBias += sum_n dOut`.
  ///
  /// @param dWeight `[O,I]`
  /// @param dBias `[O]` or null
  /// @param dOut `[N,O]`
  /// @param x `[N,I]`
  void matmulBackwardWeight(Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x);

  // --- rope -----------------------------------------------------------------------------------

  /// Rotary position embedding (Su et al. 2021), halves convention: for `i < R/2` `out[i] = x[i]
  /// cos - x[i+R/2] sin`, `out[i+R/2] = x[i+R/2] cos + x[i] sin`; elements from R on are copied.
  /// `out` may be x.
  ///
  /// @param out `[N,H,D]`
  /// @param x `[N,H,D]`
  /// @param cos `[P,R/2]`; both tables may carry a factor, as YaRN's do
  /// @param sin `[P,R/2]`
  /// @param positions I32 `[N]`, the row of every token in the tables, mostly its position
  void rope(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions);

  /// The transposed map, `sin` negated; the inverse but for the square of the tables' factor. `dx`
  /// may be dOut.
  void ropeBackward(Tensor dx, Tensor dOut, Tensor cos, Tensor sin, Tensor positions);

  // --- norm_rope ------------------------------------------------------------------------------

  /// Queries or keys as attention reads them, from their projection: [#rmsNorm] of x where there is a
  /// norm, [#rope] of that, and [#scatterRows] of the result and of the values where there is a cache;
  /// to the bit. A backend may do all at once.
  ///
  /// @param out `[N,H,D]`; may be x where there is no norm
  /// @param rstd `[N H]` or `[N]`; null without norm
  /// @param x `[N,H,D]`
  /// @param norm weight `[D]` for every head, or `[H D]` for all heads of a token; or null
  /// @param eps of the norm
  /// @param cos `[P,R/2]`
  /// @param sin `[P,R/2]`
  /// @param positions I32 `[N]`, see [#rope]
  /// @param v `[N,H,D]`, the values that belong to keys; null without cache
  /// @param cache where keys and values go, or null
  default void normRope(
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
    Tensor normed = x;
    if (norm != null && rstd != null) {
      long width = norm.dim(0);
      rmsNorm(out.view(rstd.dim(0), width), rstd, x.view(rstd.dim(0), width), norm, eps);
      normed = out;
    }
    rope(out, normed, cos, sin, positions);
    if (cache != null && v != null) {
      scatterRows(cache.keys(), out, cache.rows());
      scatterRows(cache.values(), v, cache.rows());
    }
  }

  // --- attention ------------------------------------------------------------------------------

  /// Causal grouped-query attention with per-(row, head) modes (online softmax, Dao et al. 2022):
  /// `z[n,h,:] = sum_j softmax_j(scale q[n,h,:] . k[j,h/(H/Hkv),:]) v[j,...]` over the visible
  /// keys. Key j is visible to a query at position i of the same row when `j <= i`, `j > i -
  /// window` and, for a local head, `j < sink` or `j > i - local window`. Gates are not applied
  /// here.
  ///
  /// @param z `[N,H,D]`; zero for skipped heads
  /// @param lse `[N,H]`, log-sum-exp of the scaled scores; -infinity where nothing attends
  /// @param q `[N,H,D]`
  /// @param k `[keys,Hkv,D]`, placed as `layout` says, the new tokens' own keys included
  /// @param v `[keys,Hkv,D]`
  /// @param readout filled when given
  void attention(
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout);

  /// Gradients of [#attention], recomputing the weights from `lse`. Rows of the layout have keys of
  /// their own; dk and dv of what a row's past holds are its queries' share, those of keys that no row
  /// has stay as they are. With `p` the weights, `dp = dz . v`, `delta = dz . z`: `ds = p (dp -
  /// delta)`, `dq = scale ds k`, `dk = scale ds^T q`, `dv = p^T dz`. Uniform heads get only dv;
  /// mean and skipped heads give nothing, whatever their dz holds, NaN included.
  ///
  /// @param dq `[N,H,D]`
  /// @param dk `[keys,Hkv,D]`
  /// @param dv `[keys,Hkv,D]`
  /// @param dz `[N,H,D]`
  /// @param z `[N,H,D]` as the forward left it, before gates
  /// @param lse `[N,H]`
  void attentionBackward(
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
      AttentionSpec spec);

  // --- head_gate ------------------------------------------------------------------------------

  /// `out[n,h,:] = gate[row(n),h] * z[n,h,:]`; a gate of 0 writes +0 whatever z is. `out` may be z.
  ///
  /// @param out `[N,H,D]`
  /// @param z `[N,H,D]`
  void headGate(Tensor out, Tensor z, BatchLayout layout, HeadPlan plan);

  /// `dz = gate * dOut` (0 where the gate is 0), `dGates[r,h] += sum over the row's tokens of dOut
  /// . z`. `dz` may be dOut.
  ///
  /// @param dz `[N,H,D]`
  /// @param dGates `[B,H]` or null when nobody asked
  /// @param dOut `[N,H,D]`
  /// @param z `[N,H,D]`, before the gate
  void headGateBackward(
      Tensor dz, @Nullable Tensor dGates, Tensor dOut, Tensor z, BatchLayout layout, HeadPlan plan);

  // --- swiglu ---------------------------------------------------------------------------------

  /// SwiGLU (Shazeer 2020): `out = gate * sigmoid(gate) * up`. `out` may be gate or up.
  ///
  /// @param out `[N,F]`
  /// @param gate `[N,F]`
  /// @param up `[N,F]`
  void swiglu(Tensor out, Tensor gate, Tensor up);

  /// With `s = sigmoid(gate)`: `dUp = dOut gate s`, `dGate = dOut up s (1 + gate (1 - s))`. `dUp`
  /// may be dOut.
  void swigluBackward(Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up);

  // --- token_log_probs ------------------------------------------------------------------------

  /// LM head fused with the log-probability of one target per token: `logps[m] = logit[m,target] -
  /// lse[m]`, `lse[m] = log sum_v exp(logit[m,v])`, `logit = hidden lmHead^T`. Works in chunks of
  /// tokens; `[M,V]` logits never exist at once.
  ///
  /// @param logps `[M]`
  /// @param lse `[M]`
  /// @param hidden `[M,C]`
  /// @param lmHead `[V,C]`
  /// @param targets I32 `[M]`
  void tokenLogProbs(Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets);

  /// `dLogits[m,v] = dLogps[m] (1{v = target} - exp(logit[m,v] - lse[m]))`, then `dHidden = dLogits
  /// lmHead`, `dLmHead += dLogits^T hidden`; logits are recomputed in chunks.
  ///
  /// @param dHidden `[M,C]`
  /// @param dLmHead `[V,C]`
  /// @param dLogps `[M]`
  void tokenLogProbsBackward(
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse);

  /// [#tokenLogProbs] and [#tokenLogProbsBackward], to the bit, for losses whose dLogps is known
  /// beforehand; a backend may compute the logits once.
  default void tokenLogProbsAndGradients(
      Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    tokenLogProbs(logps, lse, hidden, lmHead, targets);
    tokenLogProbsBackward(dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
  }

  // --- sampler --------------------------------------------------------------------------------

  /// Draws a token for every row of logits, the very tokens that
  /// [io.github.retmask.generate.Sampler] draws from them.
  ///
  /// @param logits F32 `[M,V]`; repetition penalties change them
  /// @param draws of each row
  /// @return token ids, `[M]`; or null, and the logits are as they were, where the backend leaves
  ///   this to the host
  /// @throws IllegalStateException when a logit is NaN or positive infinity
  default int @Nullable [] drawTokens(Tensor logits, List<TokenDraw> draws) {
    return null;
  }

  // --- adamw ----------------------------------------------------------------------------------

  /// One AdamW update in place: `g = gradScale grad`, `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2)
  /// g^2`, `param = param (1 - lr decay) - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)`.
  /// Scalars are combined in double, elements updated in F32.
  void adamW(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step);

  /// [#adamW] on F32 masters of a weight that is stored in BF16, then [#cast] into the weight, to the
  /// bit; a backend may do both at once.
  ///
  /// @param weight BF16, overwritten
  /// @param master F32, updated in place
  default void adamW(
      Tensor weight, Tensor master, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    adamW(master, grad, m, v, step);
    cast(weight, master);
  }

  /// Ends the threads. Tensors of [#arena] live on until their arena is closed.
  @Override
  void close();
}
