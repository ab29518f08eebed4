package io.github.retmask.examples.cli;

import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.TypeConversionException;

/// `--quantize` of commands that train weights or write them: it is refused with the reason.
final class NoQuantizeOption {
  @Option(names = "--quantize", hidden = true, converter = Refusal.class)
  private String refused = "";

  /// Refuses every value.
  static final class Refusal implements ITypeConverter<String> {
    @Override
    public String convert(String text) {
      throw new TypeConversionException(
          "this command works on the weights as they are stored; only commands that run a model round them");
    }
  }
}
