package io.github.retmask.model.arch;

import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import java.util.List;

/// Qwen3, dense (transformers `Qwen3ForCausalLM`): every head of q and k is normalised before rope,
/// and the head dimension stands by itself.
enum Qwen3 implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("qwen3");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(32, 128, 32_768, 1e-6));
    return keys.model(Qwen2.layers(keys, QkNorm.PER_HEAD));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(
        config, tensors, CommonTensors.Biases.attention(json.flag("attention_bias", false)));
  }
}
