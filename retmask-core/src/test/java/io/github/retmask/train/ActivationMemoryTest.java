package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import org.junit.jupiter.api.Test;

/// What a further layer adds to the memory of a step. A tensor's bytes are whole cache lines here
/// because there are 16 tokens.
class ActivationMemoryTest {
  private static final int TOKENS = 16;

  private final Kernels kernels = new ReferenceBackend().open(1);
  private final Ops ops = new Ops(kernels);

  /// Floats of a token that `repeats` times three layers add to a step.
  private long floats(int repeats, GradientCheckpointing checkpointing) {
    ModelConfig config = MixedModel.config(repeats);
    try (TensorArena memory = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
        Transformer model = new Transformer(config, MixedModel.weights(config, 1, memory), ops)) {
      int[] ids = new int[TOKENS + 1];
      LabelledBatch batch =
          LabelledBatch.of(
              List.of(Example.of(ids)), HeadMask.none(config.layerCount(), config.heads()));
      Loss loss = CrossEntropyLoss.over(batch);
      Weights grads = model.weights().map(t -> memory.floats(t.name(), t.shape().dims()));
      LogProbs.gradients(grads, null, model, batch, loss, loss.units(), checkpointing, step);
      return step.usedBytes() / Float.BYTES / TOKENS;
    }
  }

  private long further(GradientCheckpointing checkpointing) {
    long added = floats(3, checkpointing) - floats(2, checkpointing);
    assertThat(floats(4, checkpointing) - floats(3, checkpointing)).isEqualTo(added);
    return added;
  }

  @Test
  void aCheckpointedLayerTakesItsInputAlone() {
    assertThat(further(GradientCheckpointing.ON)).isEqualTo(3 * MixedModel.config().hiddenSize());
  }

  @Test
  void aKeptLayerTakesWhatItsBackwardCannotMakeAgain() {
    ModelConfig config = MixedModel.config();
    int q = config.heads() * config.headDim();
    int kv = config.kvHeads() * config.headDim();
    int residMidAndPost = 2 * config.hiddenSize();
    int gateAndUp = 2 * config.intermediateSize();
    int rstds = 2;
    int plain =
        2 * q + 2 * kv + config.heads() + residMidAndPost + gateAndUp + rstds; // q z k v lse
    int perHead = q + kv + config.heads() + config.kvHeads(); // rotated, and rstds of q/k norm
    int whole = q + kv + 2;
    int postNorm = 2 * config.hiddenSize(); // outputs of both blocks
    assertThat(further(GradientCheckpointing.OFF))
        .isEqualTo(3 * plain + perHead + whole + postNorm);
  }
}
