package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.generate.ChatEncoder;
import io.github.retmask.generate.Prompt;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.StreamSupport;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ReferenceHuggingFaceTest extends HuggingFaceContract {

  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }

  @ParameterizedTest
  @MethodSource("families")
  void chatsAreThoseOfTransformers(String family) throws IOException {
    Path folder = GoldenFolder.copy(family, temp);
    JsonNode chat = JsonFiles.read(folder.resolve("transformers.json")).get("chat");
    List<ChatMessage> turns =
        StreamSupport.stream(chat.get("messages").spliterator(), false)
            .map(m -> ChatMessage.of(m.get("role").textValue(), m.get("content").textValue()))
            .toList();
    Tokenizer tokenizer = PretrainedModel.tokenizer(folder);
    assertThat(tokenizer.renderChat(turns, true, Map.of())).isEqualTo(chat.get("text").textValue());
    assertThat(new ChatEncoder(tokenizer).encode(new Prompt.Conversation(turns)))
        .isEqualTo(ints(chat.get("ids")));
  }
}
