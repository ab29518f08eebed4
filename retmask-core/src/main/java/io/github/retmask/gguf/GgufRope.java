package io.github.retmask.gguf;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.gguf.GgufFile.Entry;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.RopeSpec;
import org.jspecify.annotations.Nullable;

/// Scaling of the rotary embedding, which GGUF keeps in keys, or as divisors of the rotation speeds in
/// tensors.
final class GgufRope {
  static final String FACTORS = "rope_freqs.weight";
  static final String LONG_FACTORS = "rope_factors_long.weight";
  static final String SHORT_FACTORS = "rope_factors_short.weight";

  /// Divisors went through F32 once.
  private static final double TOLERANCE = 4 * 0x1p-24;

  private final GgufFile file;
  private final String prefix;
  private final int positions;

  GgufRope(GgufFile file, String architecture, int positions) {
    this.file = file;
    this.prefix = architecture + ".rope.";
    this.positions = positions;
  }

  /// Writes `rope_theta`, `partial_rotary_factor` and `rope_scaling` of a config.json.
  void writeTo(ObjectNode config, int headDim) {
    GgufMetadata metadata = file.metadata();
    double theta = number("freq_base", 10_000);
    config.put("rope_theta", theta);
    int rotated = metadata.integerOr(prefix + "dimension_count", 1, headDim);
    if (rotated > headDim) {
      throw metadata.error(
          prefix + "dimension_count", "is %d, want at most %d".formatted(rotated, headDim));
    }
    if (rotated != headDim) {
      config.put("partial_rotary_factor", (double) rotated / headDim);
    }
    double[] factors = factors(FACTORS, rotated);
    double[] longFactors = factors(LONG_FACTORS, rotated);
    double[] shortFactors = factors(SHORT_FACTORS, rotated);
    String type = metadata.textOr(prefix + "scaling.type", null);
    if (longFactors != null || shortFactors != null) {
      if (longFactors == null || shortFactors == null) {
        throw new FormatException(
            "%s: one of the tensors %s and %s is missing"
                .formatted(file.file(), LONG_FACTORS, SHORT_FACTORS));
      }
      longRope(config, longFactors, shortFactors);
    } else if (factors != null) {
      llama3(config.putObject("rope_scaling"), factors, theta, rotated);
    } else if (type == null || type.equals("none") || type.equals("linear")) {
      linear(config, "linear".equals(type));
    } else if (type.equals("yarn")) {
      yarn(config.putObject("rope_scaling"));
    } else {
      throw metadata.error(
          prefix + "scaling.type",
          "is %s, want none, linear or yarn".formatted(FormatException.quote(type)));
    }
  }

  /// Files older than the type have only a factor.
  private void linear(ObjectNode config, boolean required) {
    String key = file.metadata().has(prefix + "scale_linear") ? "scale_linear" : "scaling.factor";
    double factor = required ? file.metadata().number(prefix + key) : number(key, 1);
    if (factor != 1 && factor != 0) {
      config.putObject("rope_scaling").put("rope_type", "linear").put("factor", factor);
    }
  }

  private void yarn(ObjectNode scaling) {
    double factor = file.metadata().number(prefix + "scaling.factor");
    scaling
        .put("rope_type", "yarn")
        .put("factor", factor)
        .put("original_max_position_embeddings", originalPositions(positions))
        .put("beta_fast", number("scaling.yarn_beta_fast", 32))
        .put("beta_slow", number("scaling.yarn_beta_slow", 1));
    double magnitude = yarnMagnitude(factor);
    double given = number("scaling.attn_factor", 1);
    if (given != 1 && (float) given != (float) magnitude) {
      scaling.put("attention_factor", given * magnitude);
    }
  }

  /// What YaRN itself multiplies cosines and sines by. A file's `attn_factor` multiplies that once
  /// more; but the converter of OLMo writes the whole there, which is taken for what it means.
  static double yarnMagnitude(double factor) {
    return factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1;
  }

  private void longRope(ObjectNode config, double[] longFactors, double[] shortFactors) {
    int original = originalPositions(positions);
    config.put("original_max_position_embeddings", original);
    ObjectNode scaling = config.putObject("rope_scaling");
    scaling.put("rope_type", "longrope");
    scaling.put("original_max_position_embeddings", original);
    scaling.put("factor", (double) positions / original);
    if (file.metadata().has(prefix + "scaling.attn_factor")) {
      scaling.put("attention_factor", number("scaling.attn_factor", 1));
    }
    for (double factor : longFactors) {
      scaling.withArray("long_factor").add(factor);
    }
    for (double factor : shortFactors) {
      scaling.withArray("short_factor").add(factor);
    }
  }

  /// The llama3 scaling whose divisors these are. Only the ratios of its three limits matter, so the
  /// lower one is taken to be 1; the usual values are tried first, since they give the speeds to the
  /// last bit. Between the bands, `1 / divisor` is linear in the speed, which gives the rest.
  private void llama3(ObjectNode scaling, double[] divisors, double theta, int rotated) {
    double factor = 1;
    for (double divisor : divisors) {
      factor = Math.max(factor, divisor);
    }
    double[] speeds = new RopeSpec(theta, rotated, new RopeSpec.None()).inverseFrequencies(1);
    RopeSpec.Llama3 found = null;
    for (double original :
        new double[] {originalPositions(8192), 8192, Math.rint(positions / factor)}) {
      RopeSpec.Llama3 usual = new RopeSpec.Llama3(factor, 1, 4, original);
      if (found == null && gives(usual, divisors, theta, rotated)) {
        found = usual;
      }
    }
    if (found == null) {
      found = fitted(divisors, speeds, factor);
    }
    if (found == null || !gives(found, divisors, theta, rotated)) {
      throw new FormatException(
          "%s: tensor %s holds divisors that are not those of a llama3 scaling"
              .formatted(file.file(), FACTORS));
    }
    scaling
        .put("rope_type", "llama3")
        .put("factor", found.factor())
        .put("low_freq_factor", found.lowFreqFactor())
        .put("high_freq_factor", found.highFreqFactor())
        .put("original_max_position_embeddings", found.originalContext());
  }

  private static RopeSpec.@Nullable Llama3 fitted(
      double[] divisors, double[] speeds, double factor) {
    int first = -1;
    int last = -1;
    for (int i = 0; i < divisors.length; i++) {
      if (divisors[i] > 1 && divisors[i] < factor) {
        first = first < 0 ? i : first;
        last = i;
      }
    }
    if (first == last) {
      return null;
    }
    double keptFirst = kept(divisors[first], factor);
    double slope = (keptFirst - kept(divisors[last], factor)) / (speeds[first] - speeds[last]);
    double high = 1 + 1 / (slope * speeds[first] - keptFirst);
    return high > 1 ? new RopeSpec.Llama3(factor, 1, high, 2 * Math.PI * slope * (high - 1)) : null;
  }

  private static double kept(double divisor, double factor) {
    return (1 / divisor - 1 / factor) / (1 - 1 / factor);
  }

  private static boolean gives(
      RopeSpec.Llama3 scaling, double[] divisors, double theta, int rotated) {
    double[] given = divisors(new RopeSpec(theta, rotated, scaling));
    for (int i = 0; i < given.length; i++) {
      if (!(Math.abs(given[i] - divisors[i]) <= TOLERANCE * divisors[i])) {
        return false;
      }
    }
    return true;
  }

  /// What divides the unscaled speeds, `[R/2]`.
  static double[] divisors(RopeSpec rope) {
    double[] scaled = rope.inverseFrequencies(1);
    double[] divisors =
        new RopeSpec(rope.theta(), rope.rotaryDim(), new RopeSpec.None()).inverseFrequencies(1);
    for (int i = 0; i < divisors.length; i++) {
      divisors[i] /= scaled[i];
    }
    return divisors;
  }

  private int originalPositions(int absent) {
    return file.metadata().integerOr(prefix + "scaling.original_context_length", 1, absent);
  }

  private double number(String key, double absent) {
    return file.metadata().has(prefix + key) ? file.metadata().number(prefix + key) : absent;
  }

  private double @Nullable [] factors(String name, int rotated) {
    Entry entry = file.tensors().get(name);
    if (entry == null) {
      return null;
    }
    if (!entry.type().name().equals("F32")
        || entry.shape().rank() != 1
        || entry.shape().size() != rotated / 2) {
      throw new FormatException(
          "%s: tensor %s, want F32[%d]".formatted(file.file(), entry, rotated / 2));
    }
    double[] factors = new double[rotated / 2];
    for (int i = 0; i < factors.length; i++) {
      double factor =
          GgufValue.real(GgufValue.Kind.FLOAT32, file.bytes(entry), (long) i * Float.BYTES);
      if (!(factor > 0) || Double.isInfinite(factor)) {
        throw new FormatException(
            "%s: tensor %s: element %d is %s, want a number above 0"
                .formatted(file.file(), name, i, factor));
      }
      factors[i] = Double.parseDouble(Float.toString((float) factor));
    }
    return factors;
  }
}
