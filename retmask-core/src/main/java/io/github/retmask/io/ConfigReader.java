package io.github.retmask.io;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Typed, checked access to a JSON object such as config.json. Every failure names the file, the
/// key, what came and what was wanted. JSON null counts as absent.
public final class ConfigReader {
  private final JsonNode node;
  private final String where;
  private final String prefix;

  /// Reads `node`, which came from `file`.
  ///
  /// @throws FormatException when it is not an object
  public ConfigReader(JsonNode node, String file) {
    this(node, file, "");
  }

  private ConfigReader(JsonNode node, String file, String prefix) {
    this.node = node;
    this.where = file;
    this.prefix = prefix;
    if (!node.isObject()) {
      String name = prefix.isEmpty() ? "content" : prefix.substring(0, prefix.length() - 1);
      throw new FormatException(
          "%s: %s is %s, want a JSON object".formatted(file, name, shown(node)));
    }
  }

  /// The object itself.
  public JsonNode json() {
    return node;
  }

  /// Whether the key is there and not null.
  public boolean has(String key) {
    return node.hasNonNull(key);
  }

  /// Whether the key is there and null, where that says something else than its absence.
  public boolean isNull(String key) {
    return node.path(key).isNull();
  }

  /// The one of two spellings of a key that is there, such as `dtype` and the older `torch_dtype`; the
  /// newer one where neither is.
  ///
  /// @throws FormatException when both are there and differ
  public String spelled(String newer, String older) {
    if (has(newer) && has(older) && !node.get(newer).equals(node.get(older))) {
      throw error(
          newer,
          "is %s, but %s%s, the older name of it, is %s"
              .formatted(shown(node.get(newer)), prefix, older, shown(node.get(older))));
    }
    return !has(newer) && has(older) ? older : newer;
  }

  /// A required integer of at least `min`.
  public int integer(String key, int min) {
    JsonNode value = required(key);
    if (!value.isIntegralNumber() || !value.canConvertToInt() || value.intValue() < min) {
      throw error(key, "is " + shown(value) + ", want an integer >= " + min);
    }
    return value.intValue();
  }

  /// An integer of at least `min`, or `absent` where the key is missing.
  public int integer(String key, int min, int absent) {
    return has(key) ? integer(key, min) : absent;
  }

  /// A required integer from `min` to `max`, for counts that a broken file must not turn into memory.
  public int integerBetween(String key, int min, int max) {
    int value = integer(key, min);
    if (value > max) {
      throw error(key, "is %d, want an integer from %d to %d".formatted(value, min, max));
    }
    return value;
  }

  /// A required finite number.
  public double number(String key) {
    JsonNode value = required(key);
    if (!value.isNumber() || !Double.isFinite(value.doubleValue())) {
      throw error(key, "is " + shown(value) + ", want a finite number");
    }
    return value.doubleValue();
  }

  /// A finite number, or `absent` where the key is missing.
  public double number(String key, double absent) {
    return has(key) ? number(key) : absent;
  }

  /// A required finite number above 0.
  public double positive(String key) {
    double value = number(key);
    if (!(value > 0)) {
      throw error(key, "is " + shown(node.get(key)) + ", want a number above 0");
    }
    return value;
  }

  /// A finite number above 0, or `absent` where the key is missing.
  public double positive(String key, double absent) {
    return has(key) ? positive(key) : absent;
  }

  /// A boolean, or `absent` where the key is missing.
  public boolean flag(String key, boolean absent) {
    if (!has(key)) {
      return absent;
    }
    JsonNode value = node.get(key);
    if (!value.isBoolean()) {
      throw error(key, "is " + shown(value) + ", want true or false");
    }
    return value.booleanValue();
  }

  /// A required string.
  public String text(String key) {
    JsonNode value = required(key);
    if (!value.isTextual()) {
      throw error(key, "is " + shown(value) + ", want a string");
    }
    return value.textValue();
  }

  /// A string, or `absent` where the key is missing.
  public String text(String key, String absent) {
    return has(key) ? text(key) : absent;
  }

  /// A required object.
  public ConfigReader object(String key) {
    return new ConfigReader(required(key), where, prefix + key + ".");
  }

  /// An object, or null where the key is missing.
  public @Nullable ConfigReader objectOrNull(String key) {
    return has(key) ? object(key) : null;
  }

  /// The objects of a required array.
  public List<ConfigReader> objects(String key) {
    JsonNode value = required(key);
    if (!value.isArray()) {
      throw error(key, "is " + shown(value) + ", want an array of objects");
    }
    return value.valueStream().map(v -> new ConfigReader(v, where, prefix + key + "[].")).toList();
  }

  /// An integer or an array of integers, as `eos_token_id` comes; empty where the key is missing.
  public int[] integers(String key) {
    if (!has(key)) {
      return new int[0];
    }
    JsonNode value = node.get(key);
    JsonNode[] items =
        value.isArray() ? value.valueStream().toArray(JsonNode[]::new) : new JsonNode[] {value};
    int[] out = new int[items.length];
    for (int i = 0; i < items.length; i++) {
      if (!items[i].isIntegralNumber() || !items[i].canConvertToInt()) {
        throw error(key, "is " + shown(value) + ", want an integer or an array of integers");
      }
      out[i] = items[i].intValue();
    }
    return out;
  }

  /// The strings of a required array.
  public List<String> texts(String key) {
    JsonNode value = required(key);
    if (!value.isArray() || value.valueStream().anyMatch(v -> !v.isTextual())) {
      throw error(key, "is " + shown(value) + ", want an array of strings");
    }
    return value.valueStream().map(JsonNode::textValue).toList();
  }

  /// The numbers of a required array, finite and above 0.
  public List<Double> positives(String key) {
    JsonNode value = required(key);
    if (!value.isArray()
        || value.valueStream().anyMatch(v -> !v.isNumber() || !isPositive(v.doubleValue()))) {
      throw error(key, "is " + shown(value) + ", want an array of numbers above 0");
    }
    return value.valueStream().map(JsonNode::doubleValue).toList();
  }

  private static boolean isPositive(double value) {
    return value > 0 && Double.isFinite(value);
  }

  /// Fails unless the key, or `absent` in its place, is `wanted`: for options whose other values
  /// change the numbers and are not supported.
  public void requireText(String key, String wanted, String absent) {
    String value = text(key, absent);
    if (!value.equals(wanted)) {
      throw error(key, "is \"" + value + "\", only \"" + wanted + "\" is supported");
    }
  }

  /// Fails unless the key is missing, false, 0 or empty: for options that are not supported and are
  /// off then.
  public void requireOff(String key) {
    if (has(key)) {
      JsonNode value = node.get(key);
      boolean off =
          value.isContainerNode()
              ? value.isEmpty()
              : value.isNumber()
                  ? value.doubleValue() == 0
                  : value.isBoolean() && !value.booleanValue();
      if (!off) {
        throw error(key, "is " + shown(value) + ", which is not supported");
      }
    }
  }

  /// Fails unless the key is missing or 1: for factors that are not supported.
  public void requireOne(String key) {
    if (number(key, 1) != 1) {
      throw error(key, "is " + shown(node.get(key)) + ", only 1 is supported");
    }
  }

  /// Fails on a key that is none of `known`: where a misspelt or unknown option must not be
  /// ignored.
  public void requireKnown(List<String> known) {
    node.fieldNames()
        .forEachRemaining(
            key -> {
              if (!known.contains(key)) {
                throw error(key, "is unknown; known: " + String.join(", ", known));
              }
            });
  }

  /// A failure about one key of this object.
  public FormatException error(String key, String what) {
    return new FormatException("%s: %s%s %s".formatted(where, prefix, key, what));
  }

  private JsonNode required(String key) {
    if (!has(key)) {
      throw error(key, "is missing");
    }
    return node.get(key);
  }

  private static String shown(JsonNode value) {
    String text = value.toString();
    return text.length() <= 60 ? text : text.substring(0, 57) + "...";
  }
}
