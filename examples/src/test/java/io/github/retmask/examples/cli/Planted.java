package io.github.retmask.examples.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// The model built by hand in which head 1-2, and no other, copies needles, and files for it.
final class Planted {
  static final Path MODEL = Cli.golden("planted");

  private Planted() {}

  static JsonNode golden() throws IOException {
    return JsonFiles.read(MODEL.resolve("planted.json"));
  }

  /// A file with the first `kinds` reference trials in turn until there are `count`; the fourth has
  /// no needle.
  static Path trials(Path file, int kinds, int count) throws IOException {
    JsonNode golden = golden();
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < count; i++) {
      JsonNode trial = golden.get("trials").get(i % kinds);
      ObjectNode line = new ObjectMapper().createObjectNode();
      line.put("id", "trial " + i);
      line.set("prompt_ids", trial.get("prompt_ids"));
      line.set("needle_span", trial.get("needle_span"));
      line.set("answer", trial.get("needle_text"));
      line.put("max_new_tokens", golden.get("decode_steps").intValue());
      line.put("depth", trial.path("depth_percent").asText());
      lines.append(line).append('\n');
    }
    return Files.writeString(file, lines);
  }

  /// A file of prompts for sampling.
  static Path prompts(Path file, int count) throws IOException {
    String[] words = Planted.golden().at("/trials/0/prompt_text").textValue().strip().split(" ");
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < count; i++) {
      String prompt = " %s %s %s".formatted(words[i % 50], words[(i + 7) % 50], words[i % 13]);
      lines.append("{\"id\": \"p%d\", \"prompt\": \"%s\"}\n".formatted(i, prompt));
    }
    return Files.writeString(file, lines);
  }

  /// A recipe of a model that is trained in a second.
  static Path recipe(Path file, int steps) throws IOException {
    return Files.writeString(
        file,
        """
        {"model": {"model_type": "llama", "hidden_act": "silu", "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true},
         "language": {"seed": 1, "fillers": 12, "keys": 6, "numbers": 8, "value_length": 2,
            "min_length": 40, "max_length": 48, "max_needles": 2,
            "reach": [{"below": 100, "probability": 0.9}],
            "repeat_share": 0.3, "memory_share": 0.5, "filler_weight": 0.1},
         "training": {"seed": 3, "steps": %d, "batch_size": 4, "learning_rate": 0.01,
            "checkpoint_every": 1, "log_every": 3}}
        """
            .formatted(steps));
  }
}
