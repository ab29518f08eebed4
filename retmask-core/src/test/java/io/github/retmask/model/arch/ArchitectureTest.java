package io.github.retmask.model.arch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/// What each family makes of config.json, its defaults among it, and of tensor names.
class ArchitectureTest {
  private static final JsonMapper JSON = new JsonMapper();
  private static final int NONE = AttentionSpec.NO_WINDOW;

  /// The keys that every config has and no family has a default for, with single quotes for double
  /// ones.
  private static ConfigReader json(String family, String... members) {
    ObjectNode json = JSON.createObjectNode();
    json.put("model_type", family).put("hidden_size", 24).put("num_attention_heads", 32);
    json.put("head_dim", 2).put("num_hidden_layers", 5).put("vocab_size", 9);
    json.put("intermediate_size", 7);
    for (String member : members) {
      try {
        json.setAll((ObjectNode) JSON.readTree("{" + member.replace('\'', '"') + "}"));
      } catch (JsonProcessingException e) {
        throw new IllegalArgumentException(member, e);
      }
    }
    return new ConfigReader(json, "config.json");
  }

  private static ModelConfig config(String family, String... members) {
    ConfigReader json = json(family, members);
    return Architecture.of(json).config(json);
  }

  private static List<Integer> windows(ModelConfig config) {
    return config.layers().stream().map(layer -> layer.attention().window()).toList();
  }

  static String[] families() {
    return GoldenFolder.FAMILIES;
  }

  @Test
  void thePermitsClauseIsTheRegistry() {
    assertThat(Architecture.all()).hasSize(Architecture.class.getPermittedSubclasses().length);
    for (String family : families()) {
      assertThat(Architecture.of(json(family)).modelTypes()).contains(family);
    }
    assertThatThrownBy(() -> Architecture.of(json("gpt2")))
        .isInstanceOf(FormatException.class)
        .hasMessageContainingAll("model_type", "\"gpt2\" is not supported", "llama", "qwen3");
  }

  @ParameterizedTest
  @CsvSource({
    // the config classes of transformers
    "llama, 32, 2048, 1e-6, 10000",
    "mistral, 8, 131072, 1e-6, 10000",
    "qwen2, 32, 32768, 1e-6, 10000",
    "qwen3, 32, 32768, 1e-6, 10000",
    "olmo2, 32, 2048, 1e-5, 10000",
    "olmo3, 32, 2048, 1e-5, 500000",
    "phi3, 32, 4096, 1e-5, 10000"
  })
  void absentKeysTakeTheDefaultsOfTransformers(
      String family, int kvHeads, int positions, float eps, double theta) {
    ModelConfig config = config(family);
    assertThat(config.kvHeads()).isEqualTo(kvHeads);
    assertThat(config.maxPositions()).isEqualTo(positions);
    assertThat(config.normEps()).isEqualTo(eps);
    assertThat(config.tiedEmbeddings()).isFalse();
    assertThat(config.layers()).allMatch(layer -> layer.rope().theta() == theta);
    assertThat(config.layers()).allMatch(layer -> layer.rope().rotaryDim() == 2);
    assertThat(config(family, "'num_key_value_heads': null").kvHeads()).isEqualTo(32);
  }

  @Test
  void headDimensionIsHiddenByHeadsButForQwen3() {
    for (String family : families()) {
      String heads = "'head_dim': null, 'num_attention_heads': 4, 'num_key_value_heads': 2";
      ModelConfig config = config(family, heads);
      int wanted = family.equals("qwen3") ? 128 : 6;
      assertThat(config.headDim()).as(family).isEqualTo(wanted);
      assertThat(config.layers().getFirst().attention().scale())
          .isEqualTo((float) (1 / Math.sqrt(wanted)));
    }
    assertThatThrownBy(() -> config("llama", "'head_dim': null, 'num_attention_heads': 5"))
        .hasMessageContaining("hidden_size is 24, want a multiple of num_attention_heads, 5");
  }

  @ParameterizedTest
  @CsvSource({
    "llama, PRE, NONE",
    "mistral, PRE, NONE",
    "qwen2, PRE, NONE",
    "qwen3, PRE, PER_HEAD",
    "olmo2, POST, WHOLE",
    "olmo3, POST, WHOLE",
    "phi3, PRE, NONE"
  })
  void normsStandWhereTheFamilyHasThem(String family, NormPlacement norms, QkNorm qkNorm) {
    for (LayerSpec layer : config(family).layers()) {
      assertThat(layer.norms()).isEqualTo(norms);
      assertThat(layer.qkNorm()).isEqualTo(qkNorm);
    }
  }

  @Test
  void windowsFollowTheFamilysKeys() {
    assertThat(windows(config("llama"))).containsOnly(NONE);
    assertThat(windows(config("olmo2", "'sliding_window': null"))).containsOnly(NONE);
    assertThat(windows(config("mistral"))).containsOnly(4096);
    assertThat(windows(config("mistral", "'sliding_window': 1"))).containsOnly(1);
    assertThat(windows(config("mistral", "'sliding_window': null"))).containsOnly(NONE);
    assertThat(windows(config("phi3"))).containsOnly(NONE);
    assertThat(windows(config("phi3", "'sliding_window': 3"))).containsOnly(3);
    assertThat(windows(config("olmo3"))).containsExactly(4096, 4096, 4096, NONE, 4096);
    assertThat(windows(config("olmo3", "'sliding_window': null"))).containsOnly(NONE);
    assertThat(
            windows(
                config(
                    "olmo3",
                    "'sliding_window': 9, 'layer_types': ['full_attention', 'sliding_attention',"
                        + " 'full_attention', 'sliding_attention', 'full_attention']")))
        .containsExactly(NONE, 9, NONE, 9, NONE);
  }

  @ParameterizedTest
  @CsvSource({"qwen2", "qwen3"})
  void windowsOfQwenAreSwitchedOnAndBeginAtALayer(String family) {
    assertThat(windows(config(family))).containsOnly(NONE);
    assertThat(windows(config(family, "'sliding_window': 6, 'max_window_layers': 0")))
        .containsOnly(NONE);
    String on = "'use_sliding_window': true, ";
    assertThat(windows(config(family, on + "'max_window_layers': 3")))
        .containsExactly(NONE, NONE, NONE, 4096, 4096);
    assertThat(windows(config(family, on + "'sliding_window': 6, 'num_hidden_layers': 29")))
        .containsExactlyElementsOf(qwenDefault());
    assertThat(windows(config(family, on + "'max_window_layers': 0, 'sliding_window': null")))
        .containsOnly(NONE);
    String types =
        "'sliding_window': 6, 'num_hidden_layers': 2, 'layer_types': ['sliding_attention', 'full_attention']";
    assertThat(windows(config(family, on + types))).containsExactly(6, NONE);
    assertThat(windows(config(family, types))).containsExactly(NONE, NONE);
  }

  /// max_window_layers is 28 where it is absent.
  private static List<Integer> qwenDefault() {
    List<Integer> windows = new ArrayList<>(java.util.Collections.nCopies(28, NONE));
    windows.add(6);
    return windows;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      quoteCharacter = '"',
      value = {
        "llama; 'hidden_size': null; hidden_size is missing",
        "llama; 'num_attention_heads': 0; num_attention_heads is 0, want an integer >= 1",
        "qwen2; 'num_hidden_layers': 'x'; num_hidden_layers is",
        "qwen2; 'num_hidden_layers': 1000000; num_hidden_layers is 1000000",
        "qwen3; 'num_key_value_heads': 5; num_key_value_heads is 5, want a divisor",
        "qwen3; 'head_dim': 0; head_dim is 0",
        "olmo2; 'rms_norm_eps': -1e-5; rms_norm_eps is",
        "olmo2; 'tie_word_embeddings': 'no'; tie_word_embeddings is",
        "phi3; 'vocab_size': 1.5; vocab_size is 1.5",
        "phi3; 'intermediate_size': null; intermediate_size is missing",
        "phi3; 'max_position_embeddings': 0; max_position_embeddings is 0",
        "mistral; 'sliding_window': 0; sliding_window is 0, want an integer >= 1",
        "qwen2; 'sliding_window': 'all'; sliding_window is",
        "qwen2; 'use_sliding_window': 1; use_sliding_window is 1",
        "qwen3; 'max_window_layers': -1; max_window_layers is -1",
        "olmo3; 'layer_types': ['full_attention']; layer_types has 1 entries, want one for each",
        "olmo3; 'layer_types': 'full_attention'; layer_types is",
        "qwen3; 'num_hidden_layers': 1, 'layer_types': ['chunked_attention']; layer_types has",
        "llama; 'num_hidden_layers': 1, 'layer_types': ['sliding_attention']; layer_types is supported only",
        "mistral; 'num_hidden_layers': 1, 'layer_types': ['full_attention']; layer_types is supported only",
        "llama; 'attention_bias': 'x'; attention_bias is",
        "llama; 'mlp_bias': 3; mlp_bias is",
        "qwen2; 'mlp_bias': true; mlp_bias is true, which is not supported",
        "mistral; 'attention_bias': true; attention_bias is true, which is not supported",
        "phi3; 'attention_bias': true; attention_bias is true, which is not supported",
        "llama; 'sliding_window': 64; sliding_window is 64, which is not supported"
      })
  void wrongValuesAreRefusedByKey(String family, String members, String message) {
    assertRefused(family, members, message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      quoteCharacter = '"',
      value = {
        "'quantization_config': {'quant_method': 'awq'}; quantization_config",
        "'hidden_act': 'gelu_pytorch_tanh'; hidden_act",
        "'hidden_activation': 'gelu'; hidden_activation",
        "'attn_logit_softcapping': 50.0; attn_logit_softcapping",
        "'final_logit_softcapping': 30; final_logit_softcapping",
        "'query_pre_attn_scalar': 256; query_pre_attn_scalar",
        "'residual_multiplier': 0.22; residual_multiplier",
        "'embedding_multiplier': 12; embedding_multiplier",
        "'attention_multiplier': 0.015625; attention_multiplier",
        "'logits_scaling': 8; logits_scaling",
        "'logit_scale': 0.0625; logit_scale",
        "'alibi': true; alibi",
        "'rope_interleaved': true; rope_interleaved",
        "'lm_head_bias': true; lm_head_bias",
        "'clip_qkv': 8.0; clip_qkv",
        "'num_local_experts': 8; num_local_experts",
        "'num_experts': 64; num_experts",
        "'no_rope_layers': [1, 0]; no_rope_layers",
        "'use_parallel_residual': true; use_parallel_residual",
        "'pruned_heads': {'1': [0]}; pruned_heads",
        "'is_causal': false; is_causal"
      })
  void optionsThatWouldChangeTheNumbersAreRefusedByEveryFamily(String member, String key) {
    for (String family : families()) {
      assertRefused(family, member, key + " is ");
    }
  }

  private static void assertRefused(String family, String members, String message) {
    assertThatThrownBy(
            () -> {
              ConfigReader json = json(family, members);
              Architecture architecture = Architecture.of(json);
              try (HostArena arena = new HostArena()) {
                architecture.weights(architecture.config(json), json, arena::floats);
              }
            })
        .isInstanceOf(FormatException.class)
        .hasMessageStartingWith("config.json: ")
        .hasMessageContaining(message);
  }

  @ParameterizedTest
  @MethodSource("families")
  void optionsThatChangeNothingAreAccepted(String family) {
    assertThat(
            config(
                family,
                "'attention_dropout': 0.1, 'resid_pdrop': 0.1, 'use_cache': false, 'pretraining_tp': 2,"
                    + " 'initializer_range': 1, 'torch_dtype': 'float16', 'quantization_config': null,"
                    + " 'residual_multiplier': 1.0, 'num_experts': 0, 'pruned_heads': {}, 'alibi': false"))
        .isEqualTo(config(family));
  }

  // --- tensor names ---------------------------------------------------------------------------

  /// Names and shapes that a family asks for, in order.
  private static Map<String, String> asked(String family, String... members) {
    List<String> all = new ArrayList<>(List.of(members));
    all.add("'num_hidden_layers': 1, 'num_key_value_heads': 8");
    ConfigReader json = json(family, all.toArray(String[]::new));
    Map<String, String> asked = new LinkedHashMap<>();
    try (HostArena arena = new HostArena()) {
      Architecture architecture = Architecture.of(json);
      Weights weights =
          architecture.weights(
              architecture.config(json),
              json,
              (name, dims) -> {
                assertThat(asked.put(name, Arrays.toString(dims))).as("asked twice").isNull();
                return arena.floats(name, dims);
              });
      assertThat(weights.isTied()).isEqualTo(!asked.containsKey("lm_head.weight"));
    }
    return asked;
  }

  private static final String LAYER = "model.layers.0.";

  @Test
  void biasesAreWhereTheConfigOrTheFamilyHasThem() {
    assertThat(asked("llama").keySet()).noneMatch(name -> name.endsWith(".bias"));
    assertThat(asked("llama", "'attention_bias': true, 'mlp_bias': true").keySet())
        .filteredOn(name -> name.endsWith(".bias"))
        .hasSize(7);
    assertThat(asked("qwen2").keySet())
        .filteredOn(name -> name.endsWith(".bias"))
        .containsExactly(
            LAYER + "self_attn.q_proj.bias",
            LAYER + "self_attn.k_proj.bias",
            LAYER + "self_attn.v_proj.bias");
    for (String family : List.of("qwen3", "olmo2", "olmo3")) {
      assertThat(asked(family, "'attention_bias': true").keySet())
          .filteredOn(name -> name.endsWith(".bias"))
          .hasSize(4)
          .contains(LAYER + "self_attn.o_proj.bias");
      assertThat(asked(family).keySet()).noneMatch(name -> name.endsWith(".bias"));
    }
  }

  @Test
  void normsHaveTheNamesAndWidthsOfTheFamily() {
    assertThat(asked("qwen3"))
        .containsEntry(LAYER + "self_attn.q_norm.weight", "[2]")
        .containsEntry(LAYER + "self_attn.k_norm.weight", "[2]")
        .containsEntry(LAYER + "input_layernorm.weight", "[24]")
        .doesNotContainKey(LAYER + "post_feedforward_layernorm.weight");
    assertThat(asked("olmo2"))
        .containsEntry(LAYER + "self_attn.q_norm.weight", "[64]")
        .containsEntry(LAYER + "self_attn.k_norm.weight", "[16]")
        .containsEntry(LAYER + "post_attention_layernorm.weight", "[24]")
        .containsEntry(LAYER + "post_feedforward_layernorm.weight", "[24]")
        .doesNotContainKey(LAYER + "input_layernorm.weight");
  }

  @Test
  void phi3SlicesItsFusedTensorsWithoutACopy() {
    assertThat(asked("phi3"))
        .containsEntry(LAYER + "self_attn.qkv_proj.weight", "[96, 24]")
        .containsEntry(LAYER + "mlp.gate_up_proj.weight", "[14, 24]")
        .doesNotContainKey(LAYER + "self_attn.q_proj.weight");
    ConfigReader json = json("phi3", "'num_key_value_heads': 8");
    try (HostArena arena = new HostArena()) {
      Map<String, Tensor> stored = new LinkedHashMap<>();
      Architecture phi3 = Architecture.of(json);
      Weights weights =
          phi3.weights(
              phi3.config(json),
              json,
              (name, dims) -> stored.computeIfAbsent(name, _ -> arena.floats(name, dims)));
      Tensor qkv = stored.get(LAYER + "self_attn.qkv_proj.weight");
      qkv.set(0, 1);
      qkv.set(64L * 24, 2);
      qkv.set(80L * 24, 3);
      assertThat(weights.layers().getFirst().qProj().weight().get(0)).isEqualTo(1);
      assertThat(weights.layers().getFirst().kProj().weight().get(0)).isEqualTo(2);
      assertThat(weights.layers().getFirst().vProj().weight().get(0)).isEqualTo(3);
      Tensor gateUp = stored.get(LAYER + "mlp.gate_up_proj.weight");
      gateUp.set(7L * 24, 4);
      assertThat(weights.layers().getFirst().gateProj().weight().dim(0)).isEqualTo(7);
      assertThat(weights.layers().getFirst().upProj().weight().get(0)).isEqualTo(4);
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void tiedModelsAskForNoLmHead(String family) {
    assertThat(asked(family, "'tie_word_embeddings': true")).doesNotContainKey("lm_head.weight");
    assertThat(asked(family)).containsEntry("lm_head.weight", "[9, 24]");
  }
}
