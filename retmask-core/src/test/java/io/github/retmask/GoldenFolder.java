package io.github.retmask;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;

/// Tiny checkpoints with float64 results among the test resources, which may be in a jar and cannot
/// be mapped there.
public final class GoldenFolder {
  public static final String[] FAMILIES = {
    "llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3"
  };

  private static final List<String> FILES =
      List.of(
          "config.json",
          "config_v5.json",
          "config_saved.json",
          "model.safetensors",
          "model.safetensors.index.json",
          "model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors",
          "tokenizer.json",
          "tokenizer_config.json",
          "golden.json",
          "golden.safetensors",
          "train.json",
          "train.safetensors",
          "transformers.json",
          "transformers.safetensors");

  private GoldenFolder() {}

  /// Copies a family's files.
  public static Path copy(String family, Path empty) throws IOException {
    for (String name : FILES) {
      try (InputStream in =
          GoldenFolder.class.getResourceAsStream("/goldens/" + family + "/" + name)) {
        if (in != null) {
          Files.copy(in, empty.resolve(name));
        }
      }
    }
    return empty;
  }

  /// The same with one of its other configurations in the place of config.json.
  public static Path copy(String family, String config, Path empty) throws IOException {
    copy(family, empty);
    if (!config.equals("config.json")) {
      Files.move(
          empty.resolve(config), empty.resolve("config.json"), StandardCopyOption.REPLACE_EXISTING);
    }
    return empty;
  }
}
