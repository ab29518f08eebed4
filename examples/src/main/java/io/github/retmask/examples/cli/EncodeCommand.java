package io.github.retmask.examples.cli;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `retmask encode`: a text or a conversation as token ids.
@Command(
    name = "encode",
    description = "Print the token ids of a text or a conversation, separated by commas.",
    footer = {
      "",
      "A conversation is a JSON file: [{\"role\": \"user\", \"content\": \"...\"}, ...].",
      "",
      "Examples:",
      "  retmask encode bundled:tiny --text \"code mira is 12 15 31 .\"",
      "  retmask encode MODEL --chat messages.json --render \\",
      "    --template-var enable_thinking=false"
    })
final class EncodeCommand implements Callable<Integer> {
  private final Console console;

  @Parameters(
      index = "0",
      paramLabel = "MODEL",
      description = "Folder with tokenizer.json, a .gguf file, or bundled:tiny.")
  private String model = "";

  @Mixin private final ChatOptions template = new ChatOptions();

  @ArgGroup(multiplicity = "1")
  private Input input = new Input();

  @Option(
      names = "--no-special",
      description = "Add no special tokens, such as BOS, around a text.")
  private boolean noSpecial;

  @Option(
      names = "--no-generation-prompt",
      description = "Do not open the assistant's turn after a conversation.")
  private boolean noGenerationPrompt;

  @Option(names = "--render", description = "Print the text of a conversation instead of its ids.")
  private boolean render;

  /// What is encoded.
  private static final class Input {
    @Option(names = "--text", paramLabel = "TEXT", required = true, description = "A text.")
    private @Nullable String text;

    @Option(
        names = "--chat",
        paramLabel = "FILE",
        required = true,
        description = "A JSON file with the messages of a conversation.")
    private @Nullable Path chat;
  }

  EncodeCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    Path chat = input.chat;
    requireFitting(chat != null);
    Map<String, Object> variables = template.variables();
    Tokenizer tokenizer = PretrainedModel.tokenizer(ModelOptions.existing(model));
    if (chat == null) {
      String text = input.text == null ? "" : input.text;
      console.line(IdList.text(tokenizer.encode(text, !noSpecial)));
      return ExitCode.OK;
    }
    List<ChatMessage> messages = messages(chat);
    if (render) {
      console.stream(tokenizer.renderChat(messages, !noGenerationPrompt, variables));
    } else {
      console.line(IdList.text(tokenizer.encodeChat(messages, !noGenerationPrompt, variables)));
    }
    return ExitCode.OK;
  }

  private void requireFitting(boolean chat) {
    if (chat && noSpecial) {
      throw new UsageException("--no-special belongs to --text: a chat template writes its own");
    }
    if (!chat && (render || noGenerationPrompt || !template.variables().isEmpty())) {
      throw new UsageException(
          "--render, --no-generation-prompt and --template-var belong to --chat, not to --text");
    }
  }

  /// Reads a conversation.
  private static List<ChatMessage> messages(Path file) throws IOException {
    JsonNode list = JsonFiles.read(file);
    if (!list.isArray() || list.isEmpty()) {
      throw new FormatException(file + ": want an array of {\"role\", \"content\"}");
    }
    List<ChatMessage> messages = new ArrayList<>();
    ObjectMapper mapper = new ObjectMapper();
    for (JsonNode message : list) {
      if (!message.isObject() || !message.path("role").isTextual()) {
        throw new FormatException(
            "%s: message %d: want an object with a \"role\"".formatted(file, messages.size()));
      }
      messages.add(
          new ChatMessage(
              mapper.convertValue(message, new TypeReference<Map<String, Object>>() {})));
    }
    return messages;
  }
}
