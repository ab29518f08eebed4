package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class GenerateCommandTest {
  private static final Path LLAMA = Cli.golden("llama");
  private static final Path PLANTED = Cli.golden("planted");

  @TempDir private Path dir;

  private static String list(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false)
        .map(JsonNode::asText)
        .collect(Collectors.joining(","));
  }

  private static String heads(JsonNode mask) {
    return StreamSupport.stream(mask.spliterator(), false)
        .map(h -> h.get(0) + "-" + h.get(1))
        .collect(Collectors.joining(","));
  }

  @ParameterizedTest
  @CsvSource({
    "none, , zero, everywhere",
    "A, A, zero, everywhere",
    "B, B, zero, everywhere",
    "query_zero_A_decode_only, A, uniform, decode"
  })
  void greedyTokensAreThoseOfTheReference(String greedy, String mask, String kind, String phase)
      throws IOException {
    JsonNode golden = JsonFiles.read(LLAMA.resolve("golden.json"));
    List<Object> args =
        new ArrayList<>(
            List.of(
                "generate",
                LLAMA,
                "--ids",
                list(golden.get("input_ids")),
                "--print-ids",
                "--ignore-eos",
                "--max-new-tokens",
                16));
    if (mask != null) {
      args.addAll(
          List.of(
              "--mask",
              heads(golden.at("/masks/" + mask)),
              "--mask-kind",
              kind,
              "--mask-phase",
              phase));
    }
    assertThat(Cli.ok(args.toArray()).out())
        .isEqualTo(list(golden.at("/greedy/" + greedy + "/tokens")) + "\n");
  }

  @Test
  void textOfThePlantedModelIsTheNeedleUnlessItsHeadIsMasked() throws IOException {
    JsonNode golden = JsonFiles.read(PLANTED.resolve("planted.json"));
    JsonNode trial = golden.at("/trials/0");
    String ids = list(trial.get("prompt_ids"));
    Object[] args = {"generate", PLANTED, "--ids", ids, "--max-new-tokens", 8};
    String needle = trial.get("needle_text").textValue();
    assertThat(Cli.ok(args).out().strip()).isEqualTo(needle);
    Object[] masked = {
      "generate",
      PLANTED,
      "--ids",
      ids,
      "--max-new-tokens",
      8,
      "--mask",
      heads(golden.at("/masks/retrieval"))
    };
    assertThat(Cli.ok(masked).out().strip()).isNotEqualTo(needle);
  }

  @Test
  void samplesHaveALineEachAndDependOnTheSeed() {
    Object[] args = {
      "generate",
      LLAMA,
      "--prompt",
      "Hello",
      "--temperature",
      1,
      "--n",
      3,
      "--print-ids",
      "--max-new-tokens",
      6,
      "--seed",
      7
    };
    String first = Cli.ok(args).out();
    assertThat(first.lines().distinct().toList()).hasSize(3);
    assertThat(Cli.ok(args).out()).isEqualTo(first);
    args[args.length - 1] = 8;
    assertThat(Cli.ok(args).out()).isNotEqualTo(first);
  }

  @Test
  void streamedTextIsTheDecodedContinuation() {
    Object[] args = {"generate", LLAMA, "--prompt", "Hello world", "--max-new-tokens", 20};
    String text = Cli.ok(args).out();
    Object[] ids = Arrays.copyOf(args, args.length + 1);
    ids[args.length] = "--print-ids";
    String tokens = Cli.ok(ids).out().strip();
    assertThat(text).isEqualTo(Cli.ok("decode", LLAMA, "--ids", tokens, "--skip-special").out());
  }

  @Test
  void chatIsPutIntoTheTemplate() throws IOException {
    JsonNode chat = JsonFiles.read(LLAMA.resolve("tokenizer_golden.json")).at("/chat/0");
    String said = chat.at("/messages/0/content").textValue();
    Object[] ids = {
      "generate", LLAMA, "--ids", list(chat.get("ids")), "--print-ids", "--max-new-tokens", 5
    };
    Object[] asked = {"generate", LLAMA, "--chat", said, "--print-ids", "--max-new-tokens", 5};
    assertThat(Cli.ok(asked).out()).isEqualTo(Cli.ok(ids).out());
  }

  @Test
  void idsNeedNoTokenizer() throws IOException {
    Path bare = Cli.copy(LLAMA, dir.resolve("bare"));
    Files.delete(bare.resolve("tokenizer.json"));
    Object[] args = {
      "generate", bare, "--ids", "312,5", "--print-ids", "--max-new-tokens", 3, "--ignore-eos"
    };
    assertThat(Cli.ok(args).out().strip().split(",")).hasSize(3);
  }

  // ---- many prompts ----

  private static final String IDS = "312,5,9,40,7,200,13,2";

  private Path prompts(String... lines) throws IOException {
    return Files.writeString(dir.resolve("prompts.jsonl"), String.join("\n", lines) + "\n");
  }

  private static List<JsonNode> lines(String out) {
    return out.lines().map(GenerateCommandTest::json).toList();
  }

  private static JsonNode json(String line) {
    try {
      return new ObjectMapper().readTree(line);
    } catch (JsonProcessingException e) {
      throw new AssertionError(line, e);
    }
  }

  @Test
  void everyPromptOfAFileHasItsOwnMaskAndSamplingAndEqualsItsSoloRun() throws IOException {
    Path file =
        prompts(
            "{'id': 'intact', 'prompt_ids': [%s]}".formatted(IDS),
            "{'id': 'masked', 'prompt_ids': [%s], 'mask': '0-1,1-2', 'max_new_tokens': 9}"
                .formatted(IDS),
            ("{'id': 'soft', 'prompt_ids': [%s], 'mask': [[0, 1], [2, 5]], 'mask_kind': 'scale=0.3',"
                    + " 'mask_phase': 'decode', 'temperature': 0.9, 'seed': 3, 'n': 2}")
                .formatted(IDS),
            ("{'id': 'hot', 'prompt_ids': [%s], 'temperature': 1.2, 'top_k': 9, 'top_p': 0.9,"
                    + " 'min_p': 0.01, 'repetition_penalty': 1.3}")
                .formatted(IDS));
    Files.writeString(file, Files.readString(file).replace('\'', '"'));
    List<JsonNode> answers =
        lines(
            Cli.ok(
                    "generate",
                    LLAMA,
                    "--prompts",
                    file,
                    "--max-new-tokens",
                    7,
                    "--ignore-eos",
                    "--mask",
                    "2-2")
                .out());
    assertThat(answers.stream().map(a -> a.get("id").textValue() + a.get("sample")).toList())
        .containsExactly("intact0", "masked0", "soft0", "soft1", "hot0");
    String[] solo = {
      "--max-new-tokens 7 --mask 2-2",
      "--max-new-tokens 9 --mask 0-1,1-2",
      "--max-new-tokens 7 --mask 0-1,2-5 --mask-kind scale=0.3 --mask-phase decode"
          + " --temperature 0.9 --seed 3 --n 2",
      "--max-new-tokens 7 --mask 2-2 --temperature 1.2 --top-k 9 --top-p 0.9 --min-p 0.01"
          + " --repetition-penalty 1.3"
    };
    List<String> alone = new ArrayList<>();
    for (String options : solo) {
      List<Object> args =
          new ArrayList<>(List.of("generate", LLAMA, "--ids", IDS, "--ignore-eos", "--print-ids"));
      args.addAll(List.of(options.split(" ")));
      alone.addAll(Cli.ok(args.toArray()).out().lines().toList());
    }
    assertThat(answers.stream().map(a -> list(a.get("ids"))).toList()).isEqualTo(alone);
    assertThat(alone.stream().distinct().toList()).hasSize(5);
    for (JsonNode answer : answers) {
      assertThat(answer.get("prompt_tokens").intValue()).isEqualTo(8);
      assertThat(answer.get("finish_reason").textValue()).isEqualTo("length");
      assertThat(answer.get("text").textValue() + "\n")
          .isEqualTo(
              Cli.ok("decode", LLAMA, "--skip-special", "--ids", list(answer.get("ids"))).out());
    }
    Path zipped = dir.resolve("prompts.jsonl.gz");
    try (var out = new GZIPOutputStream(Files.newOutputStream(zipped))) {
      Files.copy(file, out);
    }
    Object[] args = {"generate", LLAMA, "--prompts", zipped, "--ignore-eos", "--print-ids"};
    assertThat(Cli.ok(args).out().lines().toList()).hasSize(5);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          'prompt': 3 | line 1: "prompt" is 3
          'prompt': 'a', 'temperature': 'hot' | line 1: temperature is "hot", want a finite number
          'prompt': 'a', 'temperature': -1 | temperature -1.0: want a finite number >= 0
          'prompt': 'a', 'top_k': 5 | line 1: top_k has no effect at temperature 0
          'prompt': 'a', 'repetition_penalty': 0 | repetition-penalty 0.0
          'prompt': 'a', 'mask': '9-0' | line 1: mask cannot be used: head 9-0 is not in the model
          'prompt': 'a', 'mask': [[0]] | entry [0], want [layer, head]
          'prompt': 'a', 'mask_kind': 'zero' | line 1: mask_kind without mask
          'prompt': 'a', 'mask': '0-1', 'mask_kind': 'half' | "half", want zero, uniform
          'prompt': 'a', 'mask': '0-1', 'mask_phase': 'late' | "late": want everywhere or decode
          'prompt': 'a', 'stop': '' | line 1: stop is "", want a text or a list of texts
          'prompt': 'a', 'max_new_tokens': 0 | line 1: max_new_tokens is 0, want an integer >= 1
          'prompt': 'a', 'max_new_tokens': 99999 | positions, the model has
          'prompt': 'a', 'n': 0 | line 1: n is 0, want an integer >= 1
          'prompt': 'a', 'seed': 1.5 | line 1: seed is 1.5, want an integer
          'prompt_ids': [1, 999] | line 1: prompt_ids hold 999, want ids below
          'messages': [] | "messages" is [], want an array
          'messages': [{'role': 'user'}] | "messages" holds {"role":"user"}, want
          'text': 'a' | got none of them
          """)
  void wrongLinesAreNamedBeforeWorkStarts(String fields, String message) throws IOException {
    Path file = prompts(("{'id': 1, " + fields + "}").replace('\'', '"'));
    Cli failed = Cli.run("generate", LLAMA, "--prompts", file);
    assertThat(failed.code()).isEqualTo(1);
    assertThat(failed.error()).contains("prompts.jsonl").contains(message);
    assertThat(failed.out()).isEmpty();
  }

  @Test
  void recordsThatAreLeftOutAreCounted() throws IOException {
    Path file =
        prompts(
            "{\"id\": 1, \"prompt\": \"a\"}",
            "{\"id\": 1, \"prompt\": \"b\"}",
            "{\"id\": 2, \"prompt\": \"b\", \"redacted\": true}");
    Cli ran = Cli.ok("generate", LLAMA, "--prompts", file, "--max-new-tokens", 1);
    assertThat(lines(ran.out())).hasSize(1);
    assertThat(ran.error()).contains("records passed over: duplicate_id 1, redacted 1");
  }

  @Test
  void severalPromptsAndSamplesAreTitled() {
    Object[] args = {
      "generate", LLAMA, "--prompt", "Hello", "--prompt", "The rain", "--max-new-tokens", 4
    };
    String text = Cli.ok(args).out();
    assertThat(text).startsWith("--- prompt 1\n").contains("\n--- prompt 2\n");
    String second = Cli.ok("generate", LLAMA, "--prompt", "The rain", "--max-new-tokens", 4).out();
    assertThat(text).endsWith("--- prompt 2\n" + second);
    Object[] ids = {"generate", LLAMA, "--ids", "1,2", "--ids", "3", "--n", 2, "--print-ids"};
    assertThat(Cli.ok(ids).out().lines().toList()).hasSize(4);
  }

  @Test
  void aSystemPromptAndMessagesGoThroughTheTemplate() throws IOException {
    JsonNode cases = JsonFiles.read(LLAMA.resolve("tokenizer_golden.json")).get("chat");
    int found = 0;
    for (JsonNode chat : cases) {
      JsonNode messages = chat.get("messages");
      boolean fits =
          messages.size() == 2
              && messages.at("/0/role").asText().equals("system")
              && chat.get("add_generation_prompt").booleanValue()
              && chat.get("extra").isEmpty();
      if (fits) {
        found++;
        Object[] ids = {"generate", LLAMA, "--ids", list(chat.get("ids")), "--print-ids"};
        String wanted = Cli.ok(ids).out();
        Object[] said = {
          "generate",
          LLAMA,
          "--system",
          messages.at("/0/content").textValue(),
          "--chat",
          messages.at("/1/content").textValue(),
          "--print-ids"
        };
        assertThat(Cli.ok(said).out()).isEqualTo(wanted);
        Path file = prompts("{\"id\": 1, \"messages\": " + messages + "}");
        assertThat(Cli.ok("generate", LLAMA, "--prompts", file, "--print-ids").out())
            .isEqualTo(wanted);
      }
    }
    assertThat(found).isPositive();
  }

  // ---- stop texts, generation_config.json ----

  @Test
  void textEndsBeforeAStopTextHoweverItIsPrinted() throws IOException {
    Object[] args = {"generate", LLAMA, "--prompt", "Hello world", "--max-new-tokens", 30};
    String whole = Cli.ok(args).out();
    String stop = whole.substring(5, 8);
    String wanted = whole.substring(0, whole.indexOf(stop));
    Object[] stopped = Arrays.copyOf(args, args.length + 2);
    stopped[args.length] = "--stop";
    stopped[args.length + 1] = stop.replace("\n", "\\n");
    assertThat(Cli.ok(stopped).out()).isEqualTo(wanted + "\n");
    Path file =
        prompts(
            new ObjectMapper()
                .createObjectNode()
                .put("id", 1)
                .put("prompt", "Hello world")
                .put("stop", stop)
                .toString());
    JsonNode line = lines(Cli.ok("generate", LLAMA, "--prompts", file).out()).getFirst();
    assertThat(line.get("text").textValue()).isEqualTo(wanted);
    assertThat(line.get("finish_reason").textValue()).isEqualTo("stop");
  }

  @Test
  void theGenerationConfigHoldsUnlessAnOptionOverridesIt() throws IOException {
    Path model = Cli.copy(LLAMA, dir.resolve("model"));
    Files.writeString(
        model.resolve("generation_config.json"),
        """
        {"do_sample": true, "temperature": 0.9, "top_k": 20, "top_p": 0.95, "min_p": 0.02,
         "repetition_penalty": 1.4, "eos_token_id": [313, 316]}
        """);
    Object[] asked = {"generate", null, "--ids", IDS, "--print-ids", "--max-new-tokens", 60};
    String configured = ids(asked, model);
    assertThat(configured)
        .isEqualTo(
            ids(
                asked,
                LLAMA,
                "--temperature 0.9 --top-k 20 --top-p 0.95 --min-p 0.02 --repetition-penalty 1.4"));
    assertThat(ids(asked, model, "--temperature 0 --repetition-penalty 1"))
        .isEqualTo(ids(asked, LLAMA));
    assertThat(ids(asked, model, "--temperature 0"))
        .isEqualTo(ids(asked, LLAMA, "--repetition-penalty 1.4"))
        .isNotEqualTo(ids(asked, LLAMA));
    assertThat(ids(asked, model, "--temperature 1.3"))
        .isEqualTo(
            ids(
                asked,
                LLAMA,
                "--temperature 1.3 --top-k 20 --top-p 0.95 --min-p 0.02 --repetition-penalty 1.4"))
        .isNotEqualTo(configured);
    assertThat(Cli.ok("info", model).out()).contains("repetition penalty 1.4; ends at 313,316");
  }

  private static String ids(Object[] args, Path model, String... options) {
    List<Object> all = new ArrayList<>(Arrays.asList(args));
    all.set(1, model);
    for (String option : options) {
      all.addAll(List.of(option.split(" ")));
    }
    return Cli.ok(all.toArray()).out();
  }

  @Test
  void everyEosIdOfTheGenerationConfigEndsAText() throws IOException {
    Path model = Cli.copy(LLAMA, dir.resolve("model"));
    Object[] asked = {"generate", null, "--ids", IDS, "--print-ids", "--max-new-tokens", 12};
    String[] free = ids(asked, LLAMA, "--ignore-eos").strip().split(",");
    for (int end : new int[] {3, 6}) {
      Files.writeString(
          model.resolve("generation_config.json"),
          "{\"eos_token_id\": [999, %s]}".formatted(free[end]));
      int first = List.of(free).indexOf(free[end]);
      assertThat(ids(asked, model).strip())
          .isEqualTo(String.join(",", Arrays.copyOf(free, first + 1)));
    }
  }
}
