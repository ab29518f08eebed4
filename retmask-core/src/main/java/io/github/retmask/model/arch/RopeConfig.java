package io.github.retmask.model.arch;

import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.RopeSpec;
import org.jspecify.annotations.Nullable;

/// Reads the rotary embedding of a config.json in both forms that transformers has written:
/// `rope_theta` beside an optional `rope_scaling` (4.x), or one `rope_parameters` object (5.x).
final class RopeConfig {
  private RopeConfig() {}

  /// @throws io.github.retmask.io.FormatException on a rope type that is not supported
  static RopeSpec read(ConfigReader json, int headDim, int maxPositions) {
    ConfigReader parameters = json.objectOrNull("rope_parameters");
    ConfigReader scaling = parameters != null ? parameters : json.objectOrNull("rope_scaling");
    double theta =
        (parameters != null && parameters.has("rope_theta") ? parameters : json)
            .number("rope_theta", 10000);
    double rotated =
        (parameters != null && parameters.has("partial_rotary_factor") ? parameters : json)
            .number("partial_rotary_factor", 1);
    return new RopeSpec(theta, (int) (headDim * rotated), scaling(scaling, maxPositions));
  }

  private static RopeSpec.Scaling scaling(@Nullable ConfigReader json, int maxPositions) {
    if (json == null) {
      return new RopeSpec.None();
    }
    String key = json.has("rope_type") ? "rope_type" : "type";
    String type = json.text(key, "default");
    return switch (type) {
      case "default" -> new RopeSpec.None();
      case "linear" -> new RopeSpec.Linear(json.positive("factor"));
      case "llama3" ->
          new RopeSpec.Llama3(
              json.positive("factor"),
              json.positive("low_freq_factor"),
              json.positive("high_freq_factor"),
              json.positive("original_max_position_embeddings", maxPositions));
      default ->
          throw json.error(
              key, "\"" + type + "\" is not supported; supported: default, linear, llama3");
    };
  }
}
