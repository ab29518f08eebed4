package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
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
        new java.util.ArrayList<>(
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
    Object[] ids = java.util.Arrays.copyOf(args, args.length + 1);
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
    java.nio.file.Files.delete(bare.resolve("tokenizer.json"));
    Object[] args = {
      "generate", bare, "--ids", "312,5", "--print-ids", "--max-new-tokens", 3, "--ignore-eos"
    };
    assertThat(Cli.ok(args).out().strip().split(",")).hasSize(3);
  }
}
