package io.github.retmask.gguf;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.gguf.GgufFile.Entry;
import io.github.retmask.io.FormatException;
import java.util.List;

/// The metadata of a file as the config.json that Hugging Face has of the same model.
final class GgufConfig {
  /// Keys that change the numbers and have no counterpart in the families read here.
  private static final List<String> REFUSED =
      List.of(
          "attention.scale",
          "attention.clamp_kqv",
          "attention.max_alibi_bias",
          "attn_logit_softcapping",
          "final_logit_softcapping",
          "logit_scale",
          "embedding_scale",
          "residual_scale",
          "rope.dimension_sections",
          "rope.freq_base_swa",
          "rope.scaling.yarn_ext_factor",
          "rope.scaling.yarn_log_multiplier");

  private final GgufFile file;
  private final GgufMetadata metadata;
  private final GgufFamily family;
  private final String prefix;

  GgufConfig(GgufFile file, GgufFamily family) {
    this.file = file;
    this.metadata = file.metadata();
    this.family = family;
    this.prefix = family.architecture() + ".";
  }

  /// The config.json.
  ///
  /// @throws FormatException naming the key that is missing, wrong, or asks for something that is not
  ///     supported
  ObjectNode read() {
    for (String key : REFUSED) {
      if (metadata.has(prefix + key)) {
        throw metadata.error(prefix + key, "is not supported");
      }
    }
    if (metadata.integerOr(prefix + "expert_count", 0, 0) > 0) {
      throw metadata.error(
          prefix + "expert_count", "is not 0; mixtures of experts are not supported");
    }
    if (!metadata.flagOr(prefix + "attention.causal", true)) {
      throw metadata.error(prefix + "attention.causal", "is false, want a decoder");
    }
    ObjectNode config = JsonNodeFactory.instance.objectNode();
    int layers = integer("block_count");
    int window = metadata.integerOr(prefix + "attention.sliding_window", 0, 0);
    config.put("model_type", window == 0 ? family.modelType() : family.windowedType());
    config.put("hidden_act", "silu");
    int hidden = integer("embedding_length");
    int heads = integer("attention.head_count");
    config.put("hidden_size", hidden);
    config.put("intermediate_size", integer("feed_forward_length"));
    config.put("num_hidden_layers", layers);
    config.put("num_attention_heads", heads);
    config.put(
        "num_key_value_heads", metadata.integerOr(prefix + "attention.head_count_kv", 1, heads));
    int headDim = headDim(hidden, heads);
    config.put("head_dim", headDim);
    config.put("rms_norm_eps", metadata.number(prefix + "attention.layer_norm_rms_epsilon"));
    int positions = integer("context_length");
    config.put("max_position_embeddings", positions);
    config.put("vocab_size", vocabulary());
    config.put("tie_word_embeddings", !file.tensors().containsKey(GgufFamily.HEAD));
    config.put("attention_bias", file.tensors().containsKey("blk.0.attn_q.bias"));
    config.put("mlp_bias", file.tensors().containsKey("blk.0.ffn_down.bias"));
    new GgufRope(file, family.architecture(), positions).writeTo(config, headDim);
    if (window > 0) {
      window(config, window, layers);
    }
    ids(config);
    return config;
  }

  private int integer(String key) {
    return metadata.integer(prefix + key, 1);
  }

  private int headDim(int hidden, int heads) {
    int keys = metadata.integerOr(prefix + "attention.key_length", 1, hidden / heads);
    int values = metadata.integerOr(prefix + "attention.value_length", 1, hidden / heads);
    if (keys != values) {
      throw metadata.error(
          prefix + "attention.value_length",
          "is %d but keys have %d elements; want the same".formatted(values, keys));
    }
    if (keys < 2 || keys % 2 != 0) {
      throw metadata.error(
          prefix + "attention.head_count",
          "is %d, which gives heads of %d elements; want an even number".formatted(heads, keys));
    }
    return keys;
  }

  /// Rows of the embedding: the key that says it is not in every file.
  private long vocabulary() {
    Entry embedding = file.tensors().get(GgufFamily.EMBEDDING);
    if (embedding == null) {
      throw new FormatException("%s: no tensor %s".formatted(file.file(), GgufFamily.EMBEDDING));
    }
    return embedding.shape().dim(0);
  }

  /// Which layers look back no further than the window: an array of truth values, or a period whose
  /// last layer looks everywhere. Without it, all layers; but every fourth layer of OLMo looks
  /// everywhere.
  private void window(ObjectNode config, int window, int layers) {
    config.put("sliding_window", window);
    config.put("use_sliding_window", true);
    config.put("max_window_layers", 0);
    String key = prefix + "attention.sliding_window_pattern";
    if (!metadata.has(key) && !family.mixesWindows()) {
      return;
    }
    ArrayNode types = config.putArray("layer_types");
    if (metadata.isArray(key)) {
      boolean[] sliding = metadata.flags(key);
      if (sliding.length != layers) {
        throw metadata.error(key, "has %d items for %d layers".formatted(sliding.length, layers));
      }
      for (boolean slides : sliding) {
        types.add(type(slides));
      }
    } else {
      int period = metadata.integerOr(key, 1, 4);
      for (int l = 0; l < layers; l++) {
        types.add(type(l % period < period - 1));
      }
    }
  }

  private static String type(boolean slides) {
    return slides ? "sliding_attention" : "full_attention";
  }

  private void ids(ObjectNode config) {
    if (metadata.has(GgufKeys.BOS)) {
      config.put("bos_token_id", metadata.integer(GgufKeys.BOS, 0));
    }
    ArrayNode ends = config.putArray("eos_token_id");
    for (String key : GgufKeys.ENDS) {
      if (metadata.has(key)) {
        int id = metadata.integer(key, 0);
        if (ends.valueStream().noneMatch(end -> end.intValue() == id)) {
          ends.add(id);
        }
      }
    }
  }
}
