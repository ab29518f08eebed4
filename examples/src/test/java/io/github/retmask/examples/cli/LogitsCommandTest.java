package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Tolerances are those of the reference data's README, for a float32 engine.
class LogitsCommandTest {
  private static final Path LLAMA = Cli.golden("llama");

  @TempDir private Path dir;

  private static JsonNode expected() throws IOException {
    return JsonFiles.read(LLAMA.resolve("golden.json"));
  }

  private static int[] ids() throws IOException {
    return StreamSupport.stream(expected().get("input_ids").spliterator(), false)
        .mapToInt(JsonNode::intValue)
        .toArray();
  }

  private static String mask(String name) throws IOException {
    return StreamSupport.stream(expected().at("/masks/" + name).spliterator(), false)
        .map(h -> h.get(0) + "-" + h.get(1))
        .collect(Collectors.joining(","));
  }

  private static void assertClose(double value, double wanted, double tolerance, String what) {
    double off = Math.abs(value - wanted);
    assertThat(!(off <= tolerance)).as("%s is %s, want %s", what, value, wanted).isFalse();
  }

  @ParameterizedTest
  @ValueSource(strings = {"none", "A", "B"})
  void logitsAndLogprobsAreThoseOfTheReference(String mask) throws IOException {
    Path out = dir.resolve("out.safetensors");
    List<Object> args =
        new java.util.ArrayList<>(
            List.of("logits", LLAMA, "--ids", IdList.text(ids()), "--logprobs", "--out", out));
    if (!mask.equals("none")) {
      args.addAll(List.of("--mask", mask(mask)));
    }
    assertThat(Cli.ok(args.toArray()).out()).isEmpty();
    try (SafeTensors file = SafeTensors.open(out);
        SafeTensors golden = SafeTensors.open(LLAMA.resolve("golden.safetensors"))) {
      Tensor logits = file.tensor("logits");
      assertThat(logits.shape()).isEqualTo(Shape.of(96, 320));
      int[] positions = golden.tensor("logits_positions").toInts();
      Tensor wanted = golden.tensor("logits." + mask);
      for (int p = 0; p < positions.length; p++) {
        for (int v = 0; v < 320; v++) {
          assertClose(
              logits.get(positions[p] * 320L + v),
              wanted.get(p * 320L + v),
              1e-3,
              "logit %d after token %d".formatted(v, positions[p]));
        }
      }
      Tensor logprobs = file.tensor("logprobs");
      assertThat(logprobs.shape()).isEqualTo(Shape.of(95));
      for (int t = 0; t < 95; t++) {
        assertClose(
            logprobs.get(t),
            golden.tensor("logprobs." + mask).get(t),
            5e-4,
            "log-probability of token " + (t + 1));
      }
    }
  }

  @Test
  void argmaxIsThatOfTheReference() throws IOException {
    Path out = dir.resolve("out.safetensors");
    Cli.ok("logits", LLAMA, "--ids", IdList.text(ids()), "--argmax", "--out", out);
    try (SafeTensors file = SafeTensors.open(out);
        SafeTensors golden = SafeTensors.open(LLAMA.resolve("golden.safetensors"))) {
      Tensor argmax = file.tensor("argmax");
      Tensor weight = file.tensor("argmax_weight");
      assertThat(argmax.shape()).isEqualTo(Shape.of(3, 6, 96));
      assertThat(weight.shape()).isEqualTo(Shape.of(3, 6, 96));
      int[] queries = golden.tensor("attn_queries").toInts();
      int compared = 0;
      for (int lh = 0; lh < 18; lh++) {
        for (int q = 0; q < queries.length; q++) {
          long at = lh * 96L + queries[q];
          long wanted = (long) lh * queries.length + q;
          String what = "head %d-%d at %d".formatted(lh / 6, lh % 6, queries[q]);
          assertClose(weight.get(at), golden.tensor("attn_max").get(wanted), 1e-4, what);
          if (golden.tensor("attn_gap").get(wanted) > 1e-4) {
            assertThat(argmax.getInt(at))
                .as(what)
                .isEqualTo(golden.tensor("attn_argmax").getInt(wanted));
            compared++;
          }
        }
      }
      assertThat(compared).isGreaterThan(100);
    }
  }

  @Test
  void headsThatAreOffStillReportWhereTheyLook() throws IOException {
    Path intact = dir.resolve("intact.safetensors");
    Path masked = dir.resolve("masked.safetensors");
    String ids = IdList.text(ids());
    Cli.ok("logits", LLAMA, "--ids", ids, "--argmax", "--out", intact);
    Cli.ok("logits", LLAMA, "--ids", ids, "--argmax", "--mask", "0-4,0-1", "--out", masked);
    try (SafeTensors a = SafeTensors.open(intact);
        SafeTensors b = SafeTensors.open(masked)) {
      // Layer 0 reads the same input, so its heads look at the same places whether on or off.
      int[] before = a.tensor("argmax").slice(0, 1).toInts();
      assertThat(b.tensor("argmax").slice(0, 1).toInts()).isEqualTo(before);
      assertThat(b.tensor("logits").toFloats()).isNotEqualTo(a.tensor("logits").toFloats());
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 7, 95, 96, 200})
  void piecesDoNotChangeABit(int piece) throws IOException {
    Path whole = dir.resolve("whole.safetensors");
    Path cut = dir.resolve("cut.safetensors");
    try (Kernels kernels = new ReferenceBackend().open(1);
        PretrainedModel model = PretrainedModel.open(LLAMA, new Ops(kernels))) {
      HeadMask mask =
          model.transformer().noMask().withGate(List.of(new HeadId(1, 2), new HeadId(2, 0)), 0.3f);
      write(model, mask, 1000, whole);
      write(model, mask, piece, cut);
    }
    assertThat(cut).hasSameBinaryContentAs(whole);
  }

  private static void write(PretrainedModel model, HeadMask mask, int piece, Path file)
      throws IOException {
    try (ForwardPass pass = new ForwardPass(model.transformer(), ids(), mask, true, true, piece)) {
      SafeTensorsWriter writer = new SafeTensorsWriter(Map.of());
      pass.addTo(writer);
      writer.writeTo(file);
    }
  }

  @Test
  void threadsDoNotChangeAByte() throws IOException {
    Path one = dir.resolve("one.safetensors");
    Path three = dir.resolve("three.safetensors");
    String ids = IdList.text(ids());
    Cli.ok("logits", LLAMA, "--ids", ids, "--argmax", "--threads", 1, "--out", one);
    Cli.ok("logits", LLAMA, "--ids", ids, "--argmax", "--threads", 3, "--out", three);
    assertThat(three).hasSameBinaryContentAs(one);
  }

  @Test
  void textIsEncodedWithItsSpecialTokens() throws IOException {
    Path text = dir.resolve("text.safetensors");
    Path given = dir.resolve("ids.safetensors");
    Cli.ok("logits", LLAMA, "--text", "Hello world", "--out", text);
    Cli.ok("logits", LLAMA, "--ids", "312,39,68,279,78,264,78,81,75,67", "--out", given);
    assertThat(text).hasSameBinaryContentAs(given);
  }

  @Test
  void oneTokenHasNoLogprobs() throws IOException {
    Path out = dir.resolve("out.safetensors");
    Cli.ok("logits", LLAMA, "--ids", "5", "--logprobs", "--out", out);
    try (SafeTensors file = SafeTensors.open(out)) {
      assertThat(file.tensor("logprobs").shape()).isEqualTo(Shape.of(0));
    }
  }
}
