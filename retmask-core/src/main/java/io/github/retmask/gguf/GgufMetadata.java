package io.github.retmask.gguf;

import io.github.retmask.gguf.GgufValue.Flag;
import io.github.retmask.gguf.GgufValue.Items;
import io.github.retmask.gguf.GgufValue.Real;
import io.github.retmask.gguf.GgufValue.Text;
import io.github.retmask.gguf.GgufValue.Whole;
import io.github.retmask.io.FormatException;
import java.nio.file.Path;
import java.util.List;
import java.util.SequencedMap;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// Typed, checked access to the metadata of a file. Every failure names the file, the key, what came
/// and what was wanted.
record GgufMetadata(Path file, SequencedMap<String, GgufValue> values) {

  /// Whether the key is there.
  boolean has(String key) {
    return values.containsKey(key);
  }

  /// A required text.
  String text(String key) {
    return read(
        key,
        value -> {
          if (!(value instanceof Text text)) {
            throw wrong(value, "a text");
          }
          return GgufValue.utf8(text.bytes());
        });
  }

  /// A text, or `absent` where the key is missing.
  @Nullable String textOr(String key, @Nullable String absent) {
    return has(key) ? text(key) : absent;
  }

  /// A required integer of at least `min`, of any width; also an array, one item per layer, whose
  /// items all agree.
  int integer(String key, int min) {
    return read(
        key,
        value -> {
          long whole =
              switch (value) {
                case Whole number -> number.value();
                case Items items -> common(items);
                default -> throw wrong(value, "an integer");
              };
          if (whole < min || whole > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                "is %d, want an integer >= %d".formatted(whole, min));
          }
          return (int) whole;
        });
  }

  private static long common(Items items) {
    long[] all = items.wholes();
    for (long one : all) {
      if (one != all[0]) {
        throw new IllegalArgumentException(
            "differs between layers (%d and %d), which is not supported".formatted(all[0], one));
      }
    }
    if (all.length == 0) {
      throw new IllegalArgumentException("is an empty array, want an integer");
    }
    return all[0];
  }

  /// An integer of at least `min`, or `absent` where the key is missing.
  int integerOr(String key, int min, int absent) {
    return has(key) ? integer(key, min) : absent;
  }

  /// A required finite real number.
  double number(String key) {
    return read(
        key,
        value -> {
          if (!(value instanceof Real real)) {
            throw wrong(value, "a real number");
          }
          if (!Double.isFinite(real.value())) {
            throw new IllegalArgumentException("is " + real.value() + ", want a finite number");
          }
          // 1e-5 stored in 32 bits means 1e-5: the shortest decimal that gives these bits.
          return real.kind() == GgufValue.Kind.FLOAT32
              ? Double.parseDouble(Float.toString((float) real.value()))
              : real.value();
        });
  }

  /// A truth value, or `absent` where the key is missing.
  boolean flagOr(String key, boolean absent) {
    return has(key) ? flag(key) : absent;
  }

  private boolean flag(String key) {
    return read(
        key,
        value -> {
          if (!(value instanceof Flag flag)) {
            throw wrong(value, "a BOOL");
          }
          return flag.value();
        });
  }

  /// Whether the value is a list.
  boolean isArray(String key) {
    return values.get(key) instanceof Items;
  }

  /// A required list of texts.
  List<String> texts(String key) {
    return items(key, Items::texts);
  }

  /// A required list of integers.
  long[] wholes(String key) {
    return items(key, Items::wholes);
  }

  /// A required list of real numbers.
  double[] reals(String key) {
    return items(key, Items::reals);
  }

  /// A required list of truth values.
  boolean[] flags(String key) {
    return items(key, Items::flags);
  }

  private <T> T items(String key, Function<Items, T> read) {
    return read(
        key,
        value -> {
          if (!(value instanceof Items items)) {
            throw wrong(value, "an array");
          }
          return read.apply(items);
        });
  }

  private <T> T read(String key, Function<GgufValue, T> read) {
    GgufValue value = values.get(key);
    if (value == null) {
      throw error(key, "is missing");
    }
    try {
      return read.apply(value);
    } catch (IllegalArgumentException e) {
      throw new FormatException("%s: %s %s".formatted(file, key, e.getMessage()), e);
    }
  }

  private static IllegalArgumentException wrong(GgufValue value, String wanted) {
    return new IllegalArgumentException("is %s, want %s".formatted(value.kind(), wanted));
  }

  /// A failure about one key.
  FormatException error(String key, String what) {
    return new FormatException("%s: %s %s".formatted(file, key, what));
  }
}
