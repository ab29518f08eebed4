package io.github.retmask.model.arch;

import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.RopeSpec;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Reads the rotary embedding of a config.json in both forms that transformers has written:
/// `rope_theta` beside an optional `rope_scaling` (4.x), or one `rope_parameters` object (5.x), which
/// may hold an object for every type of layer.
///
/// Where versions of transformers differ, the newest counts: `factor` is what it says, also beside
/// an `original_max_position_embeddings` that gives another ratio.
final class RopeConfig {
  private static final List<String> KNOWN =
      List.of(
          "rope_type",
          "type",
          "rope_theta",
          "partial_rotary_factor",
          "factor",
          "original_max_position_embeddings",
          "low_freq_factor",
          "high_freq_factor",
          "beta_fast",
          "beta_slow",
          "mscale",
          "mscale_all_dim",
          "truncate",
          "attention_factor",
          "short_factor",
          "long_factor");

  private final CommonKeys keys;
  private final double absentTheta;
  private final double absentOriginal;
  private final List<String> longRopeNames;

  /// @param absentTheta `rope_theta` where it is absent
  RopeConfig(CommonKeys keys, double absentTheta) {
    this(keys, absentTheta, keys.maxPositions(), List.of());
  }

  /// @param absentOriginal `original_max_position_embeddings` where it is absent
  /// @param longRopeNames older names of the type "longrope"
  RopeConfig(
      CommonKeys keys, double absentTheta, double absentOriginal, List<String> longRopeNames) {
    this.keys = keys;
    this.absentTheta = absentTheta;
    this.absentOriginal = absentOriginal;
    this.longRopeNames = longRopeNames;
  }

  /// The embedding of a type of layer.
  ///
  /// @throws io.github.retmask.io.FormatException on a rope type or option that is not supported,
  ///   and where the two forms are both there and differ
  RopeSpec read(LayerType layer) {
    ConfigReader old = keys.json().objectOrNull("rope_scaling");
    ConfigReader parameters = keys.json().objectOrNull("rope_parameters");
    if (parameters != null && isPerLayerType(parameters)) {
      parameters = parameters.object(layer.text());
    }
    RopeSpec spec = spec(parameters != null ? parameters : old);
    if (parameters != null && old != null && !spec(old).equals(spec)) {
      throw keys.json().error("rope_scaling", "says another embedding than rope_parameters");
    }
    return spec;
  }

  /// The embedding of layers that the scaling is not meant for, where it is not said per type.
  RopeSpec readUnscaled(LayerType layer) {
    ConfigReader parameters = keys.json().objectOrNull("rope_parameters");
    if (parameters != null && isPerLayerType(parameters)) {
      return spec(parameters.object(layer.text()));
    }
    RopeSpec scaled = read(layer);
    return new RopeSpec(scaled.theta(), scaled.rotaryDim(), new RopeSpec.None());
  }

  private static boolean isPerLayerType(ConfigReader parameters) {
    for (LayerType type : LayerType.values()) {
      if (parameters.has(type.text())) {
        return true;
      }
    }
    return false;
  }

  private RopeSpec spec(@Nullable ConfigReader given) {
    ConfigReader rope = given == null ? keys.json() : given;
    if (given != null) {
      given.requireKnown(KNOWN);
    }
    double theta = either(given, "rope_theta", absentTheta);
    double rotated = either(given, "partial_rotary_factor", 1);
    int rotaryDim = (int) (keys.headDim() * rotated);
    if (rotated > 1 || rotaryDim < 2 || rotaryDim % 2 != 0) {
      boolean partial = rotated != 1;
      throw (partial && rope.has("partial_rotary_factor") ? rope : keys.json())
          .error(
              partial ? "partial_rotary_factor" : "head_dim",
              "makes %d of the %d elements of a head rotate, want an even number of them"
                  .formatted(rotaryDim, keys.headDim()));
    }
    RopeSpec.Scaling scaling =
        given == null ? new RopeSpec.None() : scaling(given, theta, rotaryDim);
    return new RopeSpec(theta, rotaryDim, scaling);
  }

  /// A positive number of the rope object or of the whole config, which must not differ.
  private double either(@Nullable ConfigReader rope, String key, double absent) {
    ConfigReader json = keys.json();
    if (rope == null || !rope.has(key)) {
      return json.positive(key, absent);
    }
    double inner = rope.positive(key);
    if (json.positive(key, inner) != inner) {
      throw rope.error(
          key, "is %s, but %s beside it is %s".formatted(inner, key, json.number(key)));
    }
    return inner;
  }

  private RopeSpec.Scaling scaling(ConfigReader rope, double theta, int rotaryDim) {
    String key = rope.has("rope_type") ? "rope_type" : "type";
    String type = rope.text(key, "default");
    return switch (longRopeNames.contains(type) ? "longrope" : type) {
      case "default" -> new RopeSpec.None();
      case "linear" -> new RopeSpec.Linear(rope.positive("factor"));
      case "dynamic" -> dynamic(rope, rotaryDim);
      case "llama3" -> llama3(rope);
      case "yarn" -> yarn(rope, theta);
      case "longrope" -> longRope(rope, rotaryDim);
      default ->
          throw rope.error(
              key,
              "\"%s\" is not supported; supported: default, linear, dynamic, llama3, yarn, longrope"
                  .formatted(type));
    };
  }

  /// Its original context is `max_position_embeddings`, whatever else is there.
  private RopeSpec.Scaling dynamic(ConfigReader rope, int rotaryDim) {
    double factor = rope.positive("factor");
    if (factor < 1 || rotaryDim == 2) {
      throw rope.error(
          "factor",
          "is %s for %d rotary elements, want at least 1 and more than 2 elements"
              .formatted(factor, rotaryDim));
    }
    return new RopeSpec.DynamicNtk(factor, keys.maxPositions());
  }

  private RopeSpec.Scaling llama3(ConfigReader rope) {
    double low = rope.positive("low_freq_factor");
    double high = rope.positive("high_freq_factor");
    if (!(high > low)) {
      throw rope.error(
          "high_freq_factor", "is %s, want more than low_freq_factor, %s".formatted(high, low));
    }
    return new RopeSpec.Llama3(rope.positive("factor"), low, high, original(rope));
  }

  private RopeSpec.Scaling yarn(ConfigReader rope, double theta) {
    if (!(theta > 1)) {
      throw rope.error("rope_type", "\"yarn\" wants a rope_theta above 1, not " + theta);
    }
    double original = original(rope);
    double factor = rope.positive("factor", keys.maxPositions() / original);
    double fast = orDefault(rope, "beta_fast", 32);
    double slow = orDefault(rope, "beta_slow", 1);
    if (fast < slow) {
      throw rope.error("beta_fast", "is %s, want at least beta_slow, %s".formatted(fast, slow));
    }
    double mscale = rope.number("mscale", 0);
    double allDim = rope.number("mscale_all_dim", 0);
    double attention =
        mscale != 0 && allDim != 0
            ? yarnScale(factor, mscale) / yarnScale(factor, allDim)
            : yarnScale(factor, 1);
    return new RopeSpec.Yarn(
        factor,
        original,
        fast,
        slow,
        rope.flag("truncate", true),
        rope.positive("attention_factor", attention));
  }

  /// Peng et al. 2023, equation 22, on cosines and sines in place of the scores.
  private static double yarnScale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
  }

  /// 0 counts as absent.
  private static double orDefault(ConfigReader rope, String key, double absent) {
    return rope.number(key, absent) == 0 ? absent : rope.positive(key, absent);
  }

  private RopeSpec.Scaling longRope(ConfigReader rope, int rotaryDim) {
    double original = original(rope);
    if (!(original > 1)) {
      throw rope.error("original_max_position_embeddings", "is " + original + ", want more than 1");
    }
    double factor = rope.positive("factor", keys.maxPositions() / original);
    double attention = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
    return new RopeSpec.LongRope(
        divisors(rope, "short_factor", rotaryDim / 2),
        divisors(rope, "long_factor", rotaryDim / 2),
        original,
        rope.positive("attention_factor", attention));
  }

  private static List<Double> divisors(ConfigReader rope, String key, int count) {
    List<Double> divisors = rope.positives(key);
    if (divisors.size() != count) {
      throw rope.error(
          key,
          "has %d numbers, want %d, half of the rotary elements".formatted(divisors.size(), count));
    }
    return divisors;
  }

  private double original(ConfigReader rope) {
    return either(rope, "original_max_position_embeddings", absentOriginal);
  }

  /// Positions that a model is meant for. `max_position_embeddings` counts the scaling in, except
  /// for linear and dynamic scaling, and for YaRN as its users are told to switch it on.
  static int context(RopeSpec spec, int maxPositions) {
    double scaled =
        switch (spec.scaling()) {
          case RopeSpec.Linear s -> s.factor() * maxPositions;
          case RopeSpec.DynamicNtk s -> s.factor() * maxPositions;
          case RopeSpec.Yarn s -> s.factor() * s.originalContext();
          case RopeSpec.None _, RopeSpec.Llama3 _, RopeSpec.LongRope _ -> maxPositions;
        };
    return Math.max(maxPositions, (int) scaled);
  }
}
