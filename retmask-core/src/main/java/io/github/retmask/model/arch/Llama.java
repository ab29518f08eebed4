package io.github.retmask.model.arch;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// Llama 2 and 3.x (transformers `LlamaForCausalLM`): pre-norm, grouped-query attention, SwiGLU,
/// optional llama3 rope scaling, optional biases, optional tied embeddings.
record Llama() implements Architecture {

  @Override
  public List<String> modelTypes() {
    return List.of("llama");
  }

  @Override
  public ModelConfig config(ConfigReader json) {
    json.requireText("hidden_act", "silu", "silu");
    json.refuse("quantization_config");
    int hidden = json.integer("hidden_size", 1);
    int heads = json.integer("num_attention_heads", 1);
    int headDim = json.integer("head_dim", 1, hidden / heads);
    int positions = json.integer("max_position_embeddings", 1, 2048);
    RopeSpec rope = RopeConfig.read(json, headDim, positions);
    AttentionSpec attention =
        new AttentionSpec(AttentionSpec.NO_WINDOW, (float) (1 / Math.sqrt(headDim)));
    LayerSpec layer =
        new LayerSpec(LayerSpec.NormPlacement.PRE, LayerSpec.QkNorm.NONE, attention, rope);
    return new ModelConfig(
        json.integer("vocab_size", 1),
        hidden,
        heads,
        json.integer("num_key_value_heads", 1, heads),
        headDim,
        json.integer("intermediate_size", 1),
        (float) json.positive("rms_norm_eps", 1e-6),
        json.flag("tie_word_embeddings", false),
        positions,
        Collections.nCopies(json.integerBetween("num_hidden_layers", 1, 10_000), layer));
  }

  @Override
  public Weights weights(ModelConfig config, ConfigReader json, TensorSource tensors) {
    boolean attentionBias = json.flag("attention_bias", false);
    boolean mlpBias = json.flag("mlp_bias", false);
    long c = config.hiddenSize();
    long q = (long) config.heads() * config.headDim();
    long kv = (long) config.kvHeads() * config.headDim();
    long f = config.intermediateSize();
    List<LayerWeights> layers = new ArrayList<>();
    Tensor embed = tensors.tensor("model.embed_tokens.weight", config.vocabSize(), c);
    for (int l = 0; l < config.layerCount(); l++) {
      String layer = "model.layers." + l + ".";
      String attn = layer + "self_attn.";
      String mlp = layer + "mlp.";
      layers.add(
          new LayerWeights(
              tensors.tensor(layer + "input_layernorm.weight", c),
              linear(tensors, attn + "q_proj", q, c, attentionBias),
              linear(tensors, attn + "k_proj", kv, c, attentionBias),
              linear(tensors, attn + "v_proj", kv, c, attentionBias),
              null,
              null,
              linear(tensors, attn + "o_proj", c, q, attentionBias),
              tensors.tensor(layer + "post_attention_layernorm.weight", c),
              linear(tensors, mlp + "gate_proj", f, c, mlpBias),
              linear(tensors, mlp + "up_proj", f, c, mlpBias),
              linear(tensors, mlp + "down_proj", c, f, mlpBias)));
    }
    Tensor norm = tensors.tensor("model.norm.weight", c);
    Tensor lmHead =
        config.tiedEmbeddings() ? embed : tensors.tensor("lm_head.weight", config.vocabSize(), c);
    return new Weights(embed, layers, norm, lmHead);
  }

  private static Linear linear(TensorSource tensors, String name, long out, long in, boolean bias) {
    Tensor weight = tensors.tensor(name + ".weight", out, in);
    return new Linear(weight, bias ? tensors.tensor(name + ".bias", out) : null);
  }
}
