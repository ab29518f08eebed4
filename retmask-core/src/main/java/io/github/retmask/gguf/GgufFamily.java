package io.github.retmask.gguf;

import io.github.retmask.io.FormatException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// What llama.cpp calls a family and its tensors, beside Hugging Face's names: `tensor_mapping.py` of
/// gguf-py.
///
/// @param architecture `general.architecture`
/// @param modelType `model_type` of config.json
/// @param windowedType `model_type` of the same family with a sliding window; Hugging Face tells some
///     apart that llama.cpp does not
/// @param permuted whether llama.cpp rotates neighbouring elements of this family's heads, so that the
///     rows of q and k are stored in another order, see [HeadRows]
/// @param parts a layer's tensors without `.weight` or `.bias`, GGUF's name to Hugging Face's
record GgufFamily(
    String architecture,
    String modelType,
    String windowedType,
    boolean permuted,
    Map<String, String> parts) {

  /// Whether a windowed model has layers that look everywhere among the others, where nothing says
  /// which, and keeps rope unscaled in those with a window.
  boolean mixesWindows() {
    return windowedType.equals("olmo3");
  }

  static final String EMBEDDING = "token_embd.weight";
  static final String HEAD = "output.weight";

  private static final Map<String, String> WHOLE =
      Map.of(
          EMBEDDING,
          "model.embed_tokens.weight",
          "output_norm.weight",
          "model.norm.weight",
          HEAD,
          "lm_head.weight");

  private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d+)\\.(\\w+)\\.(weight|bias)");
  private static final Pattern LAYER =
      Pattern.compile("model\\.layers\\.(\\d+)\\.([\\w.]+)\\.(weight|bias)");

  private static final Map<String, String> ATTENTION =
      Map.of(
          "attn_q", "self_attn.q_proj",
          "attn_k", "self_attn.k_proj",
          "attn_v", "self_attn.v_proj",
          "attn_output", "self_attn.o_proj");
  private static final Map<String, String> FEED_FORWARD =
      Map.of(
          "ffn_gate", "mlp.gate_proj",
          "ffn_up", "mlp.up_proj",
          "ffn_down", "mlp.down_proj");
  private static final Map<String, String> NORMS_BEFORE =
      Map.of("attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm");
  private static final Map<String, String> NORMS_AFTER =
      Map.of(
          "post_attention_norm",
          "post_attention_layernorm",
          "post_ffw_norm",
          "post_feedforward_layernorm");
  private static final Map<String, String> QK_NORMS =
      Map.of("attn_q_norm", "self_attn.q_norm", "attn_k_norm", "self_attn.k_norm");
  private static final Map<String, String> FUSED =
      Map.of(
          "attn_qkv", "self_attn.qkv_proj",
          "attn_output", "self_attn.o_proj",
          "ffn_up", "mlp.gate_up_proj",
          "ffn_down", "mlp.down_proj");

  static final List<GgufFamily> ALL =
      List.of(
          new GgufFamily(
              "llama", "llama", "mistral", true, union(ATTENTION, FEED_FORWARD, NORMS_BEFORE)),
          new GgufFamily(
              "qwen2", "qwen2", "qwen2", false, union(ATTENTION, FEED_FORWARD, NORMS_BEFORE)),
          new GgufFamily(
              "qwen3",
              "qwen3",
              "qwen3",
              false,
              union(ATTENTION, FEED_FORWARD, NORMS_BEFORE, QK_NORMS)),
          new GgufFamily(
              "olmo2",
              "olmo2",
              "olmo3",
              false,
              union(ATTENTION, FEED_FORWARD, NORMS_AFTER, QK_NORMS)),
          new GgufFamily("phi3", "phi3", "phi3", false, union(FUSED, NORMS_BEFORE)));

  @SafeVarargs
  private static Map<String, String> union(Map<String, String>... parts) {
    Map<String, String> all = new HashMap<>();
    for (Map<String, String> part : parts) {
      all.putAll(part);
    }
    return Map.copyOf(all);
  }

  /// The family of a file.
  ///
  /// @throws FormatException when it is none of these
  static GgufFamily of(GgufMetadata metadata) {
    String architecture = metadata.text("general.architecture");
    for (GgufFamily family : ALL) {
      if (family.architecture.equals(architecture)) {
        return family;
      }
    }
    throw metadata.error(
        "general.architecture",
        "%s is not supported; supported: %s"
            .formatted(
                FormatException.quote(architecture),
                ALL.stream().map(GgufFamily::architecture).toList()));
  }

  /// The family that a `model_type` is written as, or null when there is none.
  static @Nullable GgufFamily ofModelType(String modelType) {
    for (GgufFamily family : ALL) {
      if (family.modelType.equals(modelType) || family.windowedType.equals(modelType)) {
        return family;
      }
    }
    return null;
  }

  /// Hugging Face's name of a tensor, or null when the family has no such tensor.
  @Nullable String checkpointName(String name) {
    Matcher block = BLOCK.matcher(name);
    if (!block.matches()) {
      return WHOLE.get(name);
    }
    String part = parts.get(block.group(2));
    return part == null
        ? null
        : "model.layers.%s.%s.%s".formatted(block.group(1), part, block.group(3));
  }

  /// GGUF's name of a tensor, or null when the family has no such tensor.
  @Nullable String fileName(String checkpointName) {
    Matcher layer = LAYER.matcher(checkpointName);
    if (!layer.matches()) {
      return reversed(WHOLE).get(checkpointName);
    }
    String part = reversed(parts).get(layer.group(2));
    return part == null ? null : "blk.%s.%s.%s".formatted(layer.group(1), part, layer.group(3));
  }

  private static Map<String, String> reversed(Map<String, String> names) {
    Map<String, String> reversed = new LinkedHashMap<>();
    names.forEach((file, checkpoint) -> reversed.put(checkpoint, file));
    return reversed;
  }
}
