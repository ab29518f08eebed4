package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.generate.ChatEncoder.Ending;
import io.github.retmask.io.FormatException;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PairFileTest {
  private static final int EOT = 317;
  private static Tokenizer llama;

  @TempDir Path dir;

  @BeforeAll
  static void load() throws IOException {
    llama = Tokenizer.load(TestModels.folder("llama"));
  }

  private List<PairTokens> read(Tokenizer tokenizer, Ending ending, String... lines)
      throws IOException {
    Path file = Files.write(dir.resolve("pairs.jsonl"), List.of(lines));
    return PairFile.read(file, new ChatEncoder(tokenizer), ending);
  }

  private static final String TEXTS =
      """
      {"conversation_id": "c", \
      "chosen": [{"role": "user", "content": "rain?"}, {"role": "assistant", "content": "Rain."}], \
      "rejected": [{"role": "user", "content": "rain?"}, {"role": "assistant", "content": "fog"}]}""";

  @Test
  void publishedTextsGoThroughTheChatTemplate() throws IOException {
    PairTokens pair = read(llama, Ending.EOS_ONCE, TEXTS).getFirst();
    String prompt =
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nrain?<|eot_id|>"
            + "<|start_header_id|>assistant<|end_header_id|>\n\n";
    assertThat(pair.id()).isEqualTo("c");
    assertThat(pair.prompt()).isEqualTo(llama.encode(prompt, false));
    assertThat(pair.chosen()).isEqualTo(llama.encode("Rain.<|eot_id|>", false)).endsWith(EOT);
    assertThat(pair.rejected()).isEqualTo(llama.encode("fog<|eot_id|>", false));
    PairTokens appended = read(llama, Ending.EOS_APPENDED, TEXTS).getFirst();
    assertThat(appended.chosen()).isEqualTo(llama.encode("Rain.<|eot_id|><|eot_id|>", false));
  }

  @Test
  void tokensCountWhereALineHasThem() throws IOException {
    String ids = "\"prompt_ids\": [5, 6], \"chosen_ids\": [7], \"rejected_ids\": [8, 9]";
    String both = TEXTS.substring(0, TEXTS.length() - 1) + ", " + ids + "}";
    for (String line : new String[] {both, "{\"id\": 12, " + ids + "}"}) {
      PairTokens pair = read(llama, Ending.EOS_ONCE, line).getFirst();
      assertThat(pair.prompt()).containsExactly(5, 6);
      assertThat(pair.chosen()).containsExactly(7);
      assertThat(pair.rejected()).containsExactly(8, 9);
    }
  }

  @Test
  void earlierTurnsBelongToThePrompt() throws IOException {
    String line =
        """
        {"id": "m", "chosen": [{"role": "user", "content": "a"}, \
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, \
        {"role": "assistant", "content": "yes"}], \
        "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, \
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "no"}]}""";
    PairTokens pair = read(llama, Ending.EOS_ONCE, line).getFirst();
    assertThat(llama.decode(pair.prompt(), false))
        .contains("assistant<|end_header_id|>\n\nb<|eot_id|>")
        .endsWith("<|start_header_id|>assistant<|end_header_id|>\n\n");
    assertThat(pair.rejected()).isEqualTo(llama.encode("no<|eot_id|>", false));
  }

  @Test
  void withoutATemplateTheAnswerFollowsThePromptDirectly() throws IOException {
    Path plain = dir.resolve("plain");
    Files.createDirectories(plain);
    Files.copy(
        TestModels.folder("llama").resolve("tokenizer.json"), plain.resolve("tokenizer.json"));
    Files.writeString(plain.resolve("tokenizer_config.json"), "{\"eos_token\": \"<|eot_id|>\"}");
    Tokenizer bare = Tokenizer.load(plain);
    PairTokens pair = read(bare, Ending.EOS_ONCE, TEXTS).getFirst();
    assertThat(pair.prompt()).isEqualTo(bare.encode("rain?", true));
    assertThat(pair.chosen()).endsWith(EOT);
    assertThat(Arrays.copyOf(pair.chosen(), pair.chosen().length - 1))
        .isEqualTo(bare.encode("Rain.", false));
    assertThat(new ChatEncoder(bare).encode(new Prompt.Chat("rain?")))
        .isEqualTo(bare.encode("rain?", true));
  }

  @Test
  void linesThatAreNoPairsAreNamed() {
    String turns =
        "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]";
    Map<String, String> broken =
        Map.of(
            "{\"id\": \"a\"}",
            "want \"chosen\" and \"rejected\"",
            "{\"chosen\": 1}",
            "want \"id\" or \"conversation_id\"",
            "{\"id\": \"a\", \"chosen\": " + turns + "}",
            "\"rejected\" is nothing",
            "{\"id\": \"a\", \"chosen\": \"x\"}",
            "\"chosen\" is \"x\"",
            "{\"id\": \"a\", \"chosen_ids\": [1], \"rejected_ids\": [2]}",
            "\"prompt_ids\"",
            "{\"id\": \"a\", \"chosen\": %s, \"rejected\": %s}"
                .formatted(turns, turns.replace("\"a\"", "\"z\"")),
            "differ before their last turn",
            "{\"id\": \"a\", \"chosen\": %s, \"rejected\": %s}"
                .formatted(turns, turns.replace("assistant", "user")),
            "end with the assistant's",
            "{\"id\": \"a\", \"chosen\": %s, \"rejected\": %s}"
                .formatted(turns, turns.replace("\"b\"", "7")),
            "with texts");
    broken.forEach(
        (line, problem) ->
            assertThatThrownBy(() -> read(llama, Ending.EOS_ONCE, TEXTS, line))
                .isInstanceOf(FormatException.class)
                .hasMessageContainingAll("pairs.jsonl line 2", problem));
  }

  @Test
  void anIdOutsideTheTokenizerAddsNothingToTheText() {
    int[] known = llama.encode("The bell", false);
    int[] padded = new int[known.length + 1];
    padded[0] = known[0];
    padded[1] = llama.vocabSize() + 3;
    System.arraycopy(known, 1, padded, 2, known.length - 1);
    assertThat(new ChatEncoder(llama).text(padded)).isEqualTo("The bell");
  }

  @Test
  void publishedResponseFilesJoinToThePublishedPairs() throws IOException {
    Path chosen =
        Files.write(
            dir.resolve("intact.jsonl"),
            List.of(
                response("a", "[{\"role\": \"assistant\", \"content\": \"yes\"}]", false),
                response("b", "[{\"role\": \"assistant\", \"content\": \"same\"}]", false),
                response("c", "null", false),
                response(
                    "d",
                    "[{\"content\": null}, {\"role\": \"assistant\", \"content\": \"second\"}]",
                    false),
                response("e", "[{\"content\": \"x\"}]", true),
                response("only here", "[{\"content\": \"x\"}]", false),
                response("f", "[{\"content\": \"\"}]", false)));
    Path rejected =
        Files.write(
            dir.resolve("masked.jsonl"),
            List.of(
                response("d", "[{\"role\": \"assistant\", \"content\": \"other\"}]", false),
                response("a", "[{\"role\": \"assistant\", \"content\": \"no\"}]", false),
                response("b", "[{\"role\": \"assistant\", \"content\": \"same\"}]", false),
                response("e", "[{\"content\": \"y\"}]", true),
                response("c", "[{\"content\": \"z\"}]", false),
                response("f", "[{\"content\": \"words\"}]", false),
                response("only there", "[{\"content\": \"x\"}]", false)));
    Path out = dir.resolve("pairs.jsonl.gz");
    PairReport report = PairBuilder.join(chosen, rejected, out);
    List<String> pairs = new ArrayList<>();
    try (PairFile in = PairFile.open(out)) {
      for (PairRecord pair = in.next(); pair != null; pair = in.next()) {
        PairRecord.Texts texts = pair.requireTexts();
        assertThat(texts.prompt()).hasSize(1);
        assertThat(texts.prompt().getFirst().fields())
            .containsEntry("content", "about " + pair.id());
        pairs.add(pair.id() + ": " + texts.chosen() + " / " + texts.rejected());
      }
    }
    assertThat(pairs).containsExactly("a: yes / no", "d: second / other", "f:  / words");
    assertThat(report.records()).isEqualTo(8);
    assertThat(report.pairs()).isEqualTo(3);
    assertThat(report.dropped())
        .isEqualTo(
            Map.of(
                DropReason.IDENTICAL, 1L,
                DropReason.NULL_RESPONSE, 1L,
                DropReason.REDACTED, 1L,
                DropReason.UNMATCHED, 2L));
  }

  private static String response(String id, String responses, boolean redacted) {
    return """
    {"conversation_id": "%s", "conversation": [{"role": "user", "content": "about %s"}], \
    "redacted": %s, "synthesized_assistant_responses": %s}"""
        .formatted(id, id, redacted, responses);
  }
}
