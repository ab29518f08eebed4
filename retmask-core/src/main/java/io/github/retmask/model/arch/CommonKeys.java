package io.github.retmask.model.arch;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import java.util.List;

/// The keys of config.json that all families share. What other families' keys ask for and this
/// engine does not compute is refused here.
///
/// @param json the whole config.json
/// @param hiddenSize C
/// @param heads H
/// @param kvHeads Hkv
/// @param headDim D
/// @param maxPositions `max_position_embeddings`
/// @param layers L
/// @param normEps epsilon of every norm
record CommonKeys(
    ConfigReader json,
    int hiddenSize,
    int heads,
    int kvHeads,
    int headDim,
    int maxPositions,
    int layers,
    float normEps) {

  /// Where a family computes a size from others when its key is absent.
  static final int DERIVED = 0;

  /// Options that change the numbers, unless they are off.
  private static final List<String> UNSUPPORTED =
      List.of(
          "quantization_config",
          "compression_config",
          "alibi",
          "use_alibi",
          "attention_multiplier",
          "attn_logit_softcapping",
          "final_logit_softcapping",
          "query_pre_attn_scalar",
          "clip_qkv",
          "qk_layernorm",
          "use_qk_norm",
          "no_rope_layers",
          "no_rope_layer_interval",
          "rope_interleave",
          "rope_interleaved",
          "rope_local_base_freq",
          "rotary_pct",
          "attention_chunk_size",
          "sliding_window_pattern",
          "dual_chunk_attention_config",
          "attention_sinks",
          "attn_output_gate",
          "logits_soft_cap",
          "use_qkv_bias",
          "qkv_bias",
          "mlp_only_layers",
          "use_mrope",
          "lm_head_bias",
          "use_parallel_residual",
          "parallel_attn",
          "num_experts",
          "num_local_experts",
          "n_routed_experts",
          "pruned_heads",
          "add_cross_attention",
          "is_encoder_decoder",
          "use_bidirectional_attention",
          "scale_emb",
          "scale_depth",
          "dim_model_base");

  /// Factors that change the numbers, unless they are 1.
  private static final List<String> FACTORS =
      List.of(
          "embedding_multiplier",
          "residual_multiplier",
          "logits_scaling",
          "logit_scale",
          "lm_head_multiplier",
          "key_multiplier");

  /// What a family takes for absent keys; as its config class in transformers.
  ///
  /// @param kvHeads or [#DERIVED]: as many as query heads
  /// @param headDim or [#DERIVED]: hidden size divided by heads
  /// @param maxPositions positions
  /// @param normEps epsilon of the norms
  record Defaults(int kvHeads, int headDim, int maxPositions, double normEps) {}

  static CommonKeys read(ConfigReader json, Defaults defaults) {
    json.requireText("hidden_act", "silu", "silu");
    json.requireText("hidden_activation", "silu", "silu");
    UNSUPPORTED.forEach(json::requireOff);
    FACTORS.forEach(json::requireOne);
    if (!json.flag("is_causal", true)) {
      throw json.error("is_causal", "is false, only true is supported");
    }
    int hidden = json.integer("hidden_size", 1);
    int heads = json.integer("num_attention_heads", 1);
    return new CommonKeys(
        json,
        hidden,
        heads,
        kvHeads(json, heads, defaults),
        headDim(json, hidden, heads, defaults),
        json.integer("max_position_embeddings", 1, defaults.maxPositions()),
        json.integerBetween("num_hidden_layers", 1, 10_000),
        (float) json.positive("rms_norm_eps", defaults.normEps()));
  }

  private static int kvHeads(ConfigReader json, int heads, Defaults defaults) {
    String key = "num_key_value_heads";
    boolean derived = defaults.kvHeads() == DERIVED || json.isNull(key);
    int kvHeads = json.integer(key, 1, derived ? heads : defaults.kvHeads());
    if (heads % kvHeads != 0) {
      throw json.error(
          key, "is %d, want a divisor of num_attention_heads, %d".formatted(kvHeads, heads));
    }
    return kvHeads;
  }

  private static int headDim(ConfigReader json, int hidden, int heads, Defaults defaults) {
    if (json.has("head_dim") || defaults.headDim() != DERIVED) {
      return json.integer("head_dim", 1, defaults.headDim());
    }
    if (hidden % heads != 0) {
      throw json.error(
          "hidden_size",
          "is %d, want a multiple of num_attention_heads, %d, as there is no head_dim"
              .formatted(hidden, heads));
    }
    return hidden / heads;
  }

  /// A layer of this model.
  ///
  /// @param window keys that a query sees
  LayerSpec layer(NormPlacement norms, QkNorm qkNorm, int window, RopeSpec rope) {
    float scale = (float) (1 / Math.sqrt(headDim));
    return new LayerSpec(norms, qkNorm, new AttentionSpec(window, scale), rope);
  }

  /// The model of these layers.
  ModelConfig model(List<LayerSpec> specs) {
    int context =
        specs.stream()
            .mapToInt(spec -> RopeConfig.context(spec.rope(), maxPositions))
            .max()
            .orElse(0);
    return new ModelConfig(
        json.integer("vocab_size", 1),
        hiddenSize,
        heads,
        kvHeads,
        headDim,
        json.integer("intermediate_size", 1),
        normEps,
        json.flag("tie_word_embeddings", false),
        context,
        specs);
  }
}
