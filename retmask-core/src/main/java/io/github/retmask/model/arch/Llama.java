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

/// Llama 2 and 3.x (transformers `LlamaForCausalLM`): pre-norm, grouped-query attention, SwiGLU,
/// optional biases.
enum Llama implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("llama");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(DERIVED, DERIVED, 2048, 1e-6));
    LayerType.requireAll(json, keys.layers(), LayerType.FULL_ATTENTION);
    json.requireOff("sliding_window");
    RopeSpec rope = new RopeConfig(keys, 10_000).read(LayerType.FULL_ATTENTION);
    LayerSpec layer = keys.layer(NormPlacement.PRE, QkNorm.NONE, AttentionSpec.NO_WINDOW, rope);
    return keys.model(Collections.nCopies(keys.layers(), layer));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    boolean attention = json.flag("attention_bias", false);
    boolean mlp = json.flag("mlp_bias", false);
    return CommonTensors.weights(
        config, tensors, new CommonTensors.Biases(attention, attention, mlp));
  }
}
