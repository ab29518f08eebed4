package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.io.WorkJournal.Existing;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.random.SplitMix64;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ContrastiveSamplerTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Generator.Options LIMITS = new Generator.Options(8, 64, 1L << 30);
  private static final Sampling WARM = Sampling.of(0.6, 42);
  private static PretrainedModel llama;

  @TempDir Path dir;

  @BeforeAll
  static void open() throws IOException {
    llama = TestModels.golden("llama");
  }

  @AfterAll
  static void close() {
    llama.close();
  }

  private static HeadMask off(String... heads) {
    return HeadMask.off(3, 6, Arrays.stream(heads).map(HeadId::parse).toList());
  }

  private static ContrastiveSampler.Options options(HeadMask mask, Sampling sampling) {
    return new ContrastiveSampler.Options(
        "llama", mask, sampling, 7, new int[] {3, 313, 316, 317}, 50, PairFilter.NONE);
  }

  private static ContrastiveSampler sampler(ContrastiveSampler.Options options) throws IOException {
    return new ContrastiveSampler(llama.transformer(), new ChatEncoder(llama.tokenizer()), options);
  }

  private static ContrastiveSampler sampler() throws IOException {
    return sampler(options(off("0-4", "1-0", "2-3"), WARM));
  }

  /// Nine usable prompts of all three forms, and six that are not.
  private static List<String> prompts() {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      lines.add("{\"id\": \"ids%d\", \"prompt_ids\": [312, %d, 20, 7]}".formatted(i, 30 + i));
      lines.add("{\"id\": %d, \"prompt\": \"The rain on the roof %d\"}".formatted(i, i));
      lines.add(
          """
          {"conversation_id": "chat%d", "conversation": [{"role": "user", "content": "bell %d?"}, \
          {"role": "assistant", "content": "never seen"}], "redacted": false, \
          "duplicate_user_instruction_ja": null}"""
              .formatted(i, i));
    }
    lines.add(2, "{\"id\": \"r\", \"prompt\": \"x\", \"redacted\": true}");
    lines.add(3, "{\"id\": \"e\", \"prompt\": \"x\", \"empty_user_instruction_ja\": true}");
    lines.add(4, "{\"id\": \"d\", \"prompt\": \"x\", \"duplicate_user_instruction_ja\": \"a\"}");
    lines.add(5, "{\"id\": \"n\", \"conversation\": [{\"role\": \"system\", \"content\": \"x\"}]}");
    lines.add(6, "{\"id\": \"ids0\", \"prompt_ids\": [1]}");
    lines.add(7, "{\"id\": \"long\", \"prompt\": \"%s\"}".formatted("bread ".repeat(60)));
    return lines;
  }

  private Path write(List<String> lines) throws IOException {
    return Files.write(dir.resolve("prompts.jsonl"), lines);
  }

  private PairReport sample(ContrastiveSampler sampler, Path prompts, Path out) throws IOException {
    return sampler.sample(prompts, out, LIMITS, Existing.RESUME, ContrastiveSampler.Progress.NONE);
  }

  private static Map<String, JsonNode> byId(Path pairs) throws IOException {
    Map<String, JsonNode> all = new TreeMap<>();
    try (JsonLines.Reader in = JsonLines.read(pairs)) {
      for (JsonNode line = in.next(); line != null; line = in.next()) {
        all.put(line.get("conversation_id").asText(), line);
      }
    }
    return all;
  }

  private static int[] ints(JsonNode array) {
    int[] ids = new int[array.size()];
    Arrays.setAll(ids, i -> array.get(i).intValue());
    return ids;
  }

  @Test
  void bothSidesAreWhatTheGeneratorSaysAlone() throws IOException {
    Path out = dir.resolve("pairs.jsonl.gz");
    PairReport report = sample(sampler(), write(prompts()), out);
    Map<String, JsonNode> pairs = byId(out);
    assertThat(report.pairs()).isEqualTo(pairs.size()).isGreaterThan(4);
    HeadMask mask = off("0-4", "1-0", "2-3");
    for (Map.Entry<String, JsonNode> pair : pairs.entrySet()) {
      JsonNode line = pair.getValue();
      int[] prompt = ints(line.get("prompt_ids"));
      GenerationRequest request =
          new GenerationRequest(
              prompt,
              llama.transformer().noMask(),
              WARM,
              SplitMix64.key(pair.getKey()),
              7,
              StopRule.at(3, 313, 316, 317),
              false);
      try (Generator generator = new Generator(llama.transformer(), LIMITS)) {
        Completion intact = generator.generate(request, TokenListener.NONE);
        Completion masked = generator.generate(request.withMask(mask), TokenListener.NONE);
        assertThat(ints(line.get("chosen_ids"))).isEqualTo(intact.ids());
        assertThat(ints(line.get("rejected_ids"))).isEqualTo(masked.ids());
        assertThat(line.at("/finish_reasons/chosen").asText()).isEqualTo(intact.finish().text());
        assertThat(line.at("/finish_reasons/rejected").asText()).isEqualTo(masked.finish().text());
        assertThat(line.get("first_divergence").intValue())
            .isEqualTo(Arrays.mismatch(intact.ids(), masked.ids()));
        assertThat(line.at("/chosen/1/content").asText())
            .isEqualTo(llama.tokenizer().decode(intact.ids(), true));
      }
      assertThat(line.at("/rejected/0").toString()).isEqualTo(line.at("/chosen/0").toString());
      assertThat(line.at("/rejected/1/role").asText()).isEqualTo("assistant");
    }
    JsonNode chat = pairs.get("chat1");
    assertThat(chat.at("/chosen/0/content").asText()).isEqualTo("bell 1?");
    String rendered =
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nbell 1?<|eot_id|>"
            + "<|start_header_id|>assistant<|end_header_id|>\n\n";
    assertThat(ints(chat.get("prompt_ids"))).isEqualTo(llama.tokenizer().encode(rendered, false));
    assertThat(pairs.get("1").at("/chosen/0/content").asText()).isEqualTo("The rain on the roof 1");
    assertThat(ints(pairs.get("1").get("prompt_ids")))
        .isEqualTo(llama.tokenizer().encode("The rain on the roof 1", true));
  }

  @Test
  void whatIsLeftOutIsCountedByReason() throws IOException {
    PairReport report = sample(sampler(), write(prompts()), dir.resolve("pairs.jsonl"));
    assertThat(report.records()).isEqualTo(15);
    assertThat(report.pairs()).isPositive();
    Map<DropReason, Long> expected =
        new TreeMap<>(
            Map.of(
                DropReason.REDACTED, 1L,
                DropReason.EMPTY_INSTRUCTION, 1L,
                DropReason.DUPLICATE_INSTRUCTION, 1L,
                DropReason.NO_USER_TURN, 1L,
                DropReason.DUPLICATE_ID, 1L,
                DropReason.LONG_PROMPT, 1L));
    if (report.pairs() < 9) {
      expected.put(DropReason.IDENTICAL, 9 - report.pairs());
    }
    assertThat(report.dropped()).isEqualTo(expected);
    assertThat(report.toString())
        .startsWith("15 records, " + report.pairs() + " pairs, ")
        .contains("redacted 1", "duplicate_id 1", "prompt_too_long 1");
  }

  @Test
  void anEmptyMaskDropsEveryPairAsIdenticalAtAnyTemperature() throws IOException {
    Path out = dir.resolve("pairs.jsonl");
    PairReport report = sample(sampler(options(off(), Sampling.of(1.3, 9))), write(prompts()), out);
    assertThat(report.pairs()).isZero();
    assertThat(report.dropped()).containsEntry(DropReason.IDENTICAL, 9L);
    assertThat(out).isEmptyFile();
  }

  @ParameterizedTest
  @CsvSource({"1,1", "2,512", "3,3", "5,1", "7,2", "64,512"})
  void bytesDependNeitherOnRowsNorOnChunks(int rows, int chunk) throws IOException {
    Path prompts = write(prompts());
    Path reference = dir.resolve("reference.jsonl.gz");
    sample(sampler(), prompts, reference);
    Path out = dir.resolve("pairs.jsonl.gz");
    Generator.Options limits = new Generator.Options(rows, chunk, 1L << 30);
    sampler().sample(prompts, out, limits, Existing.RESUME, ContrastiveSampler.Progress.NONE);
    assertThat(out).hasSameBinaryContentAs(reference);
    assertThat(WorkJournal.path(out)).doesNotExist();
  }

  @Test
  void aRecordGetsTheSamePairAtAnyPlaceInTheFile() throws IOException {
    List<String> lines = prompts();
    lines.remove(6); // of two records with one id the first counts
    Path forward = dir.resolve("forward.jsonl");
    sample(sampler(), write(lines), forward);
    Collections.reverse(lines);
    Path backward = dir.resolve("backward.jsonl");
    sample(sampler(), write(lines.subList(0, 8)), backward);
    Map<String, JsonNode> all = byId(forward);
    byId(backward).forEach((id, line) -> assertThat(line).isEqualTo(all.get(id)));
    assertThat(byId(backward)).isNotEmpty();
  }

  @Test
  void anInterruptedRunGoesOnToTheSameBytesWhereverItStopped() throws IOException {
    Path prompts = write(prompts());
    Path reference = dir.resolve("reference.jsonl.gz");
    sample(sampler(), prompts, reference);
    Path out = dir.resolve("pairs.jsonl.gz");
    for (int stop = 1; stop <= 8; stop++) {
      int last = stop;
      ContrastiveSampler.Progress interrupt =
          (done, of) -> {
            assertThat(of).isEqualTo(9);
            if (done == last) {
              throw new IllegalStateException("stopped");
            }
          };
      assertThatThrownBy(() -> sampler().sample(prompts, out, LIMITS, Existing.RESUME, interrupt))
          .hasMessage("stopped");
      assertThat(out).doesNotExist();
    }
    List<Long> heard = new ArrayList<>();
    sampler().sample(prompts, out, LIMITS, Existing.RESUME, (done, _) -> heard.add(done));
    assertThat(heard).containsExactly(8L, 9L);
    assertThat(out).hasSameBinaryContentAs(reference);
  }

  @Test
  void otherOptionsAreRefusedByNameUntilRestarted() throws IOException {
    Path prompts = write(prompts());
    Path out = dir.resolve("pairs.jsonl");
    assertThatThrownBy(
            () ->
                sampler()
                    .sample(
                        prompts,
                        out,
                        LIMITS,
                        Existing.RESUME,
                        (done, _) -> {
                          if (done == 2) {
                            throw new IllegalStateException("stopped");
                          }
                        }))
        .hasMessage("stopped");
    ContrastiveSampler other = sampler(options(off("0-4", "1-0"), Sampling.of(0.7, 42)));
    assertThatThrownBy(() -> sample(other, prompts, out))
        .isInstanceOf(FormatException.class)
        .hasMessageContainingAll("mask", "temperature=0.6, now 0.7", "--restart")
        .hasMessageNotContaining("seed");
    Files.writeString(prompts, prompts().getFirst());
    assertThatThrownBy(() -> sample(sampler(), prompts, out))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("prompts=");
    write(prompts());
    other.sample(prompts, out, LIMITS, Existing.RESTART, ContrastiveSampler.Progress.NONE);
    Path fresh = dir.resolve("fresh.jsonl");
    sample(other, prompts, fresh);
    assertThat(out).hasSameBinaryContentAs(fresh);
  }

  @Test
  void aKilledProcessLosesNothingThatItFinished() throws Exception {
    Path prompts = write(prompts());
    Path reference = dir.resolve("reference.jsonl.gz");
    sample(sampler(), prompts, reference);
    Path out = dir.resolve("pairs.jsonl.gz");
    int kept = 0;
    for (int pairs : new int[] {2, 6}) {
      Process process = child(prompts, out, pairs);
      try {
        assertThat(process.inputReader().readLine()).isEqualTo("waiting");
      } finally {
        process.destroyForcibly().waitFor();
      }
      assertThat(out).doesNotExist();
      List<Long> heard = new ArrayList<>();
      assertThatThrownBy(
              () ->
                  sampler()
                      .sample(
                          prompts,
                          out,
                          LIMITS,
                          Existing.RESUME,
                          (done, _) -> {
                            heard.add(done);
                            throw new IllegalStateException("seen");
                          }))
          .hasMessage("seen");
      assertThat(heard.getFirst()).isEqualTo(pairs).isGreaterThan(kept);
      kept = pairs;
    }
    sample(sampler(), prompts, out);
    assertThat(out).hasSameBinaryContentAs(reference);
  }

  private static Process child(Path prompts, Path out, int pairs) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    for (String given : ManagementFactory.getRuntimeMXBean().getInputArguments()) {
      if (given.startsWith("--")) {
        command.add(given);
      }
    }
    command.addAll(List.of("-cp", System.getProperty("java.class.path")));
    command.add(ContrastiveSamplerTest.class.getName());
    command.addAll(List.of(prompts.toString(), out.toString(), String.valueOf(pairs)));
    return new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
  }

  /// Samples until some pairs are finished, says so, and waits to be killed.
  static void main(String[] args) throws IOException {
    open();
    sampler()
        .sample(
            Path.of(args[0]),
            Path.of(args[1]),
            LIMITS,
            Existing.RESUME,
            (done, _) -> {
              if (done == Integer.parseInt(args[2])) {
                System.out.println("waiting");
                try {
                  Thread.sleep(600_000);
                } catch (InterruptedException e) {
                  throw new IllegalStateException(e);
                }
              }
            });
  }

  @Test
  void filtersDropAndCountWhatTheyNameAndNothingElse() throws IOException {
    Path prompts = write(prompts());
    Path all = dir.resolve("all.jsonl");
    sample(sampler(), prompts, all);
    long unfinished =
        byId(all).values().stream()
            .filter(line -> line.get("finish_reasons").toString().contains("length"))
            .count();
    assertThat(unfinished).isPositive();
    PairFilter finished = new PairFilter(true, 0, 0, false);
    ContrastiveSampler.Options options =
        new ContrastiveSampler.Options(
            "llama", off("0-4", "1-0", "2-3"), WARM, 7, new int[] {3, 313, 316, 317}, 50, finished);
    Path out = dir.resolve("finished.jsonl");
    PairReport report = sample(sampler(options), prompts, out);
    assertThat(report.dropped()).containsEntry(DropReason.UNFINISHED, unfinished);
    assertThat(report.pairs()).isEqualTo(byId(all).size() - unfinished);
    byId(out).forEach((id, line) -> assertThat(byIdUnchecked(all, id)).isEqualTo(line));
  }

  private static JsonNode byIdUnchecked(Path pairs, String id) {
    try {
      return byId(pairs).get(id);
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  @Test
  void plantedNeedleIsChosenAndItsAbsenceRejected() throws IOException {
    try (PretrainedModel planted = TestModels.golden("planted")) {
      JsonNode expected = JSON.readTree(planted.folder().resolve("planted.json").toFile());
      List<String> lines = new ArrayList<>();
      for (JsonNode trial : expected.get("trials")) {
        lines.add(
            "{\"id\": \"t%d\", \"prompt_ids\": %s}"
                .formatted(lines.size(), trial.get("prompt_ids")));
      }
      HeadMask mask = HeadMask.off(3, 4, List.of(new HeadId(1, 2)));
      Path out = dir.resolve("planted.jsonl.gz");
      new ContrastiveSampler(
              planted.transformer(),
              new ChatEncoder(planted.tokenizer()),
              new ContrastiveSampler.Options(
                  "planted", mask, Sampling.GREEDY, 8, new int[0], 500, PairFilter.NONE))
          .sample(write(lines), out, LIMITS, Existing.RESUME, ContrastiveSampler.Progress.NONE);
      Map<String, JsonNode> pairs = byId(out);
      for (int i = 0; i < 3; i++) {
        JsonNode trial = expected.at("/trials/" + i);
        JsonNode pair = pairs.get("t" + i);
        assertThat(pair.get("chosen_ids")).isEqualTo(trial.get("generated"));
        assertThat(pair.get("rejected_ids")).isEqualTo(trial.at("/masked/retrieval/generated"));
        assertThat(pair.at("/chosen/1/content").asText())
            .isEqualTo(trial.get("response_text").asText());
      }
    }
  }

  @Test
  void aContextThatMemoryCannotHoldIsRefused() throws IOException {
    Path prompts = write(prompts());
    Path out = dir.resolve("pairs.jsonl");
    assertThatThrownBy(
            () ->
                sampler()
                    .sample(
                        prompts,
                        out,
                        new Generator.Options(8, 8, 10_000),
                        Existing.RESUME,
                        ContrastiveSampler.Progress.NONE))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("may be used");
  }

  @Test
  void linesOfNoKnownFormAreNamed() {
    Map<String, String> broken =
        Map.of(
            "{\"prompt\": \"x\"}", "want \"id\" or \"conversation_id\"",
            "{\"id\": \"a\"}", "want \"prompt_ids\", \"prompt\", \"messages\" or \"conversation\"",
            "{\"id\": \"a\", \"prompt\": 5}", "\"prompt\" is 5, want text",
            "{\"id\": \"a\", \"prompt_ids\": []}", "want an array of token ids",
            "{\"id\": \"a\", \"prompt_ids\": [3, -1]}", "holds -1 at 1",
            "{\"id\": \"a\", \"conversation\": \"hi\"}", "\"conversation\" is \"hi\"");
    broken.forEach(
        (line, problem) ->
            assertThatThrownBy(
                    () ->
                        sample(
                            sampler(),
                            write(List.of("{\"id\": \"fine\", \"prompt\": \"x\"}", line)),
                            dir.resolve("pairs.jsonl")))
                .isInstanceOf(FormatException.class)
                .hasMessageContainingAll("prompts.jsonl line 2", problem));
  }

  @Test
  void aFinishedRunIsNotRepeatedAndOtherOptionsAreRefusedByName() throws IOException {
    Path prompts = write(prompts());
    Path out = dir.resolve("pairs.jsonl.gz");
    PairReport report = sample(sampler(), prompts, out);
    byte[] pairs = Files.readAllBytes(out);
    java.nio.file.attribute.FileTime written = Files.getLastModifiedTime(out);
    assertThat(sample(sampler(), prompts, out)).isEqualTo(report);
    assertThat(Files.getLastModifiedTime(out)).isEqualTo(written);
    ContrastiveSampler other = sampler(options(off("0-4"), WARM));
    assertThatThrownBy(() -> sample(other, prompts, out))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining(out + ": holds the result of other options: mask was")
        .hasMessageContaining("now gate 0.0: 0-4;");
    assertThat(out).hasBinaryContent(pairs);
    assertThat(dir.resolve("pairs.jsonl.gz.partial")).doesNotExist();
  }

  @Test
  void anOutputThatIsNoneOfOursIsLeftAlone() throws IOException {
    Path prompts = write(prompts());
    byte[] before = Files.readAllBytes(prompts);
    assertThatThrownBy(() -> sample(sampler(), prompts, prompts))
        .hasMessage(prompts + ": not written: the prompts are read from it");
    assertThat(prompts).hasBinaryContent(before);
    Path other = Files.writeString(dir.resolve("mine.jsonl"), "notes");
    assertThatThrownBy(() -> sample(sampler(), prompts, other))
        .hasMessageContaining(other + ": is there already");
    assertThat(other).hasContent("notes");
    assertThat(dir.resolve("mine.jsonl.partial")).doesNotExist();
  }

  @Test
  void promptsThatTheModelCannotReadAreNamedBeforeTheWork() throws IOException {
    Path file =
        write(List.of("{\"id\": 1, \"prompt\": \"a\"}", "{\"id\": 2, \"prompt_ids\": [1, 99999]}"));
    assertThatThrownBy(() -> sample(sampler(), file, dir.resolve("pairs.jsonl")))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining(file + " line 2: prompt_ids holds token id 99999 at 1, want 0 to");
    Path empty = Files.createFile(dir.resolve("none.jsonl"));
    assertThatThrownBy(() -> sample(sampler(), empty, dir.resolve("pairs.jsonl")))
        .hasMessage(empty + ": no prompts in this file");
    assertThat(dir.resolve("pairs.jsonl.partial")).doesNotExist();
  }
}
