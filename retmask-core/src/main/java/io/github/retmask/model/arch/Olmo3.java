package io.github.retmask.model.arch;

import static io.github.retmask.model.arch.CommonKeys.DERIVED;

import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Weights;
import java.util.ArrayList;
import java.util.List;

/// Olmo 3 (transformers `Olmo3ForCausalLM`): OLMo 2 with a window in three layers of four. Rope is
/// scaled in the layers of full attention alone.
enum Olmo3 implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("olmo3");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(DERIVED, DERIVED, 2048, 1e-5));
    int window = LayerType.window(json, 4096);
    RopeConfig rope = new RopeConfig(keys, 500_000);
    List<LayerSpec> layers = new ArrayList<>();
    for (LayerType type :
        LayerType.read(
            json,
            keys.layers(),
            l -> l % 4 == 3 ? LayerType.FULL_ATTENTION : LayerType.SLIDING_ATTENTION)) {
      RopeSpec spec = type == LayerType.FULL_ATTENTION ? rope.read(type) : rope.readUnscaled(type);
      layers.add(keys.layer(NormPlacement.POST, QkNorm.WHOLE, type.windowed(window), spec));
    }
    return keys.model(layers);
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(
        config, tensors, CommonTensors.Biases.attention(json.flag("attention_bias", false)));
  }
}
