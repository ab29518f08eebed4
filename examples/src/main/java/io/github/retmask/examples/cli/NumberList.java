package io.github.retmask.examples.cli;

import io.github.retmask.scoring.NeedleGrid;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// Whole numbers on the command line: `64,96,128`, or `0:5000:20` for 20 numbers evenly from 0 to
/// 5000.
///
/// @param numbers at least one, none negative
record NumberList(List<Integer> numbers) {

  NumberList {
    numbers = List.copyOf(numbers);
  }

  /// `64,96,128`.
  @Override
  public String toString() {
    return numbers.stream().map(Object::toString).collect(Collectors.joining(","));
  }

  /// Reads an option's value.
  static final class Converter implements ITypeConverter<NumberList> {
    @Override
    public NumberList convert(String text) {
      String[] range = text.split(":", -1);
      try {
        if (range.length == 3) {
          int count = number(range[2]);
          return new NumberList(NeedleGrid.evenly(number(range[0]), number(range[1]), count));
        }
        List<Integer> numbers = new ArrayList<>();
        for (String part : text.split(",", -1)) {
          numbers.add(number(part));
        }
        return new NumberList(numbers);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(
            "\"%s\", want whole numbers such as 64,96,128, or FROM:TO:COUNT".formatted(text));
      }
    }

    private static int number(String part) {
      int number = Integer.parseInt(part.strip());
      if (number < 0) {
        throw new IllegalArgumentException("negative");
      }
      return number;
    }
  }
}
