package io.github.retmask.model.arch;

import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import java.util.List;
import java.util.stream.Stream;

/// A model family: how its config.json reads and what its checkpoint calls its tensors. The permits
/// clause is the registry; a family is an enum with one constant, so that it says itself what there
/// is of it.
public sealed interface Architecture permits Llama, Mistral, Olmo2, Olmo3, Phi3, Qwen2, Qwen3 {

  /// The values of `model_type` that this family answers to.
  List<String> modelTypes();

  /// Sizes and layer properties.
  ///
  /// @throws io.github.retmask.io.FormatException naming the key that is missing, wrong, or asks
  ///   for something that would change the numbers and is not supported
  ModelConfig config(ConfigReader json);

  /// Weights under the family's tensor names.
  Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors);

  /// Gives a tensor of the wanted name and shape, or fails naming both.
  @FunctionalInterface
  interface TensorSource {
    Tensor tensor(String name, long... dims);
  }

  /// All families.
  static List<Architecture> all() {
    return Stream.of(Architecture.class.getPermittedSubclasses())
        .map(family -> (Architecture) family.getEnumConstants()[0])
        .toList();
  }

  /// The family of a config.json, by its `model_type`.
  ///
  /// @throws io.github.retmask.io.FormatException when no family answers to it
  static Architecture of(ConfigReader json) {
    String type = json.text("model_type");
    for (Architecture family : all()) {
      if (family.modelTypes().contains(type)) {
        return family;
      }
    }
    throw json.error(
        "model_type",
        "\"%s\" is not supported; supported: %s"
            .formatted(type, all().stream().flatMap(f -> f.modelTypes().stream()).toList()));
  }
}
