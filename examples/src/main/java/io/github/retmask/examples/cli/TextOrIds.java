package io.github.retmask.examples.cli;

import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// A text to read, as text or as token ids.
final class TextOrIds {
  @Option(
      names = "--ids",
      paramLabel = "IDS",
      required = true,
      converter = IdList.Converter.class,
      description = "Token ids: 1,2,3 or @FILE.")
  private @Nullable IdList ids;

  @Option(
      names = "--text",
      paramLabel = "TEXT",
      required = true,
      description = "Text, encoded with the special tokens that the tokenizer adds.")
  private @Nullable String text;

  /// The token ids, at least one.
  ///
  /// @throws UsageException on an id outside the vocabulary or a text without tokens
  int[] tokens(PretrainedModel model) throws IOException {
    if (ids != null) {
      return ids.ids(model.config().vocabSize());
    }
    int[] encoded = model.tokenizer().encode(text == null ? "" : text, true);
    if (encoded.length == 0) {
      throw new UsageException("--text: the text has no tokens");
    }
    return encoded;
  }
}
