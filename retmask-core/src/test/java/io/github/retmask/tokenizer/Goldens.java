package io.github.retmask.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Tiny checkpoints with expected results, from the test resources.
final class Goldens {
  static final List<String> FAMILIES =
      List.of("llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3");

  private Goldens() {}

  static Path directory(String family) {
    return resource("/goldens/" + family);
  }

  static Path resource(String name) {
    try {
      return Path.of(Goldens.class.getResource(name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalStateException(name, e);
    }
  }

  static Tokenizer tokenizer(String family) {
    try {
      return Tokenizer.load(directory(family));
    } catch (IOException e) {
      throw new IllegalStateException(family, e);
    }
  }

  static JsonNode json(Path file) {
    try {
      return new ObjectMapper().readTree(file.toFile());
    } catch (IOException e) {
      throw new IllegalStateException(file.toString(), e);
    }
  }

  static int[] ints(JsonNode array) {
    int[] out = new int[array.size()];
    for (int i = 0; i < out.length; i++) {
      out[i] = array.get(i).intValue();
    }
    return out;
  }

  static List<ChatMessage> messages(JsonNode array) {
    var out = new ArrayList<ChatMessage>();
    for (JsonNode message : array) {
      out.add(new ChatMessage(map(message)));
    }
    return out;
  }

  static Map<String, Object> map(JsonNode object) {
    var out = new LinkedHashMap<String, Object>();
    object.properties().forEach(entry -> out.put(entry.getKey(), java(entry.getValue())));
    return out;
  }

  private static @Nullable Object java(JsonNode node) {
    return switch (node.getNodeType()) {
      case OBJECT -> map(node);
      case ARRAY -> {
        var items = new ArrayList<@Nullable Object>();
        node.forEach(item -> items.add(java(item)));
        yield items;
      }
      case STRING -> node.textValue();
      case BOOLEAN -> node.booleanValue();
      case NUMBER -> node.numberValue();
      default -> null;
    };
  }
}
