package io.github.retmask.benchmarks.peers;

import io.github.retmask.benchmarks.RooflineProbe;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;

/// The machine itself: a prompt's multiply-adds in registers, and a token's weights read from the
/// mapped file, with nothing else done.
///
/// Weights are read once per token, so a batch of one cannot be faster unless a cache holds them. Of
/// attention the additions and multiplications are counted, not the bytes of keys and values.
final class LimitGeneration implements Generation {
  static final String ENGINE = "limit";

  private final ModelFolder model;
  private final int threads;
  private final MemorySegment weights; // as many bytes of the model's file as a token reads

  LimitGeneration(ModelFolder model, int threads) throws IOException {
    this.model = model;
    this.threads = threads;
    Path file = model.forRetmask();
    Path weightFile = Files.isDirectory(file) ? file.resolve("model.safetensors") : file;
    long bytes = model.type().bytes(layerElements() + headElements());
    try (FileChannel channel = FileChannel.open(weightFile)) {
      weights = channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes, Arena.global());
    }
  }

  /// Elements of the matrices of all layers.
  private long layerElements() {
    long[] n = model.sizes();
    long kv = n[1] / n[2] * n[3];
    return n[0] * n[1] * (2 * n[1] + 2 * kv + 3 * n[4]);
  }

  /// Elements of the matrix that gives the logits.
  private long headElements() {
    long[] n = model.sizes();
    return n[1] * n[5];
  }

  /// Additions and multiplications until the first token: all layers for all tokens, logits for the
  /// last.
  private double flops(int prompt) {
    long[] n = model.sizes();
    double pairs = 0.5 * prompt * (prompt + 1.0);
    return 2.0 * prompt * layerElements() + 2.0 * headElements() + 4.0 * n[0] * n[1] * pairs;
  }

  @Override
  public Result generate(int prompt, int tokens) {
    try {
      long begin = System.nanoTime();
      RooflineProbe.compute(threads, flops(prompt));
      long first = System.nanoTime();
      for (int token = 1; token < tokens; token++) {
        RooflineProbe.read(weights, threads);
      }
      return new Result((first - begin) / 1e9, (System.nanoTime() - first) / 1e9, new int[0]);
    } catch (InterruptedException e) {
      throw new IllegalStateException("interrupted", e);
    }
  }
}
