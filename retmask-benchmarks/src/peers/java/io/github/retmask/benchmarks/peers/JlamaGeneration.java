package io.github.retmask.benchmarks.peers;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import java.util.Arrays;
import java.util.Optional;

/// Jlama with its native kernels, which are right for batches of a multiple of 5 rows, or of fewer
/// than 5: the prompt is cut accordingly.
@SuppressWarnings("rawtypes") // its tensors are handed around without their type arguments
final class JlamaGeneration implements Generation {
  /// To be set before its classes are: the largest batch below its own 256 that is right.
  static final String BATCH = "-Djlama.max_batch_size=255";

  private static final int ROWS = 5;

  private final AbstractModel model;
  private final KvBufferCache caches;

  JlamaGeneration(ModelFolder folder, int threads) {
    model =
        ModelSupport.loadModel(
            folder.checkpoint().toFile(),
            null,
            DType.F32,
            DType.valueOf(folder.dtype()),
            Optional.empty(),
            Optional.of(threads));
    caches = new KvBufferCache(model);
  }

  @Override
  public Result generate(int prompt, int tokens) {
    int[] ids = Prompts.ids(prompt);
    int whole = prompt / ROWS * ROWS;
    int[] said = new int[tokens];
    long begin = System.nanoTime();
    try (KvBufferCache.KvBuffer kv = caches.getEphemeralKvBuffer();
        AbstractTensor logits = model.makeDenseTensor(model.getConfig().vocabularySize)) {
      AbstractTensor last = whole > 0 ? read(Arrays.copyOf(ids, whole), 0, kv) : null;
      if (whole < prompt) {
        if (last != null) {
          last.close();
        }
        last = read(Arrays.copyOfRange(ids, whole, prompt), whole, kv);
      }
      said[0] = model.sample(last.slice(last.shape().first() - 1), 0f, 0.5f, logits);
      last.close();
      long first = System.nanoTime();
      for (int i = 1; i < tokens; i++) {
        try (AbstractTensor hidden =
            model.forward(said[i - 1], prompt + i - 1, kv, Optional.empty())) {
          said[i] = model.sample(hidden, 0f, 0.5f, logits);
        }
      }
      return new Result((first - begin) / 1e9, (System.nanoTime() - first) / 1e9, said);
    }
  }

  private AbstractTensor read(int[] ids, int position, KvBufferCache.KvBuffer kv) {
    return model.batchForward(ids, position, kv);
  }
}
