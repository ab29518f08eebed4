package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.github.retmask.SharedData;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.text.Normalizer;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class WuTrialsTest {
  private static final NeedleTask TASK =
      new NeedleTask(
          "1",
          "The key to the loft hangs behind the third sack of rye.",
          "Where does the key hang ?",
          "Behind the third sack of rye",
          prose(400));

  /// Sentences of 3 to 12 words.
  private static String prose(int sentences) {
    String[] words = "the mill wheel turned and nobody asked who had built it before".split(" ");
    SplitMix64 random = new SplitMix64(3);
    StringBuilder text = new StringBuilder();
    for (int s = 0; s < sentences; s++) {
      int n = 3 + random.nextInt(10);
      for (int w = 0; w < n; w++) {
        text.append(words[random.nextInt(words.length)]).append(w == n - 1 ? ". " : " ");
      }
    }
    return text.toString().strip();
  }

  private static NeedleTrials build(
      Tokenizer tokenizer, PromptForm form, NeedleTask task, int... lengths) {
    List<Integer> wanted = Arrays.stream(lengths).boxed().toList();
    return new WuTrials(tokenizer, form, Map.of("enable_thinking", false), 50)
        .build(List.of(task), new NeedleGrid(wanted, NeedleGrid.evenly(0, 100, 10)));
  }

  private static String span(Tokenizer tokenizer, Trial trial) {
    return tokenizer.decode(
        Arrays.copyOfRange(trial.prompt(), trial.needleStart(), trial.needleEnd()), false);
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3"})
  void tenDepthsGiveTenPlacesAndEverySpanHoldsTheAnswer(String family) throws IOException {
    Tokenizer tokenizer = TestTokenizers.of(family);
    for (PromptForm form : PromptForm.values()) {
      for (int length : new int[] {1501, 2207}) {
        NeedleTrials built = build(tokenizer, form, TASK, length);
        assertThat(built.repeats()).isEmpty();
        assertThat(built.trials()).hasSize(10);
        Set<Integer> places = new HashSet<>();
        for (Trial trial : built.trials()) {
          assertThat(trial.prompt().length).isBetween((int) (0.97 * length), length);
          assertThat(span(tokenizer, trial).strip()).startsWith("behind the third sack of rye");
          // no token more than it takes
          String without =
              tokenizer.decode(
                  Arrays.copyOfRange(trial.prompt(), trial.needleStart() + 1, trial.needleEnd()),
                  false);
          assertThat(without).doesNotContain("behind the third sack of rye");
          places.add(trial.needleStart());
        }
        assertThat(places).hasSize(10);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3"})
  void chatPromptsAreWhatTheTemplateMakesOfTheFilledTurn(String family) throws IOException {
    Tokenizer tokenizer = TestTokenizers.of(family);
    for (Trial trial : build(tokenizer, PromptForm.CHAT, TASK, 701).trials()) {
      String text = tokenizer.decode(trial.prompt(), false);
      String end = "Question: Where does the key hang ?\nAnswer:";
      String turn = text.substring(text.indexOf("<book>"), text.indexOf(end) + end.length());
      assertThat(turn).contains(TASK.needle());
      assertThat(trial.prompt())
          .isEqualTo(
              tokenizer.encodeChat(
                  List.of(ChatMessage.of("user", turn)), true, Map.of("enable_thinking", false)));
    }
  }

  /// The needle's place in characters, against the depth asked for: no farther off than the longest
  /// sentence, and always between two sentences.
  @Test
  void needlesStandBetweenSentencesNearTheirDepth() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("qwen3");
    for (Trial trial : build(tokenizer, PromptForm.PLAIN, TASK, 3001).trials()) {
      String text = tokenizer.decode(trial.prompt(), false);
      int end = text.indexOf("\nBased on the content");
      int at = text.indexOf(TASK.needle());
      String before = text.substring(0, at);
      String after = text.substring(at + TASK.needle().length(), end);
      int haystack = before.length() + after.length() - 1;
      double target = Integer.parseInt(trial.labels().get("depth")) / 100.0 * haystack;
      assertThat(Math.abs(before.length() - target)).isLessThan(90);
      assertThat(before.isEmpty() || before.endsWith(". ") || after.isEmpty()).isTrue();
      assertThat(after.isEmpty() || after.startsWith(" ")).isTrue();
      assertThat(TASK.haystack()).startsWith(before.strip());
      assertThat(TASK.haystack()).contains(after.strip());
    }
  }

  @Test
  void depthsThatFallOnOneBreakAreReportedNotRepeated() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    NeedleTask two =
        new NeedleTask(
            "7", TASK.needle(), TASK.question(), TASK.answer(), "One went up. " + "x ".repeat(900));
    NeedleTrials built = build(tokenizer, PromptForm.CHAT, two, 500);
    assertThat(built.trials())
        .extracting(Trial::id)
        .containsExactly(
            "needle 7, length 500, depth 0",
            "needle 7, length 500, depth 11",
            "needle 7, length 500, depth 56");
    assertThat(built.repeats()).hasSize(7);
    assertThat(built.repeats().getLast())
        .isEqualTo(
            new NeedleTrials.Repeat(
                "needle 7, length 500, depth 100", "needle 7, length 500, depth 56"));
    assertThat(built.trials().stream().map(t -> Arrays.toString(t.prompt())).distinct()).hasSize(3);
  }

  @Test
  void haystacksThatAreTooShortAreRepeated() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("olmo2");
    NeedleTask tiny =
        new NeedleTask("1", TASK.needle(), TASK.question(), TASK.answer(), "It rained. All day.");
    for (Trial trial : build(tokenizer, PromptForm.CHAT, tiny, 900).trials()) {
      assertThat(trial.prompt().length).isBetween(880, 900);
    }
  }

  @Test
  void theShortestPossiblePromptIsTheNeedleAlone() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("qwen2");
    NeedleTrials far = build(tokenizer, PromptForm.PLAIN, TASK, 2000);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> build(tokenizer, PromptForm.PLAIN, TASK, 2000, 20))
        .withMessageMatching(
            "length 20: the prompt of needle 1 has \\d+ tokens without any haystack; want that or"
                + " more");
    int bare =
        tokenizer.encode(
                TASK.needle()
                    + "\nBased on the content of the book, Question: "
                    + TASK.question()
                    + "\nAnswer:",
                true)
            .length;
    NeedleTrials alone = build(tokenizer, PromptForm.PLAIN, TASK, bare);
    assertThat(alone.trials()).hasSize(1);
    assertThat(alone.repeats()).hasSize(9);
    assertThat(alone.trials().getFirst().prompt()).hasSize(bare);
    assertThat(far.trials().getFirst().maxNewTokens()).isEqualTo(50);
  }

  @Test
  void tasksThatCannotBeBuiltAreRefused() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    NeedleTask other = new NeedleTask("2", "It is red.", "What ?", "blue", "Text.");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> build(tokenizer, PromptForm.CHAT, other, 900))
        .withMessage("needle 2: its answer \"blue\" is not part of \"It is red.\"");
    NeedleTask nothing = new NeedleTask("3", "It is red.", "What ?", "red", " \n");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> build(tokenizer, PromptForm.CHAT, nothing, 900))
        .withMessage("needle 3: its haystack has no text");
  }

  /// Random needles of many scripts in random haystacks through all templates: the tokens of the span
  /// hold the answer, and one token less on either side does not.
  @Test
  void randomNeedlesAreNeverLost() throws IOException {
    SplitMix64 random = new SplitMix64(77);
    String[] pieces = {
      "a", "the", "key", " ", " ", " ", ". ", "\n", "'s", "42", "é", "ß", "ü", "日本", "🙂", "Ω", "…",
      "-", "\"", ")", "\t", "n't", "X", "zz"
    };
    for (String family : TestTokenizers.FAMILIES) {
      Tokenizer tokenizer = TestTokenizers.of(family);
      for (int i = 0; i < 40; i++) {
        String answer = "k" + text(random, pieces, 1 + random.nextInt(9)).strip() + "q" + i;
        String needle =
            (text(random, pieces, random.nextInt(5)) + answer + text(random, pieces, 3)).strip();
        NeedleTask task =
            new NeedleTask("r", needle, "Which ?", answer, text(random, pieces, 300) + " end.");
        PromptForm form = PromptForm.values()[random.nextInt(2)];
        int length = 400 + random.nextInt(300);
        int depth = random.nextInt(101);
        Trial trial =
            new WuTrials(tokenizer, form, Map.of(), 50)
                .build(List.of(task), new NeedleGrid(List.of(length), List.of(depth)))
                .trials()
                .getFirst();
        // Some tokenizers compose characters.
        String wanted = Normalizer.normalize(answer, Normalizer.Form.NFC);
        assertThat(span(tokenizer, trial)).as(family + " " + i + " " + answer).contains(wanted);
        for (int[] less : new int[][] {{1, 0}, {0, 1}}) {
          int from = trial.needleStart() + less[0];
          int to = trial.needleEnd() - less[1];
          assertThat(tokenizer.decode(Arrays.copyOfRange(trial.prompt(), from, to), false))
              .doesNotContain(wanted);
        }
      }
    }
  }

  private static String text(SplitMix64 random, String[] pieces, int count) {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < count; i++) {
      text.append(pieces[random.nextInt(pieces.length)]);
    }
    return text.toString();
  }

  @Test
  void publishedNeedlesAndTextsGiveADistinctTrialAtEveryGridPoint() throws IOException {
    List<NeedleTask> tasks = NeedleTask.readFolder(SharedData.path("data/niah"));
    assertThat(tasks).extracting(NeedleTask::name).containsExactly("1", "2", "3");
    Tokenizer tokenizer = TestTokenizers.of("llama");
    NeedleTrials built =
        new WuTrials(tokenizer, PromptForm.CHAT, Map.of(), 50)
            .build(tasks, new NeedleGrid(List.of(2000, 6000), NeedleGrid.evenly(0, 100, 10)));
    assertThat(built.repeats()).isEmpty();
    assertThat(built.trials()).hasSize(60);
    for (Trial trial : built.trials()) {
      int length = Integer.parseInt(trial.labels().get("length"));
      assertThat(trial.prompt().length).isBetween(length - 30, length);
      assertThat(span(tokenizer, trial).toLowerCase(Locale.ROOT))
          .contains(trial.answer().toLowerCase(Locale.ROOT));
      String text = tokenizer.decode(trial.prompt(), false);
      assertThat(text).doesNotContain("\"features\"").doesNotContain("row_idx");
      assertThat(text).contains("\n");
    }
  }
}
