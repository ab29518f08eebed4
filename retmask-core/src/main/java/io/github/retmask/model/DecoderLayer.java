package io.github.retmask.model;

import static java.util.Objects.requireNonNull;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.Projection;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// One decoder layer: attention with switchable heads, then the feed-forward block, each added to
/// the residual stream. Forward is a list of ops in reading order, its parts below it for
/// [SharedForward], which runs them for different rows; then backward, the same list reversed.
///
/// @param index position in the model
/// @param config sizes
/// @param spec what distinguishes this layer
/// @param weights its parameters
record DecoderLayer(int index, ModelConfig config, LayerSpec spec, LayerWeights weights) {

  /// Computes the result and fills `a`. `residPost` may be residPre.
  ///
  /// @param residPost `[N,C]`
  /// @param residPre `[N,C]`
  /// @param cache where keys and values are appended, or null for whole sequences
  /// @param shared of whole sequences with prefixes, else null
  void forward(
      Tensor residPost,
      LayerActivations a,
      Tensor residPre,
      Rotation rotation,
      BatchLayout layout,
      HeadPlan plan,
      @Nullable CacheLines cache,
      @Nullable SharedKeys shared,
      @Nullable AttentionReadout readout,
      Ops ops,
      Observer observer) {
    forwardToAct(a, residPre, rotation, layout, plan, cache, shared, readout, ops, observer);
    forwardFromAct(residPost, a, ops, observer);
  }

  private void forwardToAct(
      LayerActivations a,
      Tensor residPre,
      Rotation rotation,
      BatchLayout layout,
      HeadPlan plan,
      @Nullable CacheLines cache,
      @Nullable SharedKeys shared,
      @Nullable AttentionReadout readout,
      Ops ops,
      Observer observer) {
    observer.saw(Site.RESID_PRE, index, residPre);
    Tensor attnIn = attentionInput(a, residPre, ops); // [N,C]
    LayerWeights w = weights;
    Projection q = projection(flat(a.q()), w.qProj()); // [N, H D]
    Projection k = projection(flat(a.k()), w.kProj()); // [N, Hkv D]
    Projection v = projection(flat(a.v()), w.vProj()); // [N, Hkv D]
    ops.matmuls(attnIn, q, k, v);
    rotateQueries(a, rotation, ops, observer); // [N,H,D]
    rotateKeys(a, rotation, cache, ops, observer); // [N,Hkv,D]
    Tensor keys = cache == null ? a.rotK() : cache.keys(); // [keys,Hkv,D]
    Tensor values = cache == null ? a.v() : cache.values(); // [keys,Hkv,D]
    if (shared != null) {
      shared.gather(keys, values, ops);
      keys = shared.keys();
      values = shared.values();
    }
    ops.attention(a.z(), a.lse(), a.rotQ(), keys, values, layout, plan, spec.attention(), readout);
    observer.saw(Site.Z, index, a.z());
    Tensor z = a.z(); // [N,H,D]
    if (plan.isGated()) {
      z = a.gatedZ();
      ops.headGate(z, a.z(), layout, plan);
    }
    headsToAct(a, residPre, z, ops, observer);
  }

  /// What the projections of attention read, `[N,C]`.
  Tensor attentionInput(LayerActivations a, Tensor residPre, Ops ops) {
    if (spec.norms() == NormPlacement.POST) {
      return residPre;
    }
    Tensor attnIn = requireNonNull(a.attnIn());
    ops.rmsNorm(attnIn, a.attnRstd(), residPre, weights.attentionNorm(), config.normEps());
    return attnIn;
  }

  /// Fills `a.q()` and `a.rotQ()`.
  ///
  /// @param attnIn `[N,C]`
  void queries(LayerActivations a, Tensor attnIn, Rotation rotation, Ops ops, Observer observer) {
    ops.matmuls(attnIn, projection(flat(a.q()), weights.qProj())); // [N, H D]
    rotateQueries(a, rotation, ops, observer);
  }

  private void rotateQueries(LayerActivations a, Rotation rotation, Ops ops, Observer observer) {
    observer.saw(Site.Q, index, a.q());
    normRope(a.rotQ(), a.qRstd(), a.q(), weights.qNorm(), rotation, null, null, ops); // [N,H,D]
    observer.saw(Site.ROT_Q, index, a.rotQ());
  }

  /// Fills `a.k()`, `a.rotK()` and `a.v()`, and the cache with the latter two.
  ///
  /// @param attnIn `[N,C]`
  /// @param cache or null
  void keysAndValues(
      LayerActivations a,
      Tensor attnIn,
      Rotation rotation,
      @Nullable CacheLines cache,
      Ops ops,
      Observer observer) {
    Projection k = projection(flat(a.k()), weights.kProj()); // [N, Hkv D]
    Projection v = projection(flat(a.v()), weights.vProj()); // [N, Hkv D]
    ops.matmuls(attnIn, k, v);
    rotateKeys(a, rotation, cache, ops, observer);
  }

  private void rotateKeys(
      LayerActivations a,
      Rotation rotation,
      @Nullable CacheLines cache,
      Ops ops,
      Observer observer) {
    observer.saw(Site.K, index, a.k());
    observer.saw(Site.V, index, a.v());
    Tensor v = cache == null ? null : a.v();
    normRope(a.rotK(), a.kRstd(), a.k(), weights.kNorm(), rotation, v, cache, ops); // [N,Hkv,D]
    observer.saw(Site.ROT_K, index, a.rotK());
  }

  private void normRope(
      Tensor out,
      @Nullable Tensor rstd,
      Tensor x,
      @Nullable Tensor norm,
      Rotation rotation,
      @Nullable Tensor v,
      @Nullable CacheLines cache,
      Ops ops) {
    Tensor cos = rotation.cos();
    Tensor sin = rotation.sin();
    ops.normRope(out, rstd, x, norm, config.normEps(), cos, sin, rotation.rows(), v, cache);
  }

  /// From gated head outputs to the result: o_proj and the feed-forward block. `residPost` may be
  /// residPre.
  ///
  /// @param residPost `[N,C]`
  /// @param residPre `[N,C]`
  /// @param z `[N,H,D]`, gated
  void afterHeads(
      Tensor residPost, LayerActivations a, Tensor residPre, Tensor z, Ops ops, Observer observer) {
    headsToAct(a, residPre, z, ops, observer);
    forwardFromAct(residPost, a, ops, observer);
  }

  private void headsToAct(
      LayerActivations a, Tensor residPre, Tensor z, Ops ops, Observer observer) {
    LayerWeights w = weights;
    ops.matmul(a.attnOut(), flat(z), w.oProj().weight(), w.oProj().bias()); // [N,C]
    Tensor mlpIn = a.residMid(); // [N,C]
    if (spec.norms() == NormPlacement.PRE) {
      mlpIn = requireNonNull(a.mlpIn()); // the norm of residMid = residPre + attnOut
      Tensor norm = w.mlpNorm(); // [C]
      float eps = config.normEps();
      ops.addRmsNorm(mlpIn, a.mlpRstd(), a.residMid(), residPre, a.attnOut(), norm, eps);
    } else {
      addResidual(a.residMid(), residPre, a.attnOut(), a.attnRstd(), w.attentionNorm(), ops);
    }
    observer.saw(Site.ATTN_OUT, index, a.attnOut());
    observer.saw(Site.RESID_MID, index, a.residMid());

    Projection gate = projection(a.gate(), w.gateProj()); // [N,F]
    ops.matmuls(mlpIn, gate, projection(a.up(), w.upProj())); // [N,F]
    ops.swiglu(a.act(), a.gate(), a.up()); // [N,F]
  }

  private void forwardFromAct(Tensor residPost, LayerActivations a, Ops ops, Observer observer) {
    LayerWeights w = weights;
    ops.matmul(a.mlpOut(), a.act(), w.downProj().weight(), w.downProj().bias()); // [N,C]
    addResidual(residPost, a.residMid(), a.mlpOut(), a.mlpRstd(), w.mlpNorm(), ops);
    observer.saw(Site.MLP_OUT, index, a.mlpOut());
    observer.saw(Site.RESID_POST, index, residPost);
  }

  /// Makes again, with the same bits, what layers share: see [LayerActivations].
  void restore(LayerActivations a, Tensor residPre, @Nullable SharedKeys shared, Ops ops) {
    if (shared != null) {
      shared.gather(a.rotK(), a.v(), ops);
    }
    if (spec.norms() == NormPlacement.PRE) {
      float eps = config.normEps();
      Tensor attnIn = requireNonNull(a.attnIn());
      Tensor mlpIn = requireNonNull(a.mlpIn());
      ops.rmsNorm(attnIn, a.attnRstd(), residPre, weights.attentionNorm(), eps);
      ops.rmsNorm(mlpIn, a.mlpRstd(), a.residMid(), weights.mlpNorm(), eps);
    }
    ops.swiglu(a.act(), a.gate(), a.up());
  }

  /// Fills `a` from the layer's input, with the same bits as [#forward], as far as [#backward] reads
  /// it.
  ///
  /// @param residPost `[N,C]`, overwritten with what it held after the forward, or left
  void recompute(
      Tensor residPost,
      LayerActivations a,
      Tensor residPre,
      Rotation rotation,
      BatchLayout layout,
      HeadPlan plan,
      @Nullable SharedKeys shared,
      Ops ops) {
    forwardToAct(a, residPre, rotation, layout, plan, null, shared, null, ops, Observer.NONE);
    if (spec.norms() == NormPlacement.POST) {
      forwardFromAct(residPost, a, ops, Observer.NONE); // the norm's backward reads mlpOut
    }
  }

  /// `out = resid + branch`, or `resid + norm(branch)` with post-norm.
  private void addResidual(
      Tensor out, Tensor resid, Tensor branch, Tensor rstd, Tensor norm, Ops ops) {
    if (spec.norms() == NormPlacement.POST) {
      ops.rmsNorm(out, rstd, branch, norm, config.normEps());
      ops.add(out, out, resid);
    } else {
      ops.add(out, resid, branch);
    }
  }

  /// Turns `d` from the gradient of residPost into that of residPre, in place, and adds to `grads`.
  ///
  /// @param d `[N,C]`
  /// @param b working memory
  /// @param residPre `[N,C]` as the forward had it
  /// @param dGates `[B,H]`, added to, or null
  /// @param shared of rows with prefixes, as the forward left it, or null
  void backward(
      Tensor d,
      LayerWeights grads,
      @Nullable Tensor dGates,
      LayerGradients b,
      LayerActivations a,
      Tensor residPre,
      Rotation rotation,
      BatchLayout layout,
      HeadPlan plan,
      @Nullable SharedKeys shared,
      Ops ops) {
    LayerWeights w = weights;
    boolean pre = spec.norms() == NormPlacement.PRE;

    // residPost = residMid + branch(residMid): d flows through both terms
    Tensor dMlpOut =
        branchGradient(b, d, a.mlpOut(), a.mlpRstd(), w.mlpNorm(), grads.mlpNorm(), ops);
    Tensor dGate = b.dGate(); // [N,F]
    Tensor dUp = b.dUp(); // [N,F]
    linearBackward(
        dUp, Accumulate.SET, grads.downProj(), dMlpOut, a.act(), w.downProj(), ops); // d act
    ops.swigluBackward(dGate, dUp, dUp, a.gate(), a.up());
    Tensor mlpIn = pre ? requireNonNull(a.mlpIn()) : a.residMid();
    Tensor dMlpIn = pre ? b.dBlock() : d; // [N,C]
    Accumulate first = pre ? Accumulate.SET : Accumulate.ADD;
    linearBackward(dMlpIn, first, grads.upProj(), dUp, mlpIn, w.upProj(), ops);
    linearBackward(dMlpIn, Accumulate.ADD, grads.gateProj(), dGate, mlpIn, w.gateProj(), ops);
    if (pre) {
      ops.rmsNormBackward(
          d, grads.mlpNorm(), dMlpIn, a.residMid(), a.mlpRstd(), w.mlpNorm(), Accumulate.ADD);
    }

    // residMid = residPre + branch(residPre)
    Tensor dAttnOut =
        branchGradient(
            b, d, a.attnOut(), a.attnRstd(), w.attentionNorm(), grads.attentionNorm(), ops);
    Tensor z = plan.isGated() ? a.gatedZ() : a.z();
    Tensor dZ = b.dZ(); // [N,H,D]
    linearBackward(flat(dZ), Accumulate.SET, grads.oProj(), dAttnOut, flat(z), w.oProj(), ops);
    if (plan.isGated() || dGates != null) {
      ops.headGateBackward(dZ, dGates, dZ, a.z(), layout, plan);
    }
    Tensor dQ = b.dQ(); // [N,H,D]
    Tensor dK = b.dK(); // [N,Hkv,D]
    Tensor dV = b.dV(); // [N,Hkv,D]
    Tensor keys = shared == null ? a.rotK() : shared.keys(); // [keys,Hkv,D]
    Tensor values = shared == null ? a.v() : shared.values(); // [keys,Hkv,D]
    ops.attentionBackward(
        dQ,
        b.dSharedK(),
        b.dSharedV(),
        dZ,
        a.rotQ(),
        keys,
        values,
        a.z(),
        a.lse(),
        layout,
        plan,
        spec.attention());
    if (shared != null) {
      shared.sum(dK, b.dSharedK(), ops);
      shared.sum(dV, b.dSharedV(), ops);
    }
    ops.ropeBackward(dQ, dQ, rotation.cos(), rotation.sin(), rotation.rows());
    ops.ropeBackward(dK, dK, rotation.cos(), rotation.sin(), rotation.rows());
    if (spec.qkNorm() != QkNorm.NONE) {
      dQ = qkNormBackward(b.dQProj(), grads.qNorm(), dQ, a.q(), a.qRstd(), w.qNorm(), ops);
      dK = qkNormBackward(b.dKProj(), grads.kNorm(), dK, a.k(), a.kRstd(), w.kNorm(), ops);
    }
    Tensor attnIn = pre ? requireNonNull(a.attnIn()) : residPre;
    Tensor dAttnIn = pre ? b.dBlock() : d; // [N,C]
    linearBackward(dAttnIn, first, grads.vProj(), flat(dV), attnIn, w.vProj(), ops);
    linearBackward(dAttnIn, Accumulate.ADD, grads.kProj(), flat(dK), attnIn, w.kProj(), ops);
    linearBackward(dAttnIn, Accumulate.ADD, grads.qProj(), flat(dQ), attnIn, w.qProj(), ops);
    if (pre) {
      ops.rmsNormBackward(
          d,
          grads.attentionNorm(),
          dAttnIn,
          residPre,
          a.attnRstd(),
          w.attentionNorm(),
          Accumulate.ADD);
    }
  }

  /// Gradient of a block's raw output: `d` itself, or through the post-norm of [#addResidual].
  private Tensor branchGradient(
      LayerGradients b, Tensor d, Tensor branch, Tensor rstd, Tensor norm, Tensor dNorm, Ops ops) {
    if (spec.norms() == NormPlacement.PRE) {
      return d;
    }
    ops.rmsNormBackward(b.dBlock(), dNorm, d, branch, rstd, norm, Accumulate.SET);
    return b.dBlock();
  }

  /// Both gradients of `out = x W^T + bias`.
  private static void linearBackward(
      Tensor dx, Accumulate intoDx, Linear grads, Tensor dOut, Tensor x, Linear w, Ops ops) {
    ops.matmulBackwardWeight(grads.weight(), grads.bias(), dOut, x);
    ops.matmulBackwardInput(dx, dOut, w.weight(), intoDx);
  }

  /// Returns dx.
  private Tensor qkNormBackward(
      @Nullable Tensor dx,
      @Nullable Tensor dWeight,
      Tensor dOut,
      Tensor x,
      @Nullable Tensor rstd,
      @Nullable Tensor weight,
      Ops ops) {
    ops.rmsNormBackward(
        normed(requireNonNull(dx)),
        requireNonNull(dWeight),
        normed(dOut),
        normed(x),
        requireNonNull(rstd),
        requireNonNull(weight),
        Accumulate.SET);
    return dx;
  }

  private static Projection projection(Tensor out, Linear layer) {
    return new Projection(out, layer.weight(), layer.bias());
  }

  /// `[N,H,D]` as `[N, H D]`.
  private static Tensor flat(Tensor t) {
    return t.view(t.dim(0), t.dim(1) * t.dim(2));
  }

  /// `[N,H,D]` as the rows that q/k norm normalises: `[N H, D]` or `[N, H D]`.
  private Tensor normed(Tensor t) {
    return spec.qkNorm() == QkNorm.PER_HEAD ? t.view(t.dim(0) * t.dim(1), t.dim(2)) : flat(t);
  }
}
