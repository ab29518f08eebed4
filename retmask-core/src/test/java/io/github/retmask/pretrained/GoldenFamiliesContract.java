package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.DecodeAttention;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.io.IfPresent;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Site;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.Example;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.LogProbs;
import io.github.retmask.train.TokenLogProbs;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Checkpoints of every family, opened from a folder, against float64 results. The bounds are those
/// that the golden data name for float32 engines: thirty times the deviation seen, a thousandth of
/// the smallest effect of a fault.
public abstract class GoldenFamiliesContract {
  private static final double LOGITS = 1e-3;
  private static final double LOGPROBS = 5e-4;
  private static final double HIDDEN = 1e-3;
  private static final double WEIGHT = 1e-4;

  @TempDir Path temp;

  private final List<AutoCloseable> open = new ArrayList<>();

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @AfterEach
  void closeAll() throws Exception {
    for (AutoCloseable one : open.reversed()) {
      one.close();
    }
  }

  static String[] families() {
    return GoldenFolder.FAMILIES;
  }

  static Stream<Arguments> familiesInBothForms() {
    return Stream.of(families())
        .flatMap(f -> Stream.of(Arguments.of(f, "config.json"), Arguments.of(f, "config_v5.json")));
  }

  /// A loaded checkpoint with what it should yield.
  private record Golden(PretrainedModel loaded, JsonNode json, SafeTensors tensors, Ops ops) {
    Transformer model() {
      return loaded.transformer();
    }

    ModelConfig config() {
      return loaded.config();
    }

    int[] ids() {
      return ints(json.get("input_ids"));
    }

    HeadMask mask(String name) {
      return model().noMask().withGate(heads(name), 0);
    }

    List<HeadId> heads(String name) {
      return StreamSupport.stream(json.at("/masks/" + name).spliterator(), false)
          .map(h -> new HeadId(h.get(0).intValue(), h.get(1).intValue()))
          .toList();
    }

    float[] floats(String name) {
      return tensors.tensor(name).toFloats();
    }

    int[] ints(String name) {
      return tensors.tensor(name).toInts();
    }

    private static int[] ints(JsonNode array) {
      return StreamSupport.stream(array.spliterator(), false)
          .mapToInt(JsonNode::intValue)
          .toArray();
    }
  }

  private Golden golden(String family, String config, int threads) throws IOException {
    Path folder = GoldenFolder.copy(family, config, Files.createTempDirectory(temp, family));
    Kernels kernels = keep(open(threads));
    Ops ops = new Ops(kernels);
    return new Golden(
        keep(PretrainedModel.open(folder, ops)),
        JsonFiles.read(folder.resolve("golden.json")),
        keep(SafeTensors.open(folder.resolve("golden.safetensors"))),
        ops);
  }

  private <T extends AutoCloseable> T keep(T one) {
    open.add(one);
    return one;
  }

  private TensorArena step(Golden golden) {
    return keep(golden.ops().arena(TensorArena.Lifetime.STEP));
  }

  @ParameterizedTest
  @MethodSource("familiesInBothForms")
  void layersAreThoseOfTheConfig(String family, String config) throws IOException {
    Golden golden = golden(family, config, 1);
    JsonNode json = golden.json();
    for (int l = 0; l < golden.config().layerCount(); l++) {
      LayerSpec spec = golden.config().layers().get(l);
      int window = json.get("windows").get(l).asInt(AttentionSpec.NO_WINDOW);
      assertThat(spec.attention().window()).as("window of layer " + l).isEqualTo(window);
      JsonNode rope = json.get("rope").get(json.get("layer_kinds").get(l).textValue());
      assertThat(spec.rope().attentionScaling())
          .isEqualTo(rope.get("attention_scaling").doubleValue());
      double[] speeds = spec.rope().inverseFrequencies(1);
      for (int i = 0; i < speeds.length; i++) {
        double wanted = rope.get("inv_freq").get(i).doubleValue(); // nine digits
        assertWithin("speed " + i, speeds[i], wanted, 1e-8 * wanted);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("familiesInBothForms")
  void logitsAreThoseOfFloat64UnderEveryMask(String family, String config) throws IOException {
    Golden golden = golden(family, config, 2);
    int[] positions = golden.ints("logits_positions");
    for (String name : List.of("none", "A", "B")) {
      float[] logits = logits(golden, golden.mask(name), positions);
      assertClose(name, logits, golden.floats("logits." + name), LOGITS);
      int vocab = golden.config().vocabSize();
      for (int p = 0; p < positions.length; p++) {
        int best = argmax(Arrays.copyOfRange(logits, p * vocab, (p + 1) * vocab));
        JsonNode wanted = golden.json().at("/best_next_at_logits_positions/" + name).get(p);
        assertThat(best)
            .as("best token after position " + positions[p])
            .isEqualTo(wanted.intValue());
      }
    }
    HeadMask uniform = golden.model().noMask().withKind(golden.heads("A"), HeadKind.UNIFORM);
    float[] last = logits(golden, uniform, golden.ids().length - 1);
    assertClose("query_zero_A", last, golden.floats("logits.query_zero_A"), LOGITS);
  }

  private float[] logits(Golden golden, HeadMask mask, int... positions) {
    TensorArena step = step(golden);
    Activations a = golden.model().forward(Batch.of(Batch.Row.whole(golden.ids(), mask)), step);
    return golden.model().logits(a, step, positions).toFloats();
  }

  @ParameterizedTest
  @MethodSource("families")
  void threadsAndChunksChangeNoBit(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    int[] ids = golden.ids();
    HeadMask mask = golden.mask("A");
    float[] whole = logits(golden, mask, upTo(ids.length));
    assertThat(logits(golden(family, "config.json", 1), mask, upTo(ids.length)))
        .as("one thread")
        .isEqualTo(whole);
    int vocab = golden.config().vocabSize();
    for (int chunk : new int[] {1, 7, 50}) {
      float[] chunked = new float[whole.length];
      KvCache cache = keep(new KvCache(golden.model(), 2, ids.length));
      for (int from = 0; from < ids.length; from += chunk) {
        int[] part = Arrays.copyOfRange(ids, from, Math.min(ids.length, from + chunk));
        TensorArena step = step(golden);
        Activations a =
            golden
                .model()
                .forward(
                    Batch.of(new Batch.Row(1, part, mask, Batch.Phase.PREFILL)),
                    cache,
                    Keep.RESULT,
                    ReadoutRequest.NONE,
                    step,
                    Observer.NONE);
        float[] logits = golden.model().logits(a, step, upTo(part.length)).toFloats();
        System.arraycopy(logits, 0, chunked, from * vocab, logits.length);
      }
      assertThat(chunked).as("chunks of " + chunk).isEqualTo(whole);
    }
  }

  private static int[] upTo(int n) {
    int[] all = new int[n];
    Arrays.setAll(all, i -> i);
    return all;
  }

  @ParameterizedTest
  @MethodSource("families")
  void logProbsAreThoseOfFloat64UnderEveryMask(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    for (String name : List.of("none", "A", "B")) {
      LabelledBatch batch = LabelledBatch.of(List.of(Example.of(golden.ids())), golden.mask(name));
      TokenLogProbs logps = LogProbs.of(golden.model(), batch, step(golden));
      assertClose(name, logps.values(), golden.floats("logprobs." + name), LOGPROBS);
      double sum = golden.json().at("/sum_logprobs/" + name).doubleValue();
      assertWithin("sum " + name, logps.sum(0), sum, 1e-4 * Math.abs(sum));
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void readOutsAreThoseOfFloat64AndAbsoluteInWindows(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    int[] queries = golden.ints("attn_queries");
    Activations a =
        golden
            .model()
            .forward(
                Batch.of(Batch.Row.whole(golden.ids(), golden.model().noMask())),
                null,
                Keep.RESULT,
                ReadoutRequest.of(queries),
                step(golden),
                Observer.NONE);
    int heads = golden.config().heads();
    int[] argmax = golden.ints("attn_argmax"); // [L,H,Q]
    float[] max = golden.floats("attn_max");
    float[] gap = golden.floats("attn_gap");
    for (int i = 0; i < argmax.length; i++) {
      int q = i % queries.length;
      int h = i / queries.length % heads;
      int l = i / queries.length / heads;
      long at = (long) q * heads + h;
      String where = "layer %d head %d query %d".formatted(l, h, queries[q]);
      assertWithin(where, a.readouts().get(l).topWeight().get(at), max[i], WEIGHT);
      if (gap[i] > WEIGHT) {
        assertThat(a.readouts().get(l).topPosition().getInt(at)).as(where).isEqualTo(argmax[i]);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void residualStreamIsThatOfFloat64AfterEveryLayer(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    int width = golden.config().hiddenSize();
    int last = golden.ids().length - 1;
    float[] seen = new float[(golden.config().layerCount() + 1) * width];
    golden
        .model()
        .forward(
            Batch.of(Batch.Row.whole(golden.ids(), golden.model().noMask())),
            null,
            Keep.RESULT,
            ReadoutRequest.NONE,
            step(golden),
            (site, layer, tensor) -> {
              if (site == Site.EMBED || site == Site.RESID_POST) {
                int row = site == Site.EMBED ? 0 : layer + 1;
                float[] values = tensor.slice(last, last + 1).toFloats();
                System.arraycopy(values, 0, seen, row * width, width);
              }
            });
    assertClose("hidden_last", seen, golden.floats("hidden_last"), HIDDEN);
  }

  @ParameterizedTest
  @MethodSource("families")
  void greedyTokensAndTheirAttentionAreThoseOfFloat64(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    HeadMask none = golden.model().noMask();
    GenerationRequest plain = GenerationRequest.greedy(golden.ids(), none, 16).withAttention();
    HeadMask late =
        none.withKind(golden.heads("A"), HeadKind.UNIFORM).during(MaskPhase.DECODE_ONLY);
    List<GenerationRequest> requests =
        List.of(
            plain,
            plain.withMask(golden.mask("A")),
            plain.withMask(golden.mask("B")),
            plain.withMask(late));
    String[] names = {"none", "A", "B", "query_zero_A_decode_only"};
    for (int rows : new int[] {1, 4}) {
      Generator generator =
          keep(new Generator(golden.model(), new Generator.Options(rows, 37, 1L << 30)));
      List<Completion> completions = generator.generate(requests);
      for (int i = 0; i < names.length; i++) {
        assertThat(completions.get(i).ids())
            .as(names[i])
            .isEqualTo(Golden.ints(golden.json().at("/greedy/" + names[i] + "/tokens")));
      }
      assertAttention(golden, completions.getFirst().attention());
    }
  }

  private static void assertAttention(Golden golden, DecodeAttention seen) {
    JsonNode top = golden.json().get("decode_top1");
    for (int s = 0; s < 16; s++) {
      for (int l = 0; l < golden.config().layerCount(); l++) {
        for (int h = 0; h < golden.config().heads(); h++) {
          String where = "/%d/%d/%d".formatted(s, l, h);
          assertThat(seen.position(s, l, h))
              .as(where)
              .isEqualTo(top.get("position").at(where).intValue());
          assertWithin(where, seen.weight(s, l, h), top.get("weight").at(where).asDouble(), WEIGHT);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void aMaskedCheckpointGivesTheLogitsOfTheMaskToTheBit(String family) throws IOException {
    Golden golden = golden(family, "config.json", 2);
    int[] all = upTo(golden.ids().length);
    for (String name : List.of("A", "B")) {
      HeadMask mask = golden.mask(name);
      Path out = temp.resolve("masked-" + name);
      MaskedCheckpoint.save(golden.loaded(), mask, out, IfPresent.REFUSE);
      PretrainedModel masked = keep(PretrainedModel.open(out, golden.ops()));
      Golden saved = new Golden(masked, golden.json(), golden.tensors(), golden.ops());
      assertThat(logits(saved, saved.model().noMask(), all)).isEqualTo(logits(golden, mask, all));
      assertThat(logits(saved, saved.model().noMask(), golden.ints("logits_positions")))
          .satisfies(l -> assertClose(name, l, golden.floats("logits." + name), LOGITS));
      assertSameButOutputProjections(golden, masked);
    }
  }

  /// Names, types, shapes and files of all tensors, and the content of those that no mask touches.
  private static void assertSameButOutputProjections(Golden golden, PretrainedModel masked) {
    assertThat(masked.checkpoint().entries()).isEqualTo(golden.loaded().checkpoint().entries());
    golden
        .loaded()
        .checkpoint()
        .entries()
        .forEach(
            entry -> {
              if (!entry.name().endsWith("o_proj.weight")) {
                Tensor wanted = golden.loaded().checkpoint().tensor(entry.name());
                Tensor got = masked.checkpoint().tensor(entry.name());
                assertThat(got.segment().mismatch(wanted.segment())).isEqualTo(-1);
              }
            });
  }

  private static int argmax(float[] values) {
    int best = 0;
    for (int i = 1; i < values.length; i++) {
      best = values[i] > values[best] ? i : best;
    }
    return best;
  }

  private static void assertClose(String what, float[] got, float[] wanted, double bound) {
    assertThat(got).hasSameSizeAs(wanted);
    for (int i = 0; i < got.length; i++) {
      assertWithin(what + "[" + i + "]", got[i], wanted[i], bound);
    }
  }

  private static void assertWithin(String what, double got, double wanted, double bound) {
    if (!(Math.abs(got - wanted) <= bound)) {
      throw new AssertionError("%s is %s, want %s within %s".formatted(what, got, wanted, bound));
    }
  }
}
