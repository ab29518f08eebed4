package io.github.retmask.examples.cli;

import io.github.retmask.backend.Ops;
import io.github.retmask.io.Quantization;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.TypeConversionException;

/// The model of a command that runs it and does not write it: its weights may be rounded.
final class InferenceOptions extends ModelOptions {
  private static final long UNIT = 1_000_000;

  @Option(
      names = "--quantize",
      paramLabel = "TYPE",
      converter = Converter.class,
      description =
          "Round matrices to q8_0 or q4_0 while they are loaded, into memory (default: as stored).")
  private @Nullable Quantization quantization;

  @Override
  Session open(Console console) throws IOException {
    Quantization to = quantization;
    return to == null
        ? super.open(console)
        : open(console, (path, ops) -> quantized(path, ops, to, console));
  }

  private static PretrainedModel quantized(Path path, Ops ops, Quantization to, Console console)
      throws IOException {
    try (ProgressMeter.Late meter =
        new ProgressMeter.Late(console, "quantize", "million weights")) {
      return PretrainedModel.openQuantized(
          path, ops, to, (done, all) -> meter.at(done / UNIT, all / UNIT));
    }
  }

  boolean isQuantized() {
    return quantization != null;
  }

  /// Adds what determines a result to `options`.
  void describe(Map<String, String> options) {
    if (quantization != null) {
      options.put("quantize", quantization.label());
    }
  }

  /// Reads `q8_0` or `q4_0`.
  static final class Converter implements ITypeConverter<Quantization> {
    @Override
    public Quantization convert(String text) {
      return Arrays.stream(Quantization.values())
          .filter(one -> one.label().equals(text))
          .findFirst()
          .orElseThrow(
              () -> new TypeConversionException("\"%s\", want q8_0 or q4_0".formatted(text)));
    }
  }
}
