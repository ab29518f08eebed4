package io.github.retmask.backend;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// The checked door to [Kernels]: every call verifies shapes, types and layouts once, with a
/// message that names the op and the tensor, then delegates. Formulas stand in [Kernels].
public final class Ops {
  private final Kernels kernels;

  public Ops(Kernels kernels) {
    this.kernels = kernels;
  }

  /// Name of the backend that computes.
  public String backend() {
    return kernels.name();
  }

  /// Threads that compute.
  public int threads() {
    return kernels.threads();
  }

  /// See [Kernels#freeBytes].
  public long freeBytes() {
    return kernels.freeBytes();
  }

  /// See [Kernels#device].
  public String device() {
    return kernels.device();
  }

  /// New memory of the backend.
  public TensorArena arena(TensorArena.Lifetime lifetime) {
    return kernels.arena(lifetime);
  }

  /// See [Kernels#place].
  public Tensor place(Tensor weight, TensorArena arena) {
    return kernels.place(weight, arena);
  }

  /// See [Kernels#activations].
  public DType activations(DType weights) {
    return kernels.activations(weights);
  }

  /// See [Kernels#together].
  public <T> T together(Supplier<T> ops) {
    return kernels.together(ops);
  }

  /// See [Kernels#embedding].
  ///
  /// @throws IndexOutOfBoundsException on an id outside the table
  public void embedding(Tensor out, Tensor ids, Tensor table) {
    Check op = new Check("embedding");
    op.activations(out).weight(table).i32(ids);
    op.shape(ids, ids.size());
    op.shape(out, ids.size(), table.dim(-1));
    op.inside(ids, table.dim(0));
    kernels.embedding(out, ids, table);
  }

  /// See [Kernels#embeddingBackward].
  public void embeddingBackward(Tensor dTable, Tensor dOut, Tensor ids) {
    Check op = new Check("embedding_backward");
    op.f32(dTable).activations(dOut).i32(ids);
    op.shape(dOut, ids.size(), dTable.dim(-1));
    op.inside(ids, dTable.dim(0));
    kernels.embeddingBackward(dTable, dOut, ids);
  }

  /// See [Kernels#gatherRows].
  public void gatherRows(Tensor out, Tensor in, Tensor rows) {
    Check op = new Check("gather_rows");
    op.activations(out, in).i32(rows);
    op.rowsOf(out, rows.size(), in);
    op.inside(rows, in.dim(0));
    kernels.gatherRows(out, in, rows);
  }

  /// See [Kernels#scatterRows].
  public void scatterRows(Tensor out, Tensor in, Tensor rows) {
    Check op = new Check("scatter_rows");
    op.activations(out, in).i32(rows);
    op.rowsOf(in, rows.size(), out);
    op.inside(rows, out.dim(0));
    kernels.scatterRows(out, in, rows);
  }

  /// See [Kernels#add].
  public void add(Tensor out, Tensor a, Tensor b) {
    Check op = new Check("add");
    op.activations(out, a, b).same(a, out).same(b, out);
    kernels.add(out, a, b);
  }

  /// See [Kernels#zero].
  public void zero(Tensor out) {
    kernels.zero(out);
  }

  /// See [Kernels#cast].
  public void cast(Tensor out, Tensor in) {
    new Check("cast").f(out).weight(in).same(in, out);
    kernels.cast(out, in);
  }

  /// See [Kernels#sumOfSquares].
  public double sumOfSquares(Tensor x) {
    new Check("sum_of_squares").f32(x);
    return kernels.sumOfSquares(x);
  }

  /// See [Kernels#sumsOfSquares].
  public double[] sumsOfSquares(List<Tensor> tensors) {
    tensors.forEach(new Check("sum_of_squares")::f32);
    return kernels.sumsOfSquares(tensors);
  }

  /// See [Kernels#rmsNorm].
  public void rmsNorm(Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    Check op = new Check("rms_norm");
    op.activations(out, x).f32(rstd).f(weight);
    op.norm(x, rstd, weight).same(out, x);
    kernels.rmsNorm(out, rstd, x, weight, eps);
  }

  /// See [Kernels#addRmsNorm].
  public void addRmsNorm(
      Tensor out, Tensor rstd, Tensor sum, Tensor a, Tensor b, Tensor weight, float eps) {
    Check op = new Check("add_rms_norm");
    op.activations(out, sum, a, b).f32(rstd).f(weight);
    op.norm(sum, rstd, weight).same(out, sum).same(a, sum).same(b, sum);
    kernels.addRmsNorm(out, rstd, sum, a, b, weight, eps);
  }

  /// See [Kernels#rmsNormBackward].
  public void rmsNormBackward(
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx) {
    Check op = new Check("rms_norm_backward");
    op.activations(dx, dOut, x).f32(dWeight).f32(rstd).f(weight);
    op.norm(x, rstd, weight).same(dx, x).same(dOut, x).same(dWeight, weight);
    kernels.rmsNormBackward(dx, dWeight, dOut, x, rstd, weight, intoDx);
  }

  /// See [Kernels#matmul].
  public void matmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    checkMatmul(out, x, weight, bias);
    kernels.matmul(out, x, weight, bias);
  }

  /// See [Kernels#matmuls].
  public void matmuls(Tensor x, Projection... projections) {
    if (projections.length == 0) {
      throw new IllegalArgumentException("matmuls: no projections");
    }
    for (Projection one : projections) {
      checkMatmul(one.out(), x, one.weight(), one.bias());
    }
    kernels.matmuls(x, List.of(projections));
  }

  private void checkMatmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    Check op = new Check("matmul");
    op.activations(x).f32OrAs(out, x).weight(weight);
    op.linear(out, x, weight);
    if (bias != null) {
      op.f(bias).shape(bias, weight.dim(0));
    }
  }

  /// See [Kernels#matmulBackwardInput].
  public void matmulBackwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    Check op = new Check("matmul_backward_input");
    op.activations(dx, dOut).weight(weight);
    op.linear(dOut, dx, weight);
    kernels.matmulBackwardInput(dx, dOut, weight, intoDx);
  }

  /// See [Kernels#matmulBackwardWeight].
  public void matmulBackwardWeight(Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    Check op = new Check("matmul_backward_weight");
    op.f32(dWeight).activations(dOut, x);
    op.linear(dOut, x, dWeight);
    if (dBias != null) {
      op.f32(dBias).shape(dBias, dWeight.dim(0));
    }
    kernels.matmulBackwardWeight(dWeight, dBias, dOut, x);
  }

  /// See [Kernels#rope].
  public void rope(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions) {
    new Check("rope").rotation(out, x, cos, sin, positions);
    kernels.rope(out, x, cos, sin, positions);
  }

  /// See [Kernels#ropeBackward].
  public void ropeBackward(Tensor dx, Tensor dOut, Tensor cos, Tensor sin, Tensor positions) {
    new Check("rope_backward").rotation(dx, dOut, cos, sin, positions);
    kernels.ropeBackward(dx, dOut, cos, sin, positions);
  }

  /// See [Kernels#normRope].
  public void normRope(
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
    Check op = new Check("norm_rope");
    op.rotation(out, x, cos, sin, positions);
    if ((norm == null) != (rstd == null) || (v == null) != (cache == null)) {
      throw op.error("want a norm with rstd or neither, and values with a cache or neither");
    }
    if (norm != null && rstd != null) {
      op.f32(rstd).f(norm).normOfHeads(x, rstd, norm);
    }
    if (cache != null && v != null) {
      op.activations(out, v, cache.keys(), cache.values()).i32(cache.rows()).same(v, out);
      op.shape(cache.rows(), x.dim(0)).same(cache.values(), cache.keys());
      op.rowsOf(out, x.dim(0), cache.keys()).inside(cache.rows(), cache.keys().dim(0));
    }
    kernels.normRope(out, rstd, x, norm, eps, cos, sin, positions, v, cache);
  }

  /// See [Kernels#attention].
  public void attention(
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    Check op = new Check("attention");
    op.activations(z, q, k, v).f32(lse);
    op.heads(q, k, v, layout, plan).same(z, q).shape(lse, q.dim(0), q.dim(1));
    op.holdsKeys(k, layout);
    if (readout != null) {
      op.readout(readout, q.dim(1), layout.tokens());
    }
    kernels.attention(z, lse, q, k, v, layout, plan, spec, readout);
  }

  /// See [Kernels#attentionBackward].
  public void attentionBackward(
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
    Check op = new Check("attention_backward");
    op.activations(dq, dk, dv, dz, q, k, v, z).f32(lse);
    op.heads(q, k, v, layout, plan).same(dq, q).same(dz, q).same(z, q).same(dk, k).same(dv, v);
    op.shape(lse, q.dim(0), q.dim(1)).holdsKeys(k, layout);
    int end = 0;
    for (int r = 0; r < layout.rows(); r++) {
      if (layout.keyStart(r) < end) {
        throw op.error(
            "keys of row %d begin at %d, want them behind those of the row before, which end at %d"
                .formatted(r, layout.keyStart(r), end));
      }
      end = layout.keyStart(r) + layout.keys(r);
    }
    kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
  }

  /// See [Kernels#headGate].
  public void headGate(Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    new Check("head_gate").activations(out, z).same(out, z).planned(z, layout, plan);
    kernels.headGate(out, z, layout, plan);
  }

  /// See [Kernels#headGateBackward].
  public void headGateBackward(
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    Check op = new Check("head_gate_backward");
    op.activations(dz, dOut, z).same(dz, z).same(dOut, z).planned(z, layout, plan);
    if (dGates != null) {
      op.f32(dGates).shape(dGates, plan.rows(), plan.heads());
    }
    kernels.headGateBackward(dz, dGates, dOut, z, layout, plan);
  }

  /// See [Kernels#swiglu].
  public void swiglu(Tensor out, Tensor gate, Tensor up) {
    new Check("swiglu").activations(out, gate, up).same(gate, out).same(up, out);
    kernels.swiglu(out, gate, up);
  }

  /// See [Kernels#swigluBackward].
  public void swigluBackward(Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    Check op = new Check("swiglu_backward");
    op.activations(dGate, dUp, dOut, gate, up);
    op.same(dGate, gate).same(dUp, gate).same(dOut, gate).same(up, gate);
    kernels.swigluBackward(dGate, dUp, dOut, gate, up);
  }

  /// See [Kernels#tokenLogProbs].
  public void tokenLogProbs(
      Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    new Check("token_log_probs")
        .f32(logps)
        .f32(lse)
        .lmHead(hidden, lmHead, targets)
        .shape(logps, hidden.dim(0))
        .shape(lse, hidden.dim(0));
    kernels.tokenLogProbs(logps, lse, hidden, lmHead, targets);
  }

  /// See [Kernels#tokenLogProbsBackward].
  public void tokenLogProbsBackward(
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse) {
    Check op = new Check("token_log_probs_backward");
    op.activations(dHidden, hidden)
        .f32(dLmHead)
        .f32(dLogps)
        .f32(lse)
        .lmHead(hidden, lmHead, targets);
    op.same(dHidden, hidden).same(dLmHead, lmHead);
    op.shape(dLogps, hidden.dim(0)).shape(lse, hidden.dim(0));
    kernels.tokenLogProbsBackward(dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
  }

  /// See [Kernels#tokenLogProbsAndGradients].
  public void tokenLogProbsAndGradients(
      Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    Check op = new Check("token_log_probs_and_gradients");
    op.f32(logps).f32(lse).activations(dHidden, hidden).f32(dLmHead).f32(dLogps);
    op.lmHead(hidden, lmHead, targets);
    op.shape(logps, hidden.dim(0)).shape(lse, hidden.dim(0)).shape(dLogps, hidden.dim(0));
    op.same(dHidden, hidden).same(dLmHead, lmHead);
    kernels.tokenLogProbsAndGradients(
        logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  /// See [Kernels#drawTokens].
  public int @Nullable [] drawTokens(Tensor logits, List<TokenDraw> draws) {
    new Check("draw_tokens").f32(logits).rank(logits, 2).shape(logits, draws.size(), logits.dim(1));
    return kernels.drawTokens(logits, draws);
  }

  /// See [Kernels#adamW].
  public void adamW(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    new Check("adamw").update(param, grad, m, v, step);
    kernels.adamW(param, grad, m, v, step);
  }

  /// See [Kernels#adamW(Tensor, Tensor, Tensor, Tensor, Tensor, AdamWStep)].
  public void adamW(Tensor weight, Tensor master, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    Check op = new Check("adamw");
    op.type(weight, weight.dtype() == DType.BF16, "BF16");
    op.update(master, grad, m, v, step).same(weight, master);
    kernels.adamW(weight, master, grad, m, v, step);
  }

  /// The checks of one call, all failing with the op's name in front.
  private final class Check {
    private final String op;

    Check(String op) {
      this.op = op;
    }

    IllegalArgumentException error(String what) {
      return new IllegalArgumentException(op + ": " + what);
    }

    Check f32(Tensor t) {
      return type(t, t.dtype() == DType.F32, "F32");
    }

    /// Activations of one call are of one type.
    Check activations(Tensor first, Tensor... others) {
      DType one = first.dtype();
      String wanted =
          kernels.activations(DType.BF16) == DType.BF16 ? "F32 or BF16" : DType.F32.name();
      type(first, one == DType.F32 || one == kernels.activations(one), wanted);
      for (Tensor other : others) {
        type(other, other.dtype() == one, one.name());
      }
      return this;
    }

    /// F32, as logits are, or the type of the activations `x`.
    Check f32OrAs(Tensor t, Tensor x) {
      return type(t, t.dtype() == DType.F32 || t.dtype() == x.dtype(), x.dtype().name());
    }

    Check f(Tensor t) {
      return type(t, t.dtype().isFloat() && !t.dtype().isBlock(), "F32, BF16 or F16");
    }

    /// Matrices of weights may be of block types too.
    Check weight(Tensor t) {
      return type(t, t.dtype().isFloat(), "F32, BF16, F16 or a block type");
    }

    Check i32(Tensor t) {
      return type(t, t.dtype() == DType.I32, "I32");
    }

    private Check type(Tensor t, boolean right, String wanted) {
      if (!right) {
        throw error("%s is %s, want %s".formatted(t.name(), t.dtype(), wanted));
      }
      return this;
    }

    Check shape(Tensor t, long... dims) {
      Shape wanted = Shape.of(dims);
      if (!t.shape().equals(wanted)) {
        throw error("%s is %s, want %s".formatted(t.name(), t.shape(), wanted));
      }
      return this;
    }

    Check same(Tensor t, Tensor model) {
      if (!t.shape().equals(model.shape())) {
        throw error(
            "%s is %s, want %s as %s".formatted(t.name(), t.shape(), model.shape(), model.name()));
      }
      return this;
    }

    Check rank(Tensor t, int rank) {
      if (t.shape().rank() != rank) {
        throw error("%s is %s, want %d axes".formatted(t.name(), t.shape(), rank));
      }
      return this;
    }

    /// `part` is `[count, ...]` where `whole` is `[any, ...]`.
    Check rowsOf(Tensor part, long count, Tensor whole) {
      long[] dims = whole.shape().dims();
      dims[0] = count;
      return shape(part, dims);
    }

    Check inside(Tensor indices, long bound) {
      Tensor onHost = indices.toHost();
      for (long i = 0; i < indices.size(); i++) {
        int index = onHost.getInt(i);
        if (index < 0 || index >= bound) {
          throw new IndexOutOfBoundsException(
              "%s: %s[%d] is %d, want 0 to %d".formatted(op, indices.name(), i, index, bound - 1));
        }
      }
      return this;
    }

    Check update(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
      f32(param).f32(grad).f32(m).f32(v).same(grad, param).same(m, param).same(v, param);
      if (step.step() < 1) {
        throw error("step " + step.step() + ", want at least 1");
      }
      return this;
    }

    Check norm(Tensor x, Tensor rstd, Tensor weight) {
      rank(x, 2).shape(rstd, x.dim(0));
      if (weight.shape().rank() != 1 || weight.dim(0) != x.dim(1)) {
        throw error(
            "weight %s is %s, want [%d] = last dim of x %s"
                .formatted(weight.name(), weight.shape(), x.dim(1), x.shape()));
      }
      return this;
    }

    /// Of every head of x `[N,H,D]`, or of all heads of a token.
    Check normOfHeads(Tensor x, Tensor rstd, Tensor weight) {
      long width = x.dim(1) * x.dim(2);
      if (weight.shape().rank() != 1 || (weight.dim(0) != x.dim(2) && weight.dim(0) != width)) {
        throw error(
            "weight %s is %s, want [%d] = last dim of x %s, or [%d] for all its heads"
                .formatted(weight.name(), weight.shape(), x.dim(2), x.shape(), width));
      }
      return shape(rstd, x.size() / weight.dim(0));
    }

    Check linear(Tensor out, Tensor x, Tensor weight) {
      rank(x, 2).rank(weight, 2).rank(out, 2);
      if (weight.dim(1) != x.dim(1)) {
        throw error(
            "weight %s is %s, want [*, %d] = last dim of %s %s"
                .formatted(weight.name(), weight.shape(), x.dim(1), x.name(), x.shape()));
      }
      return shape(out, x.dim(0), weight.dim(0));
    }

    Check rotation(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions) {
      activations(out, x).f32(cos).f32(sin).i32(positions);
      rank(x, 3).rank(cos, 2).same(out, x).same(sin, cos).shape(positions, x.dim(0));
      if (2 * cos.dim(1) > x.dim(2)) {
        throw error("%s rotates %d of %d elements".formatted(cos.name(), 2 * cos.dim(1), x.dim(2)));
      }
      return inside(positions, cos.dim(0));
    }

    Check planned(Tensor z, BatchLayout layout, HeadPlan plan) {
      rank(z, 3);
      if (z.dim(0) != layout.tokens() || z.dim(1) != plan.heads() || plan.rows() != layout.rows()) {
        throw error(
            "%s is %s, head plan %d rows x %d heads, layout %d rows with %d tokens: they must agree"
                .formatted(
                    z.name(),
                    z.shape(),
                    plan.rows(),
                    plan.heads(),
                    layout.rows(),
                    layout.tokens()));
      }
      return this;
    }

    Check heads(Tensor q, Tensor k, Tensor v, BatchLayout layout, HeadPlan plan) {
      planned(q, layout, plan).rank(k, 3).same(v, k);
      if (k.dim(2) != q.dim(2) || k.dim(1) < 1 || q.dim(1) % k.dim(1) != 0) {
        throw error(
            "%s is %s and %s is %s: want one head dimension and H a multiple of Hkv"
                .formatted(q.name(), q.shape(), k.name(), k.shape()));
      }
      return this;
    }

    /// Whether k has room for the keys of all rows.
    Check holdsKeys(Tensor k, BatchLayout layout) {
      for (int r = 0; r < layout.rows(); r++) {
        long end = (long) layout.keyStart(r) + layout.keys(r);
        if (layout.keyStart(r) < 0 || end > k.dim(0)) {
          throw error(
              "row %d needs keys [%d, %d), but %s holds %d"
                  .formatted(r, layout.keyStart(r), end, k.name(), k.dim(0)));
        }
      }
      return this;
    }

    void readout(AttentionReadout readout, long heads, int tokens) {
      int before = -1;
      for (int query : readout.queries()) {
        if (query <= before || query >= tokens) {
          throw error("read-out query %d, want ascending tokens below %d".formatted(query, tokens));
        }
        before = query;
      }
      long queries = readout.queries().length;
      i32(readout.topPosition()).shape(readout.topPosition(), queries, heads);
      f32(readout.topWeight()).shape(readout.topWeight(), queries, heads);
      int perQuery = queries == 0 ? 0 : readout.spans()[0].length;
      f32(readout.spanMass()).shape(readout.spanMass(), queries, heads, perQuery);
      f32(readout.logSumExp()).shape(readout.logSumExp(), queries, heads);
    }

    Check lmHead(Tensor hidden, Tensor lmHead, Tensor targets) {
      activations(hidden).weight(lmHead).i32(targets).rank(hidden, 2).rank(lmHead, 2);
      shape(targets, hidden.dim(0));
      if (lmHead.dim(1) != hidden.dim(1)) {
        throw error(
            "%s is %s, want [*, %d] = last dim of hidden %s"
                .formatted(lmHead.name(), lmHead.shape(), hidden.dim(1), hidden.shape()));
      }
      return inside(targets, lmHead.dim(0));
    }
  }
}
