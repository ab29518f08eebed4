package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadId;
import io.github.retmask.io.HeadListFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// Heads on the command line: `3-1,3-4`, or `@FILE` with a list of them.
///
/// @param given the heads, when listed
/// @param file where they stand, otherwise
record HeadList(List<HeadId> given, @Nullable Path file) {

  /// The heads.
  ///
  /// @throws IOException when the file cannot be read
  List<HeadId> heads() throws IOException {
    return file == null ? given : HeadListFile.read(file);
  }

  /// Reads an option's value.
  static final class Converter implements ITypeConverter<HeadList> {
    @Override
    public HeadList convert(String text) {
      if (text.startsWith("@")) {
        return new HeadList(List.of(), Path.of(text.substring(1)));
      }
      List<HeadId> heads = new ArrayList<>();
      for (String part : text.split(",", -1)) {
        try {
          HeadId head = HeadId.parse(part);
          if (heads.contains(head)) {
            throw new TypeConversionException("head " + head + " occurs twice");
          }
          heads.add(head);
        } catch (IllegalArgumentException e) {
          throw new TypeConversionException(e.getMessage() + "; a file of heads is given as @FILE");
        }
      }
      return new HeadList(heads, null);
    }
  }
}
