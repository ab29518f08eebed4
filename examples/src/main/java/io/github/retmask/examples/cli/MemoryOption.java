package io.github.retmask.examples.cli;

import io.github.retmask.generate.Generator;
import io.github.retmask.generate.MemoryPlan;
import io.github.retmask.model.Transformer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.TypeConversionException;

/// How much memory generating may take. It never changes a result.
final class MemoryOption {
  @Option(
      names = "--memory",
      paramLabel = "SIZE",
      converter = Converter.class,
      description =
          "What weights, keys, values and activations may take, such as 12g or 900m (default: 7/8"
              + " of what is free).")
  private @Nullable Long bytes;

  /// Limits for a generator. Weights that are in memory already count here, and in no plan.
  Generator.Options limits(Transformer model) {
    Generator.Options defaults = Generator.Options.defaults();
    return bytes == null
        ? defaults
        : defaults.withMemoryBytes(Math.max(1, bytes - MemoryPlan.heldWeights(model)));
  }

  /// Reads `12g`, `900m` or `64k`, in powers of 1024.
  static final class Converter implements ITypeConverter<Long> {
    private static final Pattern SIZE = Pattern.compile("([0-9]{1,9})([kmg])");

    @Override
    public Long convert(String text) {
      Matcher size = SIZE.matcher(text.toLowerCase(java.util.Locale.ROOT));
      if (!size.matches() || Long.parseLong(size.group(1)) == 0) {
        throw new TypeConversionException(
            "\"%s\", want a size such as 12g or 900m".formatted(text));
      }
      int shift = 10 * ("kmg".indexOf(size.group(2)) + 1);
      return Long.parseLong(size.group(1)) << shift;
    }
  }
}
