package io.github.retmask.benchmarks;

import io.github.retmask.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/// Writes a checkpoint of the size of a published model with random BF16 weights, for measuring what
/// opening and running such a model takes.
///
/// `LargeCheckpoint SHAPE FOLDER`, the shape being 1b, 3b or 8b.
public final class LargeCheckpoint {
  private LargeCheckpoint() {}

  static void main(String[] args) throws IOException {
    if (args.length != 2) {
      System.err.println("usage: LargeCheckpoint 1b|3b|8b FOLDER");
      System.exit(2);
    }
    Path file = named(args[0]).writeTo(Path.of(args[1]), DType.BF16);
    System.out.printf(Locale.ROOT, "%s: %,d bytes%n", file, Files.size(file));
  }

  /// Sizes of Llama 3.2 1B and 3B and of Llama 3.1 8B, as their config.json give them.
  private static RandomLlama named(String name) {
    return switch (name.toLowerCase(Locale.ROOT)) {
      case "1b" -> llama3(16, 2048, 32, 64, 8192, true);
      case "3b" -> llama3(28, 3072, 24, 128, 8192, true);
      case "8b" -> llama3(32, 4096, 32, 128, 14336, false);
      default -> throw new IllegalArgumentException("shape \"" + name + "\": want 1b, 3b or 8b");
    };
  }

  private static RandomLlama llama3(
      int layers, int hidden, int heads, int headDim, int intermediate, boolean isTied) {
    return new RandomLlama(
        layers,
        hidden,
        heads,
        8,
        headDim,
        intermediate,
        128_256,
        isTied,
        131_072,
        """
        "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}""");
  }
}
