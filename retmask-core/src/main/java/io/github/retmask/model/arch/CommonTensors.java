package io.github.retmask.model.arch;

import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture.TensorSource;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// The tensors of a checkpoint under the names that Llama's have and most families share.
final class CommonTensors {
  private CommonTensors() {}

  /// Which projections have a bias.
  ///
  /// @param qkv q_proj, k_proj and v_proj
  /// @param o o_proj
  /// @param mlp gate_proj, up_proj and down_proj
  record Biases(boolean qkv, boolean o, boolean mlp) {
    static final Biases NONE = new Biases(false, false, false);

    static Biases attention(boolean attention) {
      return new Biases(attention, attention, false);
    }
  }

  /// All weights, every projection a tensor of its own.
  static Weights weights(ModelConfig config, TensorSource tensors, Biases biases) {
    return weights(config, tensors, layer -> layer.weights(biases));
  }

  /// All weights, their layers as `read` makes them.
  static Weights weights(
      ModelConfig config, TensorSource tensors, Function<Layer, LayerWeights> read) {
    long c = config.hiddenSize();
    long v = config.vocabSize();
    Tensor embed = tensors.tensor("model.embed_tokens.weight", v, c);
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < config.layerCount(); l++) {
      layers.add(read.apply(new Layer(config, tensors, l)));
    }
    Tensor norm = tensors.tensor("model.norm.weight", c);
    Tensor lmHead = config.tiedEmbeddings() ? embed : tensors.tensor("lm_head.weight", v, c);
    return new Weights(embed, layers, norm, lmHead);
  }

  /// The tensors of one layer.
  record Layer(ModelConfig config, TensorSource tensors, int index) {

    LayerWeights weights(Biases biases) {
      return new LayerWeights(
          attentionNorm(),
          linear("self_attn.q_proj", queries(), hidden(), biases.qkv()),
          linear("self_attn.k_proj", keys(), hidden(), biases.qkv()),
          linear("self_attn.v_proj", keys(), hidden(), biases.qkv()),
          qkNorm("self_attn.q_norm", queries()),
          qkNorm("self_attn.k_norm", keys()),
          linear("self_attn.o_proj", hidden(), queries(), biases.o()),
          mlpNorm(),
          linear("mlp.gate_proj", config.intermediateSize(), hidden(), biases.mlp()),
          linear("mlp.up_proj", config.intermediateSize(), hidden(), biases.mlp()),
          linear("mlp.down_proj", hidden(), config.intermediateSize(), biases.mlp()));
    }

    /// H D.
    long queries() {
      return (long) config.heads() * config.headDim();
    }

    /// Hkv D.
    long keys() {
      return (long) config.kvHeads() * config.headDim();
    }

    /// C.
    long hidden() {
      return config.hiddenSize();
    }

    Tensor attentionNorm() {
      return tensor(isPreNorm() ? "input_layernorm" : "post_attention_layernorm", hidden());
    }

    Tensor mlpNorm() {
      return tensor(
          isPreNorm() ? "post_attention_layernorm" : "post_feedforward_layernorm", hidden());
    }

    private @Nullable Tensor qkNorm(String name, long whole) {
      return switch (spec().qkNorm()) {
        case NONE -> null;
        case PER_HEAD -> tensor(name, config.headDim());
        case WHOLE -> tensor(name, whole);
      };
    }

    Linear linear(String name, long out, long in, boolean bias) {
      return new Linear(tensor(name, out, in), bias ? named(name + ".bias", out) : null);
    }

    Tensor tensor(String name, long... dims) {
      return named(name + ".weight", dims);
    }

    private Tensor named(String name, long... dims) {
      return tensors.tensor("model.layers.%d.%s".formatted(index, name), dims);
    }

    private LayerSpec spec() {
      return config.layers().get(index);
    }

    private boolean isPreNorm() {
      return spec().norms() == NormPlacement.PRE;
    }
  }
}
