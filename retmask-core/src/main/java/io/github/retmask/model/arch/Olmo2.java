package io.github.retmask.model.arch;

import static io.github.retmask.model.arch.CommonKeys.DERIVED;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Weights;
import java.util.Collections;
import java.util.List;

/// OLMo 2 (transformers `Olmo2ForCausalLM`): norms after each block, and one over all heads of q and
/// of k.
enum Olmo2 implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("olmo2");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(DERIVED, DERIVED, 2048, 1e-5));
    LayerType.requireAll(json, keys.layers(), LayerType.FULL_ATTENTION);
    json.requireOff("sliding_window");
    RopeSpec rope = new RopeConfig(keys, 10_000).read(LayerType.FULL_ATTENTION);
    LayerSpec layer = keys.layer(NormPlacement.POST, QkNorm.WHOLE, AttentionSpec.NO_WINDOW, rope);
    return keys.model(Collections.nCopies(keys.layers(), layer));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(
        config, tensors, CommonTensors.Biases.attention(json.flag("attention_bias", false)));
  }
}
