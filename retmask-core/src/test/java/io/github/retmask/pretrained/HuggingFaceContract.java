package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.CrossEntropyLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.LogProbs;
import io.github.retmask.train.Loss;
import io.github.retmask.train.TrainedCheckpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.assertj.core.api.SoftAssertions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Checkpoints of every family against what Hugging Face transformers computed of them in float64,
/// see `dev/transformers-reference`; with the config.json of the checkpoint, and with the one that
/// transformers wrote for it.
public abstract class HuggingFaceContract {
  // The bounds that the golden data of these checkpoints name for float32 engines.
  private static final double LOGITS = 1e-3;
  private static final double LOSS = 1e-4; // relative
  private static final double GRADIENT = 1e-4; // relative L2 of a tensor
  private static final String SAVED = "config_saved.json";

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
        .flatMap(f -> Stream.of(Arguments.of(f, "config.json"), Arguments.of(f, SAVED)))
        // transformers 5.17 reads rope_theta of this one as 500000 in windows, where it says 10000
        .filter(a -> !Arrays.equals(a.get(), new Object[] {"olmo3", "config.json"}));
  }

  /// A loaded checkpoint with what transformers made of it.
  private record Reference(PretrainedModel loaded, JsonNode json, SafeTensors tensors, Ops ops) {
    Transformer model() {
      return loaded.transformer();
    }

    int[] ids() {
      return ints(json.get("input_ids"));
    }

    JsonNode expected(String name) {
      return json.get("cases").get(name);
    }

    HeadMask mask(String name) {
      List<HeadId> off =
          StreamSupport.stream(expected(name).get("off").spliterator(), false)
              .map(h -> new HeadId(h.get(0).intValue(), h.get(1).intValue()))
              .toList();
      return model().noMask().withGate(off, 0);
    }

    LabelledBatch labelled(String name) {
      int[] ids = ids();
      float[] weights = new float[ids.length];
      Arrays.fill(weights, json.get("labelled_from").intValue(), ids.length, 1);
      return LabelledBatch.of(List.of(new Example(ids, weights)), mask(name));
    }
  }

  static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  private Reference reference(String family, String config) throws IOException {
    Path folder = GoldenFolder.copy(family, config, Files.createTempDirectory(temp, family));
    Ops ops = new Ops(keep(open(2)));
    return new Reference(
        keep(PretrainedModel.open(folder, ops)),
        JsonFiles.read(folder.resolve("transformers.json")),
        keep(SafeTensors.open(folder.resolve("transformers.safetensors"))),
        ops);
  }

  private <T extends AutoCloseable> T keep(T one) {
    open.add(one);
    return one;
  }

  @ParameterizedTest
  @MethodSource("familiesInBothForms")
  void logitsAreThoseOfTransformers(String family, String config) throws IOException {
    Reference reference = reference(family, config);
    int[] positions = ints(reference.json().get("positions"));
    for (String name : List.of("none", "masked")) {
      TensorArena step = keep(reference.ops().arena(TensorArena.Lifetime.STEP));
      Batch.Row row = Batch.Row.whole(reference.ids(), reference.mask(name));
      Activations a = reference.model().forward(Batch.of(row), step);
      float[] got = reference.model().logits(a, step, positions).toFloats();
      float[] wanted = reference.tensors().tensor("logits." + name).toFloats();
      assertThat(got).hasSameSizeAs(wanted);
      for (int i = 0; i < got.length; i++) {
        assertThat(Math.abs(got[i] - wanted[i]) <= LOGITS)
            .as("logits.%s[%d] is %s, want %s", name, i, got[i], wanted[i])
            .isTrue();
      }
    }
  }

  @ParameterizedTest
  @MethodSource("familiesInBothForms")
  void lossAndGradientsAreThoseOfTransformers(String family, String config) throws IOException {
    Reference reference = reference(family, config);
    for (String name : List.of("none", "masked")) {
      TensorArena arena = keep(reference.ops().arena(TensorArena.Lifetime.MODEL));
      LabelledBatch batch = reference.labelled(name);
      Weights grads =
          reference.loaded().weights().map(t -> arena.floats(t.name(), t.shape().dims()));
      Loss mean = CrossEntropyLoss.over(batch);
      double loss =
          LogProbs.gradients(
                  grads,
                  null,
                  reference.model(),
                  batch,
                  mean,
                  mean.units(),
                  GradientCheckpointing.OFF,
                  arena)
              .loss();
      double wanted = reference.expected(name).get("loss").doubleValue();
      assertThat(Math.abs(loss - wanted) <= LOSS * wanted)
          .as("loss.%s is %s, want %s", name, loss, wanted)
          .isTrue();
      Map<String, Tensor> byName =
          TrainedCheckpoint.stored(
              grads, reference.loaded().files().config(), reference.ops(), arena);
      assertNorms(name, byName, reference.expected(name).get("gradient_norms"));
      if (name.equals("masked")) {
        assertWhole(byName, reference.tensors());
      }
    }
  }

  private static void assertNorms(String name, Map<String, Tensor> byName, JsonNode norms) {
    assertThat(byName).hasSameSizeAs(norms);
    SoftAssertions softly = new SoftAssertions();
    norms
        .properties()
        .forEach(
            field -> {
              double got = norm(byName.get(field.getKey()).toFloats());
              double wanted = field.getValue().doubleValue();
              softly
                  .assertThat(Math.abs(got - wanted) <= GRADIENT * wanted)
                  .as("%s: norm of d %s is %s, want %s", name, field.getKey(), got, wanted)
                  .isTrue();
            });
    softly.assertAll();
  }

  private static void assertWhole(Map<String, Tensor> byName, SafeTensors tensors) {
    SoftAssertions softly = new SoftAssertions();
    byName.forEach(
        (name, tensor) -> {
          float[] got = tensor.toFloats();
          float[] wanted = tensors.tensor("grad." + name).toFloats();
          assertThat(got).as(name).hasSameSizeAs(wanted);
          float[] difference = new float[got.length];
          for (int i = 0; i < got.length; i++) {
            difference[i] = got[i] - wanted[i];
          }
          double error = norm(difference) / norm(wanted);
          softly
              .assertThat(error <= GRADIENT)
              .as("d %s: relative L2 error %s", name, error)
              .isTrue();
        });
    softly.assertAll();
  }

  private static double norm(float[] values) {
    double squares = 0;
    for (float value : values) {
      squares += (double) value * value;
    }
    return Math.sqrt(squares);
  }

  @ParameterizedTest
  @MethodSource("familiesInBothForms")
  void greedyTokensAreThoseOfTransformers(String family, String config) throws IOException {
    Reference reference = reference(family, config);
    List<String> names = List.of("none", "masked");
    int tokens = reference.expected("none").get("greedy").size();
    Generator generator =
        keep(new Generator(reference.model(), new Generator.Options(2, 37, 1L << 30)));
    List<Completion> completions =
        generator.generate(
            names.stream()
                .map(n -> GenerationRequest.greedy(reference.ids(), reference.mask(n), tokens))
                .toList());
    for (int i = 0; i < names.size(); i++) {
      JsonNode expected = reference.expected(names.get(i));
      for (JsonNode margin : expected.get("margins")) { // else the bound would allow another
        assertThat(margin.doubleValue()).isGreaterThan(2 * LOGITS);
      }
      assertThat(completions.get(i).ids()).as(names.get(i)).isEqualTo(ints(expected.get("greedy")));
    }
  }
}
