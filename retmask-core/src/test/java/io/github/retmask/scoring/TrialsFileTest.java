package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.github.retmask.io.FormatException;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TrialsFileTest {
  @TempDir private Path dir;

  private List<Trial> read(Tokenizer tokenizer, String... lines) throws IOException {
    Path file = dir.resolve("trials.jsonl");
    Files.writeString(file, String.join("\n", lines));
    return TrialsFile.read(file, tokenizer, 1000, Map.of(), 50);
  }

  private Trial one(String line) throws IOException {
    return read(TestTokenizers.of("llama"), line).getFirst();
  }

  private static String span(Tokenizer tokenizer, Trial trial) {
    return tokenizer.decode(
        Arrays.copyOfRange(trial.prompt(), trial.needleStart(), trial.needleEnd()), false);
  }

  private void refused(String line, String message) throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read(tokenizer, "{\"prompt_ids\": [1], \"needle_span\": [0, 1]}", line))
        .withMessageStartingWith(dir.resolve("trials.jsonl") + " line 2: " + message);
  }

  @Test
  void tokenPromptsNeedNoTokenizer() throws IOException {
    Path file = dir.resolve("trials.jsonl");
    Files.writeString(
        file,
        """
        {"id": "a", "prompt_ids": [5, 6, 7, 999], "needle_span": [1, 3], "answer": "six", "max_new_tokens": 9}

        {"prompt_ids": [1, 2], "needle_span": [-1, -1], "length": 4096, "kind": "far", "note": null, "list": []}
        """);
    List<Trial> trials = TrialsFile.read(file, null, 1000, Map.of(), 50);
    assertThat(trials).hasSize(2);
    Trial first = trials.getFirst();
    assertThat(first.id()).isEqualTo("a");
    assertThat(first.prompt()).containsExactly(5, 6, 7, 999);
    assertThat(first.needleStart()).isEqualTo(1);
    assertThat(first.needleEnd()).isEqualTo(3);
    assertThat(first.answer()).isEqualTo("six");
    assertThat(first.maxNewTokens()).isEqualTo(9);
    assertThat(first.labels()).isEmpty();
    Trial second = trials.getLast();
    assertThat(second.id()).isEqualTo("line 3");
    assertThat(second.hasNeedle()).isFalse();
    assertThat(second.answer()).isNull();
    assertThat(second.maxNewTokens()).isEqualTo(50);
    assertThat(second.labels()).isEqualTo(Map.of("length", "4096", "kind", "far"));
  }

  @Test
  void textPromptsAreEncodedWithTheirSpecialTokens() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    Trial given = one("{\"prompt\": \"Hello world\", \"needle_span\": [1, 3]}");
    assertThat(given.prompt()).isEqualTo(tokenizer.encode("Hello world", true));
    Trial found = one("{\"prompt\": \"Tom has a red boat. Ask Tom\", \"needle\": \"red boat\"}");
    assertThat(found.prompt()).isEqualTo(tokenizer.encode("Tom has a red boat. Ask Tom", true));
    assertThat(span(tokenizer, found).strip()).isEqualTo("red boat");
    assertThat(found.answer()).isEqualTo("red boat");
  }

  @Test
  void needlesArePlacedWhereTheBraceStands() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    Trial trial = one("{\"prompt\": \"red boat {needle} red boat\", \"needle\": \"red boat\"}");
    assertThat(tokenizer.decode(trial.prompt(), true)).isEqualTo("red boat red boat red boat");
    int[] before = Arrays.copyOf(trial.prompt(), trial.needleStart());
    assertThat(tokenizer.decode(before, true).strip()).isEqualTo("red boat");
    assertThat(span(tokenizer, trial).strip()).isEqualTo("red boat");
  }

  @Test
  void needlesInChatsAreFollowedThroughTheTemplate() throws IOException {
    for (String family : TestTokenizers.FAMILIES) {
      Tokenizer tokenizer = TestTokenizers.of(family);
      for (String content : List.of("  {needle} is it", "So: red boat. Ask.", "red boat")) {
        Trial trial =
            read(
                    tokenizer,
                    "{\"chat\": [{\"role\": \"user\", \"content\": \"%s\"}], \"needle\": \"red boat\"}"
                        .formatted(content))
                .getFirst();
        assertThat(span(tokenizer, trial).strip()).as(family).startsWith("red boat");
        String filled = content.replace("{needle}", "red boat");
        assertThat(trial.prompt())
            .as(family)
            .isEqualTo(
                tokenizer.encodeChat(List.of(ChatMessage.of("user", filled)), true, Map.of()));
      }
    }
  }

  @Test
  void theMessageWithTheNeedleMayBeAnEarlierOne() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("qwen3");
    Trial trial =
        read(
                tokenizer,
                "{\"chat\": [{\"role\": \"system\", \"content\": \"Code is {needle}.\"},"
                    + " {\"role\": \"user\", \"content\": \"Code? Not 77.\"}], \"needle\": \"77\","
                    + " \"answer\": \"seventy-seven\"}")
            .getFirst();
    assertThat(span(tokenizer, trial).strip()).isEqualTo("77");
    assertThat(trial.answer()).isEqualTo("seventy-seven");
    String text = tokenizer.decode(trial.prompt(), false);
    assertThat(text.indexOf("77"))
        .isEqualTo(
            tokenizer.decode(Arrays.copyOf(trial.prompt(), trial.needleStart()), false).length());
  }

  @Test
  void brokenTrialsAreRefusedByLineAndKey() throws IOException {
    refused("{\"needle_span\": [0, 1]}", "want exactly one of prompt_ids, prompt and chat, got 0");
    refused(
        "{\"prompt\": \"a\", \"prompt_ids\": [1], \"needle_span\": [0, 1]}",
        "want exactly one of prompt_ids, prompt and chat, got 2");
    refused(
        "{\"prompt_ids\": [1, -1], \"needle_span\": [0, 1]}",
        "prompt_ids[1] is -1, want a token id below 1000");
    refused(
        "{\"prompt_ids\": [1000], \"needle_span\": [0, 1]}",
        "prompt_ids[0] is 1000, want a token id below 1000");
    refused(
        "{\"prompt_ids\": [1.5], \"needle_span\": [0, 1]}",
        "prompt_ids[0] is 1.5, want a token id below 1000");
    refused("{\"prompt_ids\": [], \"needle_span\": [0, 1]}", "the prompt has no tokens");
    refused("{\"prompt_ids\": [1]}", "want needle_span [start, end) in prompt tokens, or needle");
    refused(
        "{\"prompt\": \"a b\", \"needle\": \"a\", \"needle_span\": [0, 1]}",
        "want needle_span [start, end) in prompt tokens, or needle, a text; got both");
    refused("{\"prompt_ids\": [1], \"needle\": \"a\"}", "prompt_ids want needle_span, not needle");
    for (String span : List.of("[0, 3]", "[1, 1]", "[-1, 2]", "[2, 1]", "[0]", "7", "[0.5, 1]")) {
      refused(
          "{\"prompt_ids\": [1, 2], \"needle_span\": " + span + "}",
          "needle_span is " + span.replace(" ", "") + ", want [start, end) within the prompt's 2");
    }
    refused(
        "{\"prompt\": \"a b\", \"needle\": \"c\"}",
        "the needle occurs nowhere in the prompt: write {needle} where it belongs");
    refused(
        "{\"prompt\": \"a b a\", \"needle\": \"a\"}",
        "the needle occurs more than once in the prompt: write {needle} where it belongs");
    refused(
        "{\"chat\": [{\"role\": \"user\", \"content\": \"x\"}], \"needle\": \"a\"}",
        "the needle occurs in 0 messages: write {needle} where it belongs");
    refused(
        "{\"chat\": [{\"role\": \"user\"}], \"needle_span\": [0, 1]}", "chat: {\"role\":\"user\"}");
    refused("{\"chat\": [], \"needle_span\": [0, 1]}", "chat: want a list of messages");
    refused(
        "{\"prompt_ids\": [1], \"needle_span\": [0, 1], \"max_new_tokens\": 0}",
        "max_new_tokens is 0, want a whole number, 1 or more");
    refused("{\"prompt\": 5, \"needle_span\": [0, 1]}", "\"prompt\" is 5, want a text");
    refused(
        "{\"id\": \"line 1\", \"prompt_ids\": [1], \"needle_span\": [0, 1]}",
        "id \"line 1\" occurs twice");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read(TestTokenizers.of("llama"), ""))
        .withMessageContaining("no trials in the file");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read(null, "{\"prompt\": \"a\", \"needle_span\": [0, 1]}"))
        .withMessageContaining("no tokenizer.json; want prompt_ids");
  }
}
