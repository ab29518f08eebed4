package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.Arrays;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AdamW;
import org.bytedeco.pytorch.AdamWOptions;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;

/// Autograd over [TorchLlama].
final class TorchTraining implements Training {
  private static final int POSITIONS = 8192;

  private final TorchLlama model;
  private final AdamW optimizer;

  TorchTraining(ModelFolder folder, int threads) throws IOException {
    torch.set_num_threads(threads);
    model = new TorchLlama(folder, POSITIONS);
    TensorVector parameters = model.parameters();
    for (long i = 0; i < parameters.size(); i++) {
      parameters.get(i).requires_grad_(true);
    }
    AdamWOptions options = new AdamWOptions(LEARNING_RATE);
    options.weight_decay().put(WEIGHT_DECAY);
    optimizer = new AdamW(parameters, options);
  }

  @Override
  @SuppressWarnings("try") // the scope frees what was made inside it
  public double step(int tokens) {
    try (PointerScope all = new PointerScope()) {
      long[] ids = Arrays.stream(Prompts.ids(tokens + 1)).asLongStream().toArray();
      Tensor x = torch.tensor(Arrays.copyOf(ids, tokens)).view(1, tokens);
      Tensor y = torch.tensor(Arrays.copyOfRange(ids, 1, tokens + 1));
      optimizer.zero_grad();
      Tensor logits = model.logits(model.forward(x, 0, null, null)).view(tokens, model.vocab);
      Tensor loss = torch.cross_entropy_loss(logits, y);
      double value = loss.item_float();
      loss.backward();
      optimizer.step();
      return value;
    }
  }
}
