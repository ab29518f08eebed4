package io.github.retmask.examples.cli;

import io.github.retmask.io.FormatException;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// Token ids on the command line: `1,2,3`, or `@FILE` with ids between commas or white space.
///
/// @param given the ids, when listed
/// @param file where they stand, otherwise
record IdList(int[] given, @Nullable Path file) {

  /// The ids, checked against a vocabulary.
  ///
  /// @throws UsageException on an id outside the vocabulary
  /// @throws IOException when the file cannot be read
  int[] ids(int vocabulary) throws IOException {
    int[] ids = file == null ? given : read(file);
    for (int i = 0; i < ids.length; i++) {
      if (ids[i] < 0 || ids[i] >= vocabulary) {
        throw new UsageException(
            "--ids: id %d at place %d, want 0 to %d".formatted(ids[i], i, vocabulary - 1));
      }
    }
    return ids;
  }

  private static int[] read(Path file) throws IOException {
    String text;
    try {
      text = Files.readString(file).strip();
    } catch (CharacterCodingException e) {
      throw new FormatException(file + ": not UTF-8 text, want token ids, such as 1,2,3", e);
    }
    try {
      return parse(text.split("[\\s,]+"));
    } catch (NumberFormatException e) {
      throw new UsageException("--ids @%s: %s".formatted(file, e.getMessage()));
    }
  }

  private static int[] parse(String[] parts) {
    int[] ids = new int[parts.length];
    for (int i = 0; i < ids.length; i++) {
      try {
        ids[i] = Integer.parseInt(parts[i].strip());
      } catch (NumberFormatException e) {
        throw new NumberFormatException(
            "\"%s\" at place %d, want token ids, such as 1,2,3"
                .formatted(Failures.oneLine(parts[i]), i));
      }
    }
    return ids;
  }

  /// `1,2,3`.
  static String text(int[] ids) {
    return Arrays.stream(ids).mapToObj(Integer::toString).collect(Collectors.joining(","));
  }

  /// Reads an option's value.
  static final class Converter implements ITypeConverter<IdList> {
    @Override
    public IdList convert(String text) {
      if (text.startsWith("@")) {
        return new IdList(new int[0], Path.of(text.substring(1)));
      }
      try {
        return new IdList(parse(text.split(",", -1)), null);
      } catch (NumberFormatException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }
}
