package io.github.retmask.model.arch;

import static io.github.retmask.model.arch.CommonKeys.DERIVED;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import java.util.ArrayList;
import java.util.List;

/// Qwen2 and Qwen2.5 (transformers `Qwen2ForCausalLM`): Llama with biases on q, k and v, and windows
/// in the upper layers where they are switched on.
enum Qwen2 implements Architecture {
  FAMILY;

  @Override
  public List<String> modelTypes() {
    return List.of("qwen2");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireOff("mlp_bias");
    CommonKeys keys = CommonKeys.read(json, new CommonKeys.Defaults(32, DERIVED, 32_768, 1e-6));
    return keys.model(layers(keys, QkNorm.NONE));
  }

  /// The layers of both Qwen families, whose windows follow the same keys.
  static List<LayerSpec> layers(CommonKeys keys, QkNorm qkNorm) {
    ConfigReader json = keys.json();
    int given = LayerType.window(json, 4096);
    int window = json.flag("use_sliding_window", false) ? given : AttentionSpec.NO_WINDOW;
    int firstWindow = json.integer("max_window_layers", 0, 28);
    RopeConfig rope = new RopeConfig(keys, 10_000);
    List<LayerSpec> layers = new ArrayList<>();
    for (LayerType type :
        LayerType.read(
            json,
            keys.layers(),
            l ->
                window != AttentionSpec.NO_WINDOW && l >= firstWindow
                    ? LayerType.SLIDING_ATTENTION
                    : LayerType.FULL_ATTENTION)) {
      layers.add(keys.layer(NormPlacement.PRE, qkNorm, type.windowed(window), rope.read(type)));
    }
    return layers;
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    return CommonTensors.weights(config, tensors, new CommonTensors.Biases(true, false, false));
  }
}
