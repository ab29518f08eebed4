package io.github.retmask.examples;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.io.JsonLines;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// The one-screen programs do what they say, on the bundled model.
class ProgramsTest {
  private static final Path MODEL = Path.of("models", "tiny");
  private static final String[] RETRIEVAL_HEADS =
      IntStream.range(0, 8).mapToObj(h -> "1-" + h).toArray(String[]::new);

  @TempDir Path dir;

  private interface Program {
    void main(String[] args) throws Exception;
  }

  /// What a program prints.
  private static String run(Program program, Object... args) throws Exception {
    PrintStream console = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    try {
      program.main(Arrays.stream(args).map(Object::toString).toArray(String[]::new));
    } finally {
      System.setOut(console);
    }
    return printed.toString(StandardCharsets.UTF_8);
  }

  private static Object[] with(String[] heads, Object... first) {
    Object[] all = Arrays.copyOf(first, first.length + heads.length);
    System.arraycopy(heads, 0, all, first.length, heads.length);
    return all;
  }

  private static SyntheticLanguage language() throws IOException {
    return Objects.requireNonNull(TrainingRecipe.languageOf(MODEL));
  }

  @Test
  void scoreHeadsFindsTheRetrievalHeads() throws Exception {
    String printed = run(ScoreHeads::main, MODEL);
    for (String head : RETRIEVAL_HEADS) {
      assertThat(printed).contains("\n" + head + "  0.");
    }
  }

  @Test
  void ablateHeadsShowsThatNothingIsRightWithoutThem() throws Exception {
    String printed = run(AblateHeads::main, with(RETRIEVAL_HEADS, MODEL));
    assertThat(printed)
        .containsPattern("intact: 3\\d\\d of 400 right")
        .contains("masked: 0 of 400");
  }

  @Test
  void generateTextAnswersFromContextOnlyWithThem() throws Exception {
    SyntheticLanguage.Probe probe = language().probe(2, 0, 48, Kind.CONTEXT);
    String answer = text(probe.answer());
    String printed = run(GenerateText::main, with(RETRIEVAL_HEADS, MODEL, text(probe.prompt())));
    assertThat(printed.lines().findFirst()).hasValueSatisfying(l -> assertThat(l).contains(answer));
    assertThat(printed.lines().skip(1).findFirst())
        .hasValueSatisfying(l -> assertThat(l).startsWith("masked: ").doesNotContain(answer));
  }

  @Test
  void theBundledPromptsAreThoseOfTheLanguage() throws IOException {
    List<SyntheticLanguage.Probe> wanted = language().prompts(0, 500, 48, 0.5);
    try (JsonLines.Reader lines = JsonLines.read(MODEL.resolve(TrainingRecipe.PROMPTS_FILE))) {
      for (SyntheticLanguage.Probe probe : wanted) {
        assertThat(Objects.requireNonNull(lines.next()).get("prompt").textValue())
            .isEqualTo(text(probe.prompt()));
      }
      assertThat(lines.next()).isNull();
    }
  }

  @Test
  void pairsAreSampledAndTrainedOn() throws Exception {
    StringBuilder prompts = new StringBuilder();
    for (int i = 0; i < 20; i++) {
      int[] ids = language().probe(3, i, 48, Kind.CONTEXT).prompt();
      prompts.append("{\"id\":\"%d\",\"prompt_ids\":%s}%n".formatted(i, Arrays.toString(ids)));
    }
    Path file = Files.writeString(dir.resolve("prompts.jsonl"), prompts);
    Path pairs = dir.resolve("pairs.jsonl.gz");
    assertThat(run(SampleContrastivePairs::main, with(RETRIEVAL_HEADS, MODEL, file, pairs)))
        .contains("20");
    Path trained = dir.resolve("trained");
    assertThat(run(TrainDpo::main, MODEL, pairs, trained)).contains("loss");
    assertThat(trained.resolve("model.safetensors")).exists();
    assertThat(TrainingRecipe.languageOf(trained))
        .as("a trained copy can be evaluated on the language of its base")
        .isNotNull();
  }

  /// Words of token ids, without the leading BOS, which the tokenizer writes itself.
  private static String text(int[] ids) throws IOException {
    StringBuilder text = new StringBuilder();
    for (int id : ids) {
      if (id != SyntheticLanguage.BOS) {
        text.append(text.isEmpty() ? "" : " ").append(language().vocabulary().get(id));
      }
    }
    return text.toString();
  }
}
