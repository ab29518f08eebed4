package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.benchmarks.RandomLlama;
import io.github.retmask.gguf.GgufExport;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/// One random model in the forms that the engines read: checkpoint folders and GGUF files.
///
/// @param root where they are
/// @param shape LxCxHxHkvxFxV
/// @param dtype F32, BF16 or Q8_0: of the matrices
record ModelFolder(Path root, String shape, String dtype) {
  private static final int CONTEXT = 8192;

  /// The model of that shape: untied, with D = C / H.
  RandomLlama model() {
    int[] n = numbers();
    return new RandomLlama(
        n[0], n[1], n[2], n[3], n[1] / n[2], n[4], n[5], false, CONTEXT, "\"rope_theta\": 10000.0");
  }

  /// Its numbers: layers, C, heads, kv heads, F, V.
  long[] sizes() {
    return Arrays.stream(numbers()).asLongStream().toArray();
  }

  private int[] numbers() {
    int[] n = PeerOptions.numbers(shape);
    if (n.length != 6) {
      throw new IllegalArgumentException("shape " + shape + ": want LxCxHxHkvxFxV");
    }
    return n;
  }

  DType type() {
    return DType.valueOf(dtype);
  }

  /// In Hugging Face's layout; of F32 or BF16.
  Path checkpoint() {
    return root.resolve(shape).resolve(dtype.toLowerCase(java.util.Locale.ROOT));
  }

  /// The same weights in a GGUF file.
  Path gguf() {
    return root.resolve(shape).resolve(dtype.toLowerCase(java.util.Locale.ROOT) + ".gguf");
  }

  /// What retmask opens.
  Path forRetmask() {
    return type() == DType.Q8_0 ? gguf() : checkpoint();
  }

  /// Writes what is missing of both forms.
  void write() throws IOException {
    ModelFolder plain = type() == DType.Q8_0 ? new ModelFolder(root, shape, "F32") : this;
    if (!Files.exists(plain.checkpoint().resolve("model.safetensors"))) {
      model().writeTo(plain.checkpoint(), plain.type());
    }
    if (!Files.exists(gguf())) {
      try (Kernels kernels = Backends.open();
          PretrainedModel model = PretrainedModel.open(plain.checkpoint(), new Ops(kernels))) {
        new GgufExport(model.files(), model.tokenizer(), model.eosIds())
            .writeTo(gguf(), type(), (_, _) -> {});
      }
    }
  }
}
