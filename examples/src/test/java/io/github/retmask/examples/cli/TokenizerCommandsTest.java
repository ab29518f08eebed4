package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// `encode` and `decode` against texts that an independent tokenizer encoded.
class TokenizerCommandsTest {
  @TempDir private Path dir;

  private static String list(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false)
        .map(JsonNode::asText)
        .collect(Collectors.joining(","));
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen3"})
  void textsBecomeTheIdsOfTheReferenceAndBack(String family) throws IOException {
    Path model = Cli.golden(family);
    int texts = 0;
    for (JsonNode text : JsonFiles.read(model.resolve("tokenizer_golden.json")).get("encode")) {
      String given = text.get("text").textValue();
      assertThat(Cli.ok("encode", model, "--text", given).out())
          .isEqualTo(list(text.get("ids_with_special")) + "\n");
      String ids = list(text.get("ids"));
      assertThat(Cli.ok("encode", model, "--text", given, "--no-special").out())
          .isEqualTo(ids + "\n");
      if (!ids.isEmpty()) {
        assertThat(Cli.ok("decode", model, "--ids", ids).out())
            .isEqualTo(text.get("decoded").textValue() + "\n");
        assertThat(Cli.ok("decode", model, "--ids", ids, "--skip-special").out())
            .isEqualTo(text.get("decoded_skip_special").textValue() + "\n");
      }
      texts++;
    }
    assertThat(texts).isGreaterThan(5);
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen3"})
  void conversationsBecomeTheIdsOfTheReference(String family) throws IOException {
    Path model = Cli.golden(family);
    int chats = 0;
    for (JsonNode chat : JsonFiles.read(model.resolve("tokenizer_golden.json")).get("chat")) {
      Path messages = dir.resolve("messages.json");
      Files.writeString(messages, chat.get("messages").toString());
      List<Object> args = new ArrayList<>(List.of("encode", model, "--chat", messages));
      if (!chat.get("add_generation_prompt").booleanValue()) {
        args.add("--no-generation-prompt");
      }
      chat.get("extra")
          .properties()
          .forEach(e -> args.addAll(List.of("--template-var", e.getKey() + "=" + e.getValue())));
      assertThat(Cli.ok(args.toArray()).out()).isEqualTo(list(chat.get("ids")) + "\n");
      args.add("--render");
      assertThat(Cli.ok(args.toArray()).out()).isEqualTo(chat.get("rendered").textValue());
      chats++;
    }
    assertThat(chats).isPositive();
  }
}
