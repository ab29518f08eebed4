package io.github.retmask.model.arch;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;

/// What the entries of `layer_types` say of a layer's attention.
enum LayerType {
  FULL_ATTENTION("full_attention"),
  SLIDING_ATTENTION("sliding_attention");

  private final String text;

  LayerType(String text) {
    this.text = text;
  }

  /// As config.json has it.
  String text() {
    return text;
  }

  /// The window of a layer of this type in a model with such windows.
  int windowed(int window) {
    return this == SLIDING_ATTENTION ? window : AttentionSpec.NO_WINDOW;
  }

  /// The types of all layers.
  ///
  /// @param absent type of a layer where the key is absent
  static List<LayerType> read(ConfigReader json, int layers, IntFunction<LayerType> absent) {
    List<LayerType> types = new ArrayList<>();
    if (!json.has("layer_types")) {
      for (int l = 0; l < layers; l++) {
        types.add(absent.apply(l));
      }
      return types;
    }
    List<String> texts = json.texts("layer_types");
    if (texts.size() != layers) {
      throw json.error(
          "layer_types",
          "has %d entries, want one for each of num_hidden_layers, %d"
              .formatted(texts.size(), layers));
    }
    for (String text : texts) {
      types.add(of(json, text));
    }
    return types;
  }

  private static LayerType of(ConfigReader json, String text) {
    for (LayerType type : values()) {
      if (type.text.equals(text)) {
        return type;
      }
    }
    throw json.error(
        "layer_types", "has \"%s\"; supported: full_attention, sliding_attention".formatted(text));
  }

  /// For families that know no `layer_types`: fails unless the key is absent or says `type` of every
  /// layer.
  static void requireAll(ConfigReader json, int layers, LayerType type) {
    if (read(json, layers, _ -> type).stream().anyMatch(other -> other != type)) {
      throw json.error("layer_types", "is supported only where all are \"" + type.text + "\"");
    }
  }

  /// `sliding_window`, where null is none.
  ///
  /// @param absent window where the key is absent
  static int window(ConfigReader json, int absent) {
    return json.integer(
        "sliding_window", 1, json.isNull("sliding_window") ? AttentionSpec.NO_WINDOW : absent);
  }
}
