package io.github.retmask.eval;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.RandomModel;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class GreedyMatchTest {

  @Test
  void agreesWithDecodingTokenByToken() {
    Ops ops = new Ops(new ReferenceBackend().open(1));
    try (TensorArena memory = ops.arena(TensorArena.Lifetime.MODEL)) {
      Transformer model = RandomModel.transformer(RandomModel.plain(), ops, memory, 1);
      HeadMask mask = model.noMask().withGate(List.of(new HeadId(1, 1)), 0);
      List<GreedyMatch.Item> items = new ArrayList<>();
      List<Boolean> wanted = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        int[] prompt = RandomModel.ids(model.config(), 3 + i, i);
        int[] answer = decode(model, mask, prompt, 1 + i % 4);
        int wrong = i % 3 == 0 ? -1 : i % answer.length;
        if (wrong >= 0) {
          answer[wrong] = (answer[wrong] + 1) % model.config().vocabSize();
        }
        items.add(new GreedyMatch.Item(prompt, answer));
        wanted.add(wrong < 0);
      }
      List<Boolean> got = new ArrayList<>();
      for (boolean matched : GreedyMatch.matches(model, mask, items)) {
        got.add(matched);
      }
      assertThat(got).isEqualTo(wanted);
    }
  }

  private static int[] decode(Transformer model, HeadMask mask, int[] prompt, int count) {
    int[] ids = prompt;
    int[] out = new int[count];
    for (int i = 0; i < count; i++) {
      try (TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
        Activations a = model.forward(Batch.of(Batch.Row.whole(ids, mask)), step);
        float[] logits = model.logits(a, step, ids.length - 1).toFloats();
        for (int v = 1; v < logits.length; v++) {
          out[i] = logits[v] > logits[out[i]] ? v : out[i];
        }
      }
      ids = java.util.Arrays.copyOf(ids, ids.length + 1);
      ids[ids.length - 1] = out[i];
    }
    return out;
  }
}
