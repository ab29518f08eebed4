package io.github.retmask.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.gguf.GgufFixtures;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// GGUF files against llama.cpp itself (de.kherud:llama 4.2.0, build b4916), which runs in a JVM of its
/// own: the same tokens of a text, the same greedy continuation. `mvn -Ppeers verify` fetches it.
@Timeout(300)
class LlamaCppTest {
  private static final Path PEER = Path.of("target/peers/llama-4.2.0.jar");
  private static final Path GOLDENS = Path.of("../retmask-core/src/test/resources/goldens");
  private static final int TOKENS = 16;
  private static final double F32_MARGIN = 1e-3;
  private static final double BLOCK_MARGIN = 0.1; // some ten times what 8 bits do to two layers

  @TempDir private Path dir;

  @BeforeAll
  static void requirePeer() {
    assumeTrue(Files.exists(PEER), "skipped: no llama.cpp; run with -Ppeers to fetch it");
    boolean fits =
        System.getProperty("os.name").equals("Linux")
            && System.getProperty("os.arch").equals("amd64");
    assumeTrue(fits, "skipped: the llama.cpp binding is fetched for Linux on x86-64");
  }

  /// Answers of llama.cpp to requests, see `LlamaCpp`.
  private List<String> peer(Path gguf, List<String> requests) throws Exception {
    Path in = Files.write(dir.resolve("requests"), requests);
    Path log = dir.resolve("log");
    Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx512m",
                "-cp",
                PEER.toString(),
                "src/test/peers/LlamaCpp.java",
                gguf.toString())
            .redirectInput(in.toFile())
            .redirectError(log.toFile())
            .start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
    List<String> answers =
        out.lines().filter(line -> line.startsWith("> ")).map(line -> line.substring(2)).toList();
    assertThat(answers).as(() -> "llama.cpp said: " + read(log)).hasSameSizeAs(requests);
    return answers;
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      return e.toString();
    }
  }

  private static String base64(String text) {
    return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
  }

  private static String text(String base64) {
    return new String(Base64.getDecoder().decode(base64), StandardCharsets.UTF_8);
  }

  /// Both cut every prompt into the same tokens and continue it with the same ones.
  ///
  /// Compared is the beginning that must agree: up to the end of the text, up to a token that is no
  /// whole character, and up to where the best token leads by less than `margin` standard deviations
  /// of the logits, since llama.cpp rounds activations to 8 bits before it multiplies them with blocks.
  ///
  /// @param least tokens that must have been compared, over all prompts
  private void assertSame(Path gguf, List<String> prompts, double margin, int least)
      throws Exception {
    List<String> requests = new ArrayList<>();
    prompts.forEach(prompt -> requests.add("encode " + base64(prompt)));
    prompts.forEach(prompt -> requests.add("generate " + TOKENS + " " + base64(prompt)));
    List<String> answers = peer(gguf, requests);
    int compared = 0;
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(gguf, new Ops(kernels))) {
      for (int i = 0; i < prompts.size(); i++) {
        String prompt = prompts.get(i);
        assertThat(answers.get(i))
            .as("tokens of %s", prompt)
            .isEqualTo(
                Arrays.stream(model.tokenizer().encode(prompt, false))
                    .mapToObj(Integer::toString)
                    .collect(Collectors.joining(",")));
        int[] sure = sureContinuation(model, model.tokenizer().encode(prompt, true), margin);
        String wanted = model.tokenizer().decode(sure, true);
        int broken = wanted.indexOf('\ufffd');
        assertThat(text(answers.get(prompts.size() + i)).strip())
            .as("continuation of %s", prompt)
            .startsWith((broken < 0 ? wanted : wanted.substring(0, broken)).strip());
        compared += broken < 0 ? sure.length : broken;
      }
    }
    assertThat(compared).as("tokens compared").isGreaterThanOrEqualTo(least);
  }

  private static int[] sureContinuation(PretrainedModel model, int[] prompt, double margin)
      throws IOException {
    Transformer transformer = model.transformer();
    int[] ids = prompt;
    int[] ends = model.eosIds();
    try (TensorArena step = transformer.ops().arena(TensorArena.Lifetime.STEP)) {
      while (ids.length < prompt.length + TOKENS) {
        Batch batch = Batch.of(Batch.Row.whole(ids, transformer.noMask()));
        Activations a = transformer.forward(batch, step);
        float[] logits = transformer.logits(a, step, ids.length - 1).toFloats();
        step.reset();
        int best = 0;
        for (int v = 0; v < logits.length; v++) {
          best = logits[v] > logits[best] ? v : best;
        }
        double second = Double.NEGATIVE_INFINITY;
        double sum = 0;
        double squares = 0;
        for (int v = 0; v < logits.length; v++) {
          second = v == best ? second : Math.max(second, logits[v]);
          sum += logits[v];
          squares += (double) logits[v] * logits[v];
        }
        double mean = sum / logits.length;
        double deviation = Math.sqrt(squares / logits.length - mean * mean);
        int next = best;
        boolean ended = Arrays.stream(ends).anyMatch(end -> end == next);
        if (ended || logits[best] - second < margin * deviation) {
          break;
        }
        ids = Arrays.copyOf(ids, ids.length + 1);
        ids[ids.length - 1] = best;
      }
    }
    return Arrays.copyOfRange(ids, prompt.length, ids.length);
  }

  private Path export(Path model, DType dtype) throws IOException {
    Path file = dir.resolve("m.gguf");
    try (Kernels kernels = Backends.open()) {
      GgufFixtures.export(model, file, dtype, new Ops(kernels));
    }
    return file;
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "Q8_0"})
  void theBundledModelContinuesAsInLlamaCpp(DType dtype) throws Exception {
    assertSame(
        export(Path.of("../examples/models/tiny"), dtype),
        List.of(
            "code mira is 12 15 31 . Question code mira Answer",
            "code zarosi is 31 12 42 . code mira is 12 15 31 . Question code zarosi Answer"),
        dtype == DType.Q8_0 ? BLOCK_MARGIN : F32_MARGIN,
        4);
  }

  /// The families that this build of llama.cpp knows, with windows that nothing leaves: it does not
  /// look at Mistral's.
  @ParameterizedTest
  @ValueSource(strings = {"llama", "mistral", "qwen2", "olmo2", "phi3"})
  void familiesContinueAsInLlamaCpp(String family) throws Exception {
    JsonNode golden = JsonFiles.read(GOLDENS.resolve(family).resolve("tokenizer_golden.json"));
    List<String> texts = new ArrayList<>();
    for (JsonNode one : golden.get("encode")) {
      String text = one.get("text").textValue();
      boolean isNormal =
          Normalizer.isNormalized(text, Normalizer.Form.NFC); // llama.cpp never does it
      if (!text.isEmpty() && one.has("pretokens") && isNormal) {
        texts.add(text);
      }
    }
    assertThat(texts).hasSizeGreaterThan(10);
    assertSame(export(withWideWindow(family), DType.F32), texts, F32_MARGIN, 12);
  }

  private Path withWideWindow(String family) throws IOException {
    Path folder = Files.createDirectory(dir.resolve(family));
    try (Stream<Path> files = Files.list(GOLDENS.resolve(family))) {
      for (Path file : files.toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
    Path config = folder.resolve("config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replaceFirst("\"sliding_window\": \\d+", "\"sliding_window\": 1024"));
    return folder;
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void blockTypesContinueAsInLlamaCpp(DType dtype) throws Exception {
    Path file = dir.resolve("blocks.gguf");
    GgufFixtures.blockModel(file, dir.resolve("folder"), dtype, 11);
    assertSame(
        file,
        List.of(
            "the river bends in the east",
            "1234 other things",
            "inner",
            "where there is water",
            "another thing, then the other",
            "in 1234 there were 56",
            "her father's thin thread",
            "Questions? Answers!"),
        BLOCK_MARGIN,
        12);
  }
}
