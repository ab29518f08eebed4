package io.github.retmask.model.arch;

import static io.github.retmask.model.arch.CommonKeys.DERIVED;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import java.util.Collections;
import java.util.List;

/// Mistral (transformers `MistralForCausalLM`): Llama with the same window in every layer.
enum Mistral implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("mistral");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("attention_bias");
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(8, DERIVED, 131_072, 1e-6));
    int window = LayerType.window(json, 4096);
    LayerType type =
        window == AttentionSpec.NO_WINDOW ? LayerType.FULL_ATTENTION : LayerType.SLIDING_ATTENTION;
    LayerType.requireAll(json, keys.layers(), type);
    LayerSpec layer =
        keys.layer(NormPlacement.PRE, QkNorm.NONE, window, new RopeConfig(keys, 10_000).read(type));
    return keys.model(Collections.nCopies(keys.layers(), layer));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(config, tensors, CommonTensors.Biases.NONE);
  }
}
