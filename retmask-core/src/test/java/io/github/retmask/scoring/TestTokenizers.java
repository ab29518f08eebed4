package io.github.retmask.scoring;

import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;

/// Tokenizers of the golden checkpoints.
final class TestTokenizers {
  static final List<String> FAMILIES =
      List.of("llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3");

  private TestTokenizers() {}

  static Tokenizer of(String family) throws IOException {
    try {
      return Tokenizer.load(
          Path.of(
              Objects.requireNonNull(TestTokenizers.class.getResource("/goldens/" + family), family)
                  .toURI()));
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }
}
