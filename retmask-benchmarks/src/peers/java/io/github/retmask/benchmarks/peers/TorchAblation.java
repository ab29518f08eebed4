package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.Arrays;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/// One pass of [TorchLlama] per head.
final class TorchAblation implements Ablation {
  private static final int POSITIONS = 8192;

  private final NoGradGuard noGradients = new NoGradGuard();
  private final TorchLlama model;

  TorchAblation(ModelFolder folder, int threads) throws IOException {
    torch.set_num_threads(threads);
    model = new TorchLlama(folder, POSITIONS);
  }

  @Override
  @SuppressWarnings("try") // scopes free what was made inside them
  public int[] sweep(int prompt, int[] heads) {
    long[] ids = Arrays.stream(Prompts.ids(prompt)).asLongStream().toArray();
    int[] next = new int[heads.length];
    for (int i = 0; i < next.length; i++) {
      try (PointerScope pass = new PointerScope()) {
        float[] gate = new float[model.heads];
        Arrays.fill(gate, 1f);
        gate[heads[i] % model.heads] = 0f;
        Tensor[] gates = new Tensor[model.layers];
        gates[heads[i] / model.heads] = torch.tensor(gate).view(1, model.heads, 1, 1);
        next[i] = model.next(model.forward(torch.tensor(ids).view(1, prompt), 0, null, gates));
      }
    }
    return next;
  }
}
