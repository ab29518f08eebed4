package io.github.retmask.model.arch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Rotary embeddings as config.json says them. Numbers without a file come from the formulas in
/// double, written down anew in another language.
class RopeConfigTest {
  private static final JsonMapper JSON = new JsonMapper();

  /// A config of two heads with 8 elements each, in which the quotes are single ones.
  private static ObjectNode config(String family, String... members) {
    ObjectNode json = JSON.createObjectNode();
    json.put("model_type", family).put("hidden_size", 16).put("num_attention_heads", 2);
    json.put("num_key_value_heads", 2).put("head_dim", 8).put("num_hidden_layers", 4);
    json.put("vocab_size", 9).put("intermediate_size", 5).put("max_position_embeddings", 32);
    for (String member : members) {
      try {
        json.setAll((ObjectNode) JSON.readTree("{" + member.replace('\'', '"') + "}"));
      } catch (JsonProcessingException e) {
        throw new IllegalArgumentException(member, e);
      }
    }
    return json;
  }

  private static ModelConfig model(String family, String... members) {
    return model(config(family, members));
  }

  private static ModelConfig model(ObjectNode json) {
    ConfigReader reader = new ConfigReader(json, "config.json");
    return Architecture.of(reader).config(reader);
  }

  private static RopeSpec rope(String family, String... members) {
    return model(family, members).layers().getFirst().rope();
  }

  private static void assertSpeeds(RopeSpec rope, int context, double... wanted) {
    double[] speeds = rope.inverseFrequencies(context);
    assertThat(speeds).hasSameSizeAs(wanted);
    for (int i = 0; i < wanted.length; i++) {
      double error = Math.abs(speeds[i] - wanted[i]);
      assertThat(!(error <= 1e-12 * wanted[i]))
          .as("speed %d is %s, want %s", i, speeds[i], wanted[i])
          .isFalse();
    }
  }

  @Test
  void speedsOfPublishedModelsAgreeToTwelveDigits() throws IOException {
    try (InputStream in = RopeConfigTest.class.getResourceAsStream("/goldens/rope.json")) {
      for (JsonNode wanted : JSON.readTree(in).get("cases")) {
        ObjectNode json = config("llama");
        json.set("head_dim", wanted.get("head_dim"));
        json.set("max_position_embeddings", wanted.get("max_position_embeddings"));
        ObjectNode old = json.deepCopy();
        json.set("rope_parameters", wanted.get("rope_parameters"));
        ObjectNode scaling = wanted.get("rope_parameters").deepCopy();
        old.set("rope_theta", scaling.remove("rope_theta"));
        old.set("rope_scaling", scaling);
        for (ObjectNode form : List.of(json, old)) {
          RopeSpec rope = model(form).layers().getFirst().rope();
          double[] speeds = new double[wanted.get("inv_freq").size()];
          for (int i = 0; i < speeds.length; i++) {
            speeds[i] = wanted.get("inv_freq").get(i).doubleValue();
          }
          assertSpeeds(rope, 7, speeds);
          double attention = wanted.get("attention_scaling").doubleValue();
          assertThat(rope.attentionScaling() / attention - 1).isBetween(-1e-12, 1e-12);
        }
      }
    }
  }

  @Test
  void dynamicSpeedsFollowTheContextBeyondTheOriginalOne() {
    RopeSpec rope = rope("llama", "'rope_scaling': {'type': 'dynamic', 'factor': 4.0}");
    assertSpeeds(rope, 20, 1, 0.1, 0.01, 0.001);
    assertSpeeds(rope, 32, 1, 0.1, 0.01, 0.001);
    assertSpeeds(rope, 48, 1.0, 0.06933612743506347, 0.004807498567691361, 0.0003333333333333334);
    assertThat(rope.rotatesAlike(3, 32)).isTrue();
    assertThat(rope.rotatesAlike(32, 33)).isFalse();
    assertThat(rope.keepsKeys(32, 33)).isTrue();
    assertThat(rope.attentionScaling()).isEqualTo(1);
  }

  @Test
  void yarnBlendsBetweenItsBetas() {
    String common =
        "'rope_theta': 50000, 'head_dim': 32, 'partial_rotary_factor': 0.5, 'rope_scaling': {'type': 'yarn',"
            + " 'factor': 6, 'original_max_position_embeddings': 64, 'beta_fast': 8, 'beta_slow': 0.5";
    assertSpeeds(
        rope("llama", common + ", 'truncate': false}"),
        1,
        1.0,
        0.17225456424881083,
        0.017360689910149527,
        0.0028822722336737695,
        0.00074535599249993,
        0.00019274916125720698,
        4.9844959374040685e-05,
        1.2889913288309413e-05);
    RopeSpec rounded = rope("llama", common + "}");
    assertSpeeds(
        rounded,
        1,
        1.0,
        0.18676676511011292,
        0.029721791332285426,
        0.0028822722336737695,
        0.00074535599249993,
        0.00019274916125720698,
        4.9844959374040685e-05,
        1.2889913288309413e-05);
    assertThat(rounded.rotaryDim()).isEqualTo(16);
    assertThat(rounded.dependsOnContext()).isFalse();
  }

  @ParameterizedTest
  @CsvSource(
      quoteCharacter = '"',
      value = {
        "'factor': 6, 1.1791759469228056",
        "\"'factor': 6, 'mscale': 0.707, 'mscale_all_dim': 1.2\", 0.9272979981883912",
        "\"'factor': 6, 'mscale': 0.707\", 1.1791759469228056",
        "\"'factor': 6, 'mscale': 0, 'mscale_all_dim': 1\", 1.1791759469228056",
        "\"'factor': 6, 'mscale': 0.7, 'mscale_all_dim': 1, 'attention_factor': 1.5\", 1.5",
        "'factor': 1, 1",
        "'factor': 0.5, 1"
      })
  void yarnScalesCosinesAndSines(String members, double wanted) {
    RopeSpec rope = rope("llama", "'rope_scaling': {'rope_type': 'yarn', " + members + "}");
    assertThat(rope.attentionScaling())
        .isCloseTo(wanted, org.assertj.core.data.Offset.offset(1e-15));
  }

  @Test
  void yarnWithoutAFactorStretchesToTheModelsPositions() {
    RopeSpec rope =
        rope(
            "llama",
            "'rope_parameters': {'rope_type': 'yarn', 'original_max_position_embeddings': 8}");
    assertThat(((RopeSpec.Yarn) rope.scaling()).factor()).isEqualTo(4);
    // the older rule, positions / original, is not applied against a given factor
    RopeSpec given =
        rope(
            "llama",
            "'rope_parameters': {'rope_type': 'yarn', 'factor': 2, 'original_max_position_embeddings': 8}");
    assertThat(((RopeSpec.Yarn) given.scaling()).factor()).isEqualTo(2);
  }

  private static final String LONG =
      "'rope_scaling': {'type': '%s', 'short_factor': [1, 1.1, 1.2, 1.3], 'long_factor': [2, 4, 8, 16]%s}";

  @Test
  void longRopeChangesAllSpeedsBeyondTheOriginalContext() {
    RopeSpec rope =
        rope(
            "phi3",
            LONG.formatted("longrope", ""),
            "'original_max_position_embeddings': 64, 'max_position_embeddings': 4096");
    for (int context : new int[] {1, 64}) {
      assertSpeeds(
          rope, context, 1.0, 0.09090909090909091, 0.008333333333333333, 0.0007692307692307692);
    }
    assertSpeeds(rope, 65, 0.5, 0.025, 0.00125, 6.25e-05);
    assertThat(rope.keepsKeys(1, 64)).isTrue();
    assertThat(rope.keepsKeys(64, 65)).isFalse();
    assertThat(rope.keepsKeys(65, 4000)).isTrue();
    assertThat(rope.attentionScaling()).isEqualTo(Math.sqrt(2)); // 1 + ln 64 / ln 64
  }

  @Test
  void longRopesOriginalContextStandsInEitherPlace() {
    String inside = ", 'original_max_position_embeddings': 64";
    RopeSpec nested =
        rope("phi3", LONG.formatted("longrope", inside), "'max_position_embeddings': 4096");
    RopeSpec beside =
        rope(
            "phi3",
            LONG.formatted("longrope", ""),
            "'original_max_position_embeddings': 64, 'max_position_embeddings': 4096");
    assertThat(nested).isEqualTo(beside);
    assertThat(
            ((RopeSpec.LongRope) rope("phi3", LONG.formatted("longrope", "")).scaling())
                .originalContext())
        .isEqualTo(4096);
    assertThat(
            ((RopeSpec.LongRope) rope("llama", LONG.formatted("longrope", "")).scaling())
                .originalContext())
        .isEqualTo(32);
    assertThat(
            rope("phi3", LONG.formatted("longrope", inside + ", 'factor': 5.0")).attentionScaling())
        .isEqualTo(1.177704553703755);
    assertThat(
            rope("phi3", LONG.formatted("longrope", inside + ", 'attention_factor': 1.25"))
                .attentionScaling())
        .isEqualTo(1.25);
  }

  @Test
  void olderNamesOfLongRopeAreKnownToPhi3Alone() {
    for (String name : List.of("su", "yarn")) {
      assertThat(rope("phi3", LONG.formatted(name, "")))
          .isEqualTo(rope("phi3", LONG.formatted("longrope", "")));
    }
    assertThatThrownBy(() -> rope("llama", LONG.formatted("su", "")))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("rope_scaling.type \"su\" is not supported");
  }

  @Test
  void partOfAHeadRotates() {
    for (String member :
        List.of(
            "'partial_rotary_factor': 0.75, 'head_dim': 16",
            "'rope_parameters': {'partial_rotary_factor': 0.75}, 'head_dim': 16")) {
      assertThat(rope("phi3", member).rotaryDim()).isEqualTo(12);
    }
    assertThat(rope("phi3", "'head_dim': 16").rotaryDim()).isEqualTo(16);
  }

  @Test
  void everyTypeOfLayerMayHaveItsOwn() {
    ModelConfig olmo =
        model(
            "olmo3",
            "'rope_parameters': {'full_attention': {'rope_type': 'linear', 'factor': 2, 'rope_theta': 7},"
                + " 'sliding_attention': {'rope_theta': 5}}");
    assertThat(olmo.layers().get(0).rope()).isEqualTo(new RopeSpec(5, 8, new RopeSpec.None()));
    assertThat(olmo.layers().get(3).rope()).isEqualTo(new RopeSpec(7, 8, new RopeSpec.Linear(2)));
  }

  @Test
  void olmo3ScalesFullAttentionAloneInEitherForm() {
    for (String member :
        List.of(
            "'rope_theta': 7, 'rope_scaling': {'rope_type': 'linear', 'factor': 2}",
            "'rope_parameters': {'rope_theta': 7, 'rope_type': 'linear', 'factor': 2}")) {
      ModelConfig olmo = model("olmo3", member);
      assertThat(olmo.layers().get(1).rope()).isEqualTo(new RopeSpec(7, 8, new RopeSpec.None()));
      assertThat(olmo.layers().get(3).rope()).isEqualTo(new RopeSpec(7, 8, new RopeSpec.Linear(2)));
    }
  }

  @Test
  void scalingStretchesThePositionsThatAModelIsMeantFor() {
    assertThat(model("llama").maxPositions()).isEqualTo(32);
    assertThat(model("llama", "'rope_scaling': {'type': 'dynamic', 'factor': 2.5}").maxPositions())
        .isEqualTo(80);
    assertThat(model("llama", "'rope_scaling': {'type': 'linear', 'factor': 2}").maxPositions())
        .isEqualTo(64);
    assertThat(
            model(
                    "llama",
                    "'rope_scaling': {'type': 'yarn', 'factor': 4, 'original_max_position_embeddings': 24}")
                .maxPositions())
        .isEqualTo(96);
    assertThat(model("phi3", LONG.formatted("longrope", "")).maxPositions()).isEqualTo(32);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      quoteCharacter = '"',
      value = {
        "'rope_theta': 0; rope_theta is 0, want a number above 0",
        "'rope_theta': '1e4'; rope_theta is \\'1e4\\', want a finite number",
        "'rope_scaling': 'linear'; rope_scaling is",
        "'rope_scaling': {'type': 'ntk'}; rope_scaling.type \\'ntk\\' is not supported",
        "'rope_scaling': {'rope_type': 'proportional'}; rope_scaling.rope_type",
        "'rope_scaling': {'type': 'linear'}; rope_scaling.factor is missing",
        "'rope_parameters': {'type': 'linear', 'factor': 0}; rope_parameters.factor is 0",
        "'rope_scaling': {'type': 'dynamic', 'factor': 0.5}; rope_scaling.factor is 0.5",
        "'rope_scaling': {'type': 'dynamic', 'factor': 2, 'alpha': 3}; rope_scaling.alpha is unknown",
        "'rope_scaling': {'mrope_section': [1, 2]}; rope_scaling.mrope_section is unknown",
        "'rope_scaling': {'type': 'llama3', 'factor': 2, 'low_freq_factor': 4, 'high_freq_factor': 4}; rope_scaling.high_freq_factor is 4.0",
        "'rope_scaling': {'type': 'yarn', 'factor': 2, 'beta_fast': 1, 'beta_slow': 2}; rope_scaling.beta_fast is 1.0",
        "'rope_scaling': {'type': 'yarn', 'factor': 2, 'attention_factor': 0}; rope_scaling.attention_factor is 0",
        "'rope_scaling': {'type': 'yarn', 'factor': 2, 'truncate': 1}; rope_scaling.truncate is 1",
        "'rope_theta': 1, 'rope_scaling': {'type': 'yarn', 'factor': 2}; rope_theta above 1",
        "'rope_scaling': {'type': 'longrope', 'short_factor': [1], 'long_factor': [1]}; rope_scaling.short_factor has 1 numbers, want 4",
        "'rope_scaling': {'type': 'longrope', 'short_factor': [1,1,1,0]}; rope_scaling.short_factor is",
        "'rope_scaling': {'type': 'longrope', 'short_factor': [1,1,1,1]}; rope_scaling.long_factor is missing",
        "'partial_rotary_factor': 0.4; partial_rotary_factor makes 3 of the 8",
        "'partial_rotary_factor': 2; partial_rotary_factor makes 16 of the 8",
        "'rope_parameters': {'partial_rotary_factor': 0.1}; rope_parameters.partial_rotary_factor",
        "'head_dim': 7; head_dim makes 7 of the 7",
        "'rope_theta': 3, 'rope_parameters': {'rope_theta': 4}; rope_parameters.rope_theta is 4.0",
        "'rope_parameters': {'rope_theta': 4}, 'rope_scaling': {'type': 'linear', 'factor': 2}; rope_scaling says another",
        "'rope_parameters': {'sliding_attention': {}}; rope_parameters.full_attention is missing"
      })
  void whatCannotBeIsRefusedByKey(String members, String message) {
    assertThatThrownBy(() -> rope("llama", members))
        .isInstanceOf(FormatException.class)
        .hasMessageStartingWith("config.json: ")
        .hasMessageContaining(message.replace("\\'", "\""));
  }
}
