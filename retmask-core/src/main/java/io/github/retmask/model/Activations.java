package io.github.retmask.model;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// The result of a forward pass, and what its backward needs. Lives as long as the step arena that
/// the pass was given.
public final class Activations {
  final Tensor ids; // I32 [N]
  final Tensor positions; // I32 [N]
  final Map<RopeSpec, Rotation> rotations; // of the specs that depend on the context
  final List<HeadMask> masks; // per row
  final boolean keptGatedOff; // whether gated-off heads attended
  final List<LayerActivations> layers; // per layer
  final List<Tensor> resids; // L+1 of [N,C]: what enters every layer, and what leaves the last
  final Tensor rstd; // [N]
  final Keep keep;
  final @Nullable SharedKeys shared; // where rows have prefixes
  private final BatchLayout layout;
  private final Tensor hidden; // [N,C]
  private final List<AttentionReadout> readouts;

  /// What a forward keeps.
  public enum Keep {
    /// Only its result: layers share one set of buffers.
    RESULT,
    /// Everything that [Transformer#backward] needs.
    FOR_BACKWARD,
    /// That, and the head outputs of gated-off heads, for gradients of the gates.
    FOR_GATE_GRADIENTS,
    /// The input of every layer: [Transformer#backward] computes the layers again, one at a time
    /// (gradient checkpointing, Chen et al. 2016). It takes longer, needs less memory, and gives the
    /// same bits, gradients of gates included.
    LAYER_INPUTS
  }

  Activations(
      Tensor ids,
      Tensor positions,
      Map<RopeSpec, Rotation> rotations,
      List<HeadMask> masks,
      boolean keptGatedOff,
      List<LayerActivations> layers,
      List<Tensor> resids,
      Tensor rstd,
      Tensor hidden,
      Keep keep,
      @Nullable SharedKeys shared,
      BatchLayout layout,
      List<AttentionReadout> readouts) {
    this.ids = ids;
    this.positions = positions;
    this.rotations = rotations;
    this.masks = masks;
    this.keptGatedOff = keptGatedOff;
    this.layers = layers;
    this.resids = resids;
    this.rstd = rstd;
    this.hidden = hidden;
    this.keep = keep;
    this.shared = shared;
    this.layout = layout;
    this.readouts = readouts;
  }

  /// Where the rows lie.
  public BatchLayout layout() {
    return layout;
  }

  /// The final normalised hidden states, `[N,C]`: what lm_head reads.
  public Tensor hidden() {
    return hidden;
  }

  /// One read-out per layer; empty when none were asked for.
  public List<AttentionReadout> readouts() {
    return readouts;
  }
}
