package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.Arrays;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/// [TorchLlama], greedy.
final class TorchGeneration implements Generation {
  private static final int POSITIONS = 8192;

  private final NoGradGuard noGradients = new NoGradGuard();
  private final TorchLlama model;

  TorchGeneration(ModelFolder folder, int threads) throws IOException {
    torch.set_num_threads(threads);
    model = new TorchLlama(folder, POSITIONS);
  }

  @Override
  @SuppressWarnings("try") // scopes free what was made inside them
  public Result generate(int prompt, int tokens) {
    int[] said = new int[tokens];
    try (PointerScope all = new PointerScope()) {
      TorchLlama.Cache cache = model.cache(prompt + tokens);
      long[] ids = Arrays.stream(Prompts.ids(prompt)).asLongStream().toArray();
      long begin = System.nanoTime();
      said[0] = model.next(model.forward(torch.tensor(ids).view(1, prompt), 0, cache, null));
      long first = System.nanoTime();
      for (int i = 1; i < tokens; i++) {
        try (PointerScope step = new PointerScope()) {
          Tensor id = torch.tensor((long) said[i - 1]).view(1, 1);
          said[i] = model.next(model.forward(id, prompt + i - 1, cache, null));
        }
      }
      return new Result((first - begin) / 1e9, (System.nanoTime() - first) / 1e9, said);
    }
  }
}
