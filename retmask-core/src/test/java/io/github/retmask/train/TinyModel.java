package io.github.retmask.train;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.TensorArena;

/// A decoder that trains in milliseconds: 2 layers, 3 query heads on 1 key/value head, vocabulary
/// 13.
final class TinyModel {
  static final int VOCAB = 13;

  private TinyModel() {}

  static ConfigReader json(boolean tied) {
    ObjectNode json = new JsonMapper().createObjectNode();
    json.put("model_type", "llama");
    json.put("hidden_size", 10);
    json.put("num_hidden_layers", 2);
    json.put("num_attention_heads", 3);
    json.put("num_key_value_heads", 1);
    json.put("head_dim", 4);
    json.put("intermediate_size", 7);
    json.put("vocab_size", VOCAB);
    json.put("max_position_embeddings", 64);
    json.put("tie_word_embeddings", tied);
    return new ConfigReader(json, "tiny");
  }

  static ModelConfig config(boolean tied) {
    return Architecture.of(json(tied)).config(json(tied));
  }

  /// Large enough weights that every part of the model matters.
  static Weights weights(boolean tied, long seed, TensorArena arena) {
    ConfigReader json = json(tied);
    InitialWeights init = new InitialWeights(seed, 0.4, InitialWeights.Residuals.PLAIN, 2, arena);
    return Architecture.of(json).weights(config(tied), json, init);
  }
}
