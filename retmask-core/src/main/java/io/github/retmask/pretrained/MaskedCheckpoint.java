package io.github.retmask.pretrained;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.IfPresent;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/// A head mask written into weights, for programs that know no masks: a gate g scales the head's
/// columns of `o_proj.weight`, `[C, H D]`, which is where its output enters the residual stream.
/// YoumiMa/RetMask's `mask_retrieval_head.py` does the same with g = 0, but also zeroes a part of an
/// `o_proj` bias, which belongs to no head; here a bias stays.
public final class MaskedCheckpoint {
  private MaskedCheckpoint() {}

  /// Writes a masked copy of a checkpoint. Only columns of masked heads differ; a gate of 0 gives the
  /// logits of the mask, other gates do up to the rounding of scaled weights to the stored type.
  ///
  /// @param target folder to write; not the model's own
  /// @throws IllegalArgumentException when a head's kind or phase cannot be said by weights
  /// @throws IOException one line that names the folder and says why it was not written
  public static void save(PretrainedModel model, HeadMask mask, Path target, IfPresent ifPresent)
      throws IOException {
    requireExpressible(mask);
    Checkpoint source = model.checkpoint();
    try (HostArena arena = new HostArena()) {
      Map<String, Tensor> changed = new HashMap<>();
      for (HeadId id : mask.touched()) {
        Tensor stored = model.weights().layers().get(id.layer()).oProj().weight();
        boolean exact = mask.gate(id.layer(), id.head()) == 0f;
        Tensor copy = changed.get(stored.name());
        if (copy == null) {
          copy = copy(stored, exact ? stored.dtype() : DType.F32, arena);
        } else if (!exact && copy.dtype() != DType.F32) {
          copy = copy(copy, DType.F32, arena);
        }
        changed.put(stored.name(), copy);
        scale(copy, id.head(), mask.gate(id.layer(), id.head()), model.config());
      }
      source.save(target, changed, ifPresent);
    }
  }

  private static void requireExpressible(HeadMask mask) {
    if (mask.phase() == MaskPhase.DECODE_ONLY) {
      throw new IllegalArgumentException(
          "a checkpoint holds a mask everywhere, not in decoding only");
    }
    for (HeadId id : mask.touched()) {
      if (!(mask.kind(id.layer(), id.head()) instanceof HeadKind.Full)) {
        throw new IllegalArgumentException(
            "head %s: a checkpoint can hold gates, not %s"
                .formatted(id, mask.kind(id.layer(), id.head())));
      }
    }
  }

  /// A copy of the same type, or widened to F32.
  private static Tensor copy(Tensor stored, DType dtype, HostArena arena) {
    Tensor copy = arena.allocate(stored.name(), dtype, stored.shape().dims());
    if (dtype == stored.dtype()) {
      MemorySegment.copy(stored.segment(), 0, copy.segment(), 0, stored.storage().bytes());
    } else {
      for (long i = 0; i < stored.size(); i++) {
        copy.set(i, stored.get(i));
      }
    }
    return copy;
  }

  /// Scales columns `[head D, (head + 1) D)`; a gate of 0 writes zeros whatever is there.
  private static void scale(Tensor weight, int head, float gate, ModelConfig config) {
    long d = config.headDim();
    for (long row = 0; row < weight.dim(0); row++) {
      long from = row * weight.dim(1) + head * d;
      if (gate == 0f) {
        int bytes = weight.dtype().bytes();
        weight.segment().asSlice(from * bytes, d * bytes).fill((byte) 0);
      } else {
        for (long i = from; i < from + d; i++) {
          weight.set(i, weight.get(i) * gate);
        }
      }
    }
  }
}
