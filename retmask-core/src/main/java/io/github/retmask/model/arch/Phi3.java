package io.github.retmask.model.arch;

import static io.github.retmask.model.arch.CommonKeys.DERIVED;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import java.util.Collections;
import java.util.List;

/// Phi-3, Phi-3.5 and Phi-4-mini (transformers `Phi3ForCausalLM`): Llama with one tensor for q, k and
/// v and one for gate and up, an optional window in every layer, and LongRoPE in the variants with
/// long contexts.
enum Phi3 implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("phi3");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("attention_bias");
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(DERIVED, DERIVED, 4096, 1e-5));
    int window = LayerType.window(json, AttentionSpec.NO_WINDOW);
    LayerType type =
        window == AttentionSpec.NO_WINDOW ? LayerType.FULL_ATTENTION : LayerType.SLIDING_ATTENTION;
    LayerType.requireAll(json, keys.layers(), type);
    RopeConfig rope = new RopeConfig(keys, 10_000, 4096, List.of("su", "yarn"));
    LayerSpec layer = keys.layer(NormPlacement.PRE, QkNorm.NONE, window, rope.read(type));
    return keys.model(Collections.nCopies(keys.layers(), layer));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(config, tensors, Phi3::layer);
  }

  private static LayerWeights layer(CommonTensors.Layer layer) {
    long c = layer.hidden();
    long q = layer.queries();
    long kv = layer.keys();
    long f = layer.config().intermediateSize();
    Tensor qkv = layer.tensor("self_attn.qkv_proj", q + 2 * kv, c);
    Tensor gateUp = layer.tensor("mlp.gate_up_proj", 2 * f, c);
    return new LayerWeights(
        layer.attentionNorm(),
        new Linear(qkv.slice(0, q), null),
        new Linear(qkv.slice(q, q + kv), null),
        new Linear(qkv.slice(q + kv, q + 2 * kv), null),
        null,
        null,
        layer.linear("self_attn.o_proj", c, q, false),
        layer.mlpNorm(),
        new Linear(gateUp.slice(0, f), null),
        new Linear(gateUp.slice(f, 2 * f), null),
        layer.linear("mlp.down_proj", c, f, false));
  }
}
