package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.RopeSpec;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What the metadata of each family become in the form of config.json.
class GgufConfigTest {
  @TempDir private Path dir;

  /// Two layers, 4 heads of 8 elements.
  private static GgufBytes bytes(String architecture) {
    String p = architecture + ".";
    return new GgufBytes()
        .text("general.architecture", architecture)
        .u32(p + "block_count", 4)
        .u32(p + "embedding_length", 32)
        .u32(p + "feed_forward_length", 64)
        .u32(p + "context_length", 1024)
        .u32(p + "attention.head_count", 4)
        .f32(p + "attention.layer_norm_rms_epsilon", 1e-5f)
        .floats("token_embd.weight", 32, 7);
  }

  private JsonNode config(GgufBytes bytes) throws IOException {
    Path file = Files.write(dir.resolve("m.gguf"), bytes.bytes());
    try (GgufModel model = GgufModel.open(file)) {
      return model.config().json();
    }
  }

  private void assertConfig(GgufBytes bytes, String... wanted) throws IOException {
    JsonNode config = new JsonMapper().readTree(config(bytes).toString());
    for (int i = 0; i < wanted.length; i += 2) {
      JsonNode value = config.path(wanted[i]);
      assertThat(value.isMissingNode() ? NullNode.getInstance() : value)
          .as(wanted[i])
          .isEqualTo(new JsonMapper().readTree(wanted[i + 1]));
    }
  }

  @Test
  void sizesComeFromKeysAndTheVocabularyFromTheEmbedding() throws IOException {
    assertConfig(
        bytes("llama").u32("llama.attention.head_count_kv", 2),
        "model_type",
        "\"llama\"",
        "hidden_size",
        "32",
        "intermediate_size",
        "64",
        "num_hidden_layers",
        "4",
        "num_attention_heads",
        "4",
        "num_key_value_heads",
        "2",
        "head_dim",
        "8",
        "rms_norm_eps",
        "1e-5",
        "max_position_embeddings",
        "1024",
        "vocab_size",
        "7",
        "tie_word_embeddings",
        "true",
        "attention_bias",
        "false",
        "rope_theta",
        "10000.0",
        "eos_token_id",
        "[]");
    assertConfig(bytes("llama"), "num_key_value_heads", "4");
    assertConfig(
        bytes("qwen3")
            .u32("qwen3.attention.key_length", 16)
            .u32("qwen3.attention.value_length", 16)
            .u32("tokenizer.ggml.bos_token_id", 1)
            .u32("tokenizer.ggml.eos_token_id", 2)
            .u32("tokenizer.ggml.eot_token_id", 2)
            .u32("tokenizer.ggml.eom_token_id", 5),
        "head_dim",
        "16",
        "bos_token_id",
        "1",
        "eos_token_id",
        "[2, 5]");
    assertConfig(bytes("qwen2").f32("qwen2.rope.freq_base", 1e6f), "rope_theta", "1000000.0");
    assertConfig(
        bytes("llama").floats("blk.0.attn_q.bias", 32).floats("output.weight", 32, 7),
        "attention_bias",
        "true",
        "tie_word_embeddings",
        "false");
  }

  @Test
  void windowsTellMistralAndOlmo3Apart() throws IOException {
    assertConfig(
        bytes("llama").u32("llama.attention.sliding_window", 24),
        "model_type",
        "\"mistral\"",
        "sliding_window",
        "24",
        "layer_types",
        "null");
    assertConfig(bytes("olmo2"), "model_type", "\"olmo2\"");
    assertConfig(
        bytes("olmo2").u32("olmo2.attention.sliding_window", 16),
        "model_type",
        "\"olmo3\"",
        "layer_types",
        "[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\", \"full_attention\"]");
    assertConfig(
        bytes("olmo2")
            .u32("olmo2.attention.sliding_window", 16)
            .flags("olmo2.attention.sliding_window_pattern", true, false, false, true),
        "layer_types",
        "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]");
    assertConfig(
        bytes("qwen2")
            .u32("qwen2.attention.sliding_window", 16)
            .u32("qwen2.attention.sliding_window_pattern", 2),
        "use_sliding_window",
        "true",
        "layer_types",
        "[\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"full_attention\"]");
    assertConfig(
        bytes("phi3").u32("phi3.attention.sliding_window", 0),
        "model_type",
        "\"phi3\"",
        "sliding_window",
        "null");
    Path file = dir.resolve("m.gguf");
    assertThatThrownBy(
            () ->
                config(
                    bytes("olmo2")
                        .u32("olmo2.attention.sliding_window", 16)
                        .flags("olmo2.attention.sliding_window_pattern", true)))
        .hasMessage(file + ": olmo2.attention.sliding_window_pattern has 1 items for 4 layers");
  }

  @Test
  void scalingsOfRopeBecomeThoseOfTheConfig() throws IOException {
    assertConfig(
        bytes("llama").f32("llama.rope.scale_linear", 4),
        "rope_scaling",
        "{\"rope_type\": \"linear\", \"factor\": 4.0}");
    assertConfig(bytes("llama").text("llama.rope.scaling.type", "none"), "rope_scaling", "null");
    assertConfig(
        bytes("olmo2")
            .text("olmo2.rope.scaling.type", "yarn")
            .f32("olmo2.rope.scaling.factor", 8)
            .u32("olmo2.rope.scaling.original_context_length", 128)
            .f32("olmo2.rope.scaling.attn_factor", 1.2079442f),
        "rope_scaling",
        """
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128,
        "beta_fast": 32.0, "beta_slow": 1.0}""");
    assertConfig(
        bytes("qwen2")
            .text("qwen2.rope.scaling.type", "yarn")
            .f32("qwen2.rope.scaling.factor", 1)
            .f32("qwen2.rope.scaling.attn_factor", 0.5f)
            .f32("qwen2.rope.scaling.yarn_beta_fast", 16),
        "rope_scaling",
        """
        {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 1024,
        "beta_fast": 16.0, "beta_slow": 1.0, "attention_factor": 0.5}""");
    assertConfig(
        bytes("phi3")
            .u32("phi3.rope.dimension_count", 4)
            .u32("phi3.rope.scaling.original_context_length", 256)
            .f32("phi3.rope.scaling.attn_factor", 1.19f)
            .tensor("rope_factors_long.weight", 0, floats(1.5f, 4), 2)
            .tensor("rope_factors_short.weight", 0, floats(1, 1.25f), 2),
        "partial_rotary_factor",
        "0.5",
        "original_max_position_embeddings",
        "256",
        "rope_scaling",
        """
        {"rope_type": "longrope", "original_max_position_embeddings": 256, "factor": 4.0,
        "attention_factor": 1.19, "long_factor": [1.5, 4.0], "short_factor": [1.0, 1.25]}""");
    Path file = dir.resolve("m.gguf");
    assertThatThrownBy(
            () ->
                config(bytes("phi3").tensor("rope_factors_long.weight", 0, floats(1, 1, 1, 1), 4)))
        .isInstanceOf(FormatException.class)
        .hasMessage(
            file
                + ": one of the tensors rope_factors_long.weight and rope_factors_short.weight is missing");
  }

  private static byte[] floats(float... values) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    return bytes.array();
  }

  /// Published ones, that of a small model, and one that no model has.
  @ParameterizedTest
  @CsvSource({
    "500000, 128, 8, 1, 4, 8192",
    "500000, 64, 32, 1, 4, 8192",
    "10000, 8, 8, 1, 4, 128",
    "10000, 128, 5, 2, 7, 1000"
  })
  void divisorsOfSpeedsGiveTheLlama3ScalingBack(
      double theta, int headDim, double factor, double low, double high, double original)
      throws IOException {
    RopeSpec wanted =
        new RopeSpec(theta, headDim, new RopeSpec.Llama3(factor, low, high, original));
    double[] divisors = GgufRope.divisors(wanted);
    float[] stored = new float[divisors.length];
    for (int i = 0; i < stored.length; i++) {
      stored[i] = (float) divisors[i];
    }
    JsonNode config =
        config(
            bytes("llama")
                .f32("llama.rope.freq_base", (float) theta)
                .u32("llama.attention.key_length", headDim)
                .u32("llama.attention.value_length", headDim)
                .tensor("rope_freqs.weight", 0, floats(stored), stored.length));
    JsonNode scaling = config.get("rope_scaling");
    assertThat(scaling.get("rope_type").textValue()).isEqualTo("llama3");
    double[] got =
        new RopeSpec(
                theta,
                headDim,
                new RopeSpec.Llama3(
                    scaling.get("factor").doubleValue(),
                    scaling.get("low_freq_factor").doubleValue(),
                    scaling.get("high_freq_factor").doubleValue(),
                    scaling.get("original_max_position_embeddings").doubleValue()))
            .inverseFrequencies(1);
    double[] speeds = wanted.inverseFrequencies(1);
    boolean usual = low == 1 && high == 4;
    for (int i = 0; i < speeds.length; i++) {
      // The usual limits are found exactly; others as well as divisors in F32 tell them.
      double tolerance = usual ? 0 : 4 * 0x1p-24 * speeds[i];
      assertThat(!(Math.abs(got[i] - speeds[i]) <= tolerance)).as("speed " + i).isFalse();
    }
  }

  @Test
  void divisorsOfNoLlama3ScalingAreRefused() {
    Path file = dir.resolve("m.gguf");
    assertThatThrownBy(
            () -> config(bytes("llama").tensor("rope_freqs.weight", 0, floats(1, 3, 2, 8), 4)))
        .isInstanceOf(FormatException.class)
        .hasMessage(
            file
                + ": tensor rope_freqs.weight holds divisors that are not those of a llama3 scaling");
    assertThatThrownBy(
            () -> config(bytes("llama").tensor("rope_freqs.weight", 0, floats(1, 0, 2, 8), 4)))
        .hasMessage(file + ": tensor rope_freqs.weight: element 1 is 0.0, want a number above 0");
  }
}
