package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Attention with an online softmax over blocks of keys (Dao et al. 2022).
///
/// Scores are formed with queries side by side in the lanes, so a softmax over keys never crosses
/// lanes. Rows with many new tokens compute ([PrefillAttention]), rows with few stream the cache
/// ([DecodeAttention]); both add up in the same order, which positions alone decide: blocks of
/// [AttentionCall#KEYS] keys, spans of [AttentionCall#SPAN]. Blocks that a head does not see are
/// skipped, skipped heads cost nothing.
final class VectorAttention {
  private VectorAttention() {}

  static void attention(
      WorkerPool pool,
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    AttentionCall call = AttentionCall.of(q, k, v, layout, plan, spec);
    AttentionOutputs outputs =
        new AttentionOutputs(
            call, z.segment(), lse.segment(), AttentionReads.of(readout, call.heads()));
    boolean[] few = new boolean[layout.rows()];
    for (int r = 0; r < few.length; r++) {
      few[r] = DecodeAttention.takes(call, layout.length(r));
    }
    PrefillAttention.run(pool, call, outputs, few);
    DecodeAttention.run(pool, call, outputs, few);
  }

  /// Gradients of [#attention].
  static void backward(
      WorkerPool pool,
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
    AttentionBackward.run(
        pool,
        AttentionCall.of(q, k, v, layout, plan, spec),
        new AttentionBackward.Gradients(
            dq.segment(), dk.segment(), dv.segment(), dz.segment(), z.segment(), lse.segment()));
  }
}
