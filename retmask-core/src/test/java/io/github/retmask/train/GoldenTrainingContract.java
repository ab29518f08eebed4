package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.assertj.core.api.SoftAssertions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Losses, gradients and training steps of whole models against float64 results. The bounds are
/// those that the golden data name for float32 engines.
public abstract class GoldenTrainingContract {
  private static final double LOSS = 1e-4; // relative
  private static final double GRADIENT = 1e-4; // relative L2 of a tensor
  private static final double SAMPLE = 1e-3; // of the tensor's largest entry

  @TempDir Path folder;

  private Kernels kernels;
  private Ops ops;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openBackend() {
    kernels = open(2);
    ops = new Ops(kernels);
  }

  @AfterEach
  void closeBackend() {
    kernels.close();
  }

  private GoldenModel model(String family) throws IOException {
    return GoldenModel.open(family, folder);
  }

  @ParameterizedTest
  @CsvSource({
    "llama, ce",
    "llama, ce_masked",
    "qwen3, ce",
    "qwen3, ce_masked",
    "qwen2, ce",
    "mistral, ce",
    "olmo2, ce",
    "olmo3, ce",
    "phi3, ce"
  })
  void crossEntropyMatchesFloat64(String family, String name) throws IOException {
    try (GoldenModel golden = model(family);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        Transformer model = new Transformer(golden.config(), golden.weights(), ops)) {
      JsonNode expected = golden.train().get("cases").get(name);
      LabelledBatch batch =
          LabelledBatch.of(List.of(example(golden.train().get("ce"))), mask(golden, expected));
      Weights grads = zeros(golden.weights(), arena);
      Loss loss = CrossEntropyLoss.over(batch);
      Loss.Part part =
          LogProbs.gradients(
              grads, null, model, batch, loss, loss.units(), GradientCheckpointing.OFF, arena);
      assertRelative("loss", part.loss(), expected.get("loss").doubleValue(), LOSS);
      assertGradients(name, expected.get("grad"), golden.byName(grads, ops, arena));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "llama, dpo",
    "llama, dpo_masked",
    "qwen3, dpo",
    "qwen3, dpo_masked",
    "qwen2, dpo_masked",
    "mistral, dpo_masked",
    "olmo2, dpo_masked",
    "olmo3, dpo_masked",
    "phi3, dpo_masked"
  })
  void preferenceLossMatchesFloat64(String family, String name) throws IOException {
    try (GoldenModel golden = model(family);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        Transformer model = new Transformer(golden.config(), golden.weights(), ops)) {
      JsonNode expected = golden.train().get("cases").get(name);
      LabelledBatch batch = pairs(golden, mask(golden, expected));
      DpoLoss loss = dpoLoss(golden);
      TokenLogProbs logps = LogProbs.of(model, batch, arena);
      for (int p = 0; p < loss.references().size(); p++) {
        JsonNode pair = expected.get("pairs").get(p);
        double chosen = pair.get("policy_chosen_logp").doubleValue();
        double rejected = pair.get("policy_rejected_logp").doubleValue();
        assertRelative("chosen of pair " + p, logps.sum(2 * p), chosen, LOSS);
        assertRelative("rejected of pair " + p, logps.sum(2 * p + 1), rejected, LOSS);
      }
      Weights grads = zeros(golden.weights(), arena);
      Loss.Part part =
          LogProbs.gradients(
              grads, null, model, batch, loss, loss.units(), GradientCheckpointing.OFF, arena);
      assertRelative("loss", part.loss(), expected.get("loss").doubleValue(), LOSS);
      assertMean(part, "rewards/chosen", expected, "chosen_reward");
      assertMean(part, "rewards/rejected", expected, "rejected_reward");
      assertMean(part, "logps/chosen", expected, "policy_chosen_logp");
      assertMean(part, "logps/rejected", expected, "policy_rejected_logp");
      assertGradients(name, expected.get("grad"), golden.byName(grads, ops, arena));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen2", "qwen3", "mistral", "olmo2", "olmo3", "phi3"})
  void referenceLogProbsMatchFloat64(String family) throws IOException {
    try (GoldenModel golden = model(family);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Map<String, Float> scales = new HashMap<>();
      for (JsonNode one : golden.train().get("dpo").get("reference_perturbation")) {
        scales.put(one.get("name").textValue(), one.get("scale").floatValue());
      }
      Weights reference = golden.scaled(scales, arena);
      try (Transformer model = new Transformer(golden.config(), reference, ops)) {
        TokenLogProbs logps = LogProbs.of(model, pairs(golden, model.noMask()), arena);
        List<PairLogProbs> expected = dpoLoss(golden).references();
        for (int p = 0; p < expected.size(); p++) {
          assertRelative("chosen " + p, logps.sum(2 * p), expected.get(p).chosen(), LOSS);
          assertRelative("rejected " + p, logps.sum(2 * p + 1), expected.get(p).rejected(), LOSS);
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen3"})
  void threeStepsMatchFloat64(String family) throws IOException {
    try (GoldenModel golden = model(family);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      JsonNode expected = golden.train().get("train3");
      Weights weights = golden.scaled(Map.of(), arena);
      AdamW.Options options =
          new AdamW.Options(
              expected.get("betas").get(0).doubleValue(),
              expected.get("betas").get(1).doubleValue(),
              expected.get("eps").doubleValue(),
              0.1,
              expected.get("max_grad_norm").doubleValue());
      AdamW optimizer = new AdamW(weights, options, ops, arena);
      LabelledBatch batch =
          pairs(golden, HeadMask.none(golden.config().layerCount(), golden.config().heads()));
      DpoLoss loss = dpoLoss(golden);
      try (Transformer model = new Transformer(golden.config(), weights, ops)) {
        int step = 0;
        for (JsonNode one : expected.get("steps")) {
          step++;
          Loss.Part part =
              LogProbs.gradients(
                  optimizer.gradients(),
                  null,
                  model,
                  batch,
                  loss,
                  loss.units(),
                  GradientCheckpointing.OFF,
                  arena);
          double norm = optimizer.gradientNorm();
          assertRelative("loss " + step, part.loss(), one.get("loss_before").doubleValue(), 1e-3);
          double wanted = one.get("grad_norm_before_clip").doubleValue();
          assertRelative("norm " + step, norm, wanted, 1e-3);
          optimizer.step(step, one.get("lr").doubleValue(), norm);
        }
        double after = loss.part(LogProbs.of(model, batch, arena), loss.units()).loss();
        assertRelative("loss after", after, expected.get("loss_after").doubleValue(), 1e-3);
      }
      Map<String, Tensor> byName = golden.byName(weights, ops, arena);
      SoftAssertions softly = new SoftAssertions();
      expected
          .get("params_after")
          .properties()
          .forEach(
              field -> {
                Tensor tensor = byName.get(field.getKey());
                for (int i = 0; i < field.getValue().get("index").size(); i++) {
                  long at = field.getValue().get("index").get(i).longValue();
                  double wanted = field.getValue().get("value").get(i).doubleValue();
                  softly
                      .assertThat(Math.abs(tensor.get(at) - wanted) <= 2e-6)
                      .as("%s[%d] is %s, want %s", field.getKey(), at, tensor.get(at), wanted)
                      .isTrue();
                }
              });
      softly.assertAll();
      assertThat(byName).hasSameSizeAs(expected.get("params_after"));
    }
  }

  private static Example example(JsonNode json) {
    int n = json.get("input_ids").size();
    int[] ids = new int[n];
    float[] weights = new float[n];
    for (int t = 0; t < n; t++) {
      ids[t] = json.get("input_ids").get(t).intValue();
      weights[t] = json.get("labels").get(t).intValue() == -100 ? 0 : 1;
    }
    return new Example(ids, weights);
  }

  private static LabelledBatch pairs(GoldenModel golden, HeadMask mask) {
    List<Example> rows = new ArrayList<>();
    for (JsonNode pair : golden.train().get("dpo").get("pairs")) {
      rows.add(example(pair.get("chosen")));
      rows.add(example(pair.get("rejected")));
    }
    return LabelledBatch.of(rows, mask);
  }

  private static DpoLoss dpoLoss(GoldenModel golden) {
    JsonNode dpo = golden.train().get("dpo");
    List<PairLogProbs> references = new ArrayList<>();
    for (JsonNode pair : dpo.get("reference_logps")) {
      references.add(
          new PairLogProbs(pair.get("chosen").doubleValue(), pair.get("rejected").doubleValue()));
    }
    return new DpoLoss(dpo.get("beta").doubleValue(), 0, references);
  }

  private static HeadMask mask(GoldenModel golden, JsonNode expected) {
    List<HeadId> off = new ArrayList<>();
    for (JsonNode head : expected.get("output_zero")) {
      off.add(new HeadId(head.get(0).intValue(), head.get(1).intValue()));
    }
    return HeadMask.off(golden.config().layerCount(), golden.config().heads(), off);
  }

  private static Weights zeros(Weights like, TensorArena arena) {
    return like.map(t -> arena.floats(t.name(), t.shape().dims()));
  }

  private static void assertMean(Loss.Part part, String metric, JsonNode expected, String perPair) {
    double sum = 0;
    for (JsonNode pair : expected.get("pairs")) {
      sum += pair.get(perPair).doubleValue();
    }
    // rewards are differences of log-probabilities near 100, so their error is absolute
    double wanted = sum / expected.get("pairs").size();
    double got = part.metrics().get(metric);
    assertThat(Math.abs(got - wanted) <= 1e-3).as("%s %s, want %s", metric, got, wanted).isTrue();
  }

  private static void assertRelative(String what, double got, double wanted, double bound) {
    assertThat(Math.abs(got - wanted) <= bound * Math.abs(wanted))
        .as("%s is %s, want %s within %s of it", what, got, wanted, bound)
        .isTrue();
  }

  /// Every tensor's norm and samples, and the whole of those that are stored whole.
  private void assertGradients(String name, JsonNode expected, Map<String, Tensor> byName)
      throws IOException {
    assertThat(byName).hasSameSizeAs(expected);
    SoftAssertions softly = new SoftAssertions();
    expected
        .properties()
        .forEach(field -> assertSamples(softly, byName.get(field.getKey()), field.getValue()));
    Path file = folder.resolve("train.safetensors");
    if (Files.exists(file)) {
      try (SafeTensors whole = SafeTensors.open(file)) {
        String prefix = "grad." + name + ".";
        for (SafeTensors.Entry entry : whole.entries()) {
          if (entry.name().startsWith(prefix)) {
            String parameter = entry.name().substring(prefix.length());
            assertWhole(softly, byName, whole, entry.name(), parameter);
          }
        }
      }
    }
    softly.assertAll();
  }

  private static void assertSamples(SoftAssertions softly, Tensor got, JsonNode expected) {
    double squares = 0;
    for (float value : got.toFloats()) {
      squares += (double) value * value;
    }
    double norm = expected.get("norm").doubleValue();
    softly
        .assertThat(Math.abs(Math.sqrt(squares) - norm) <= GRADIENT * norm)
        .as("norm of d %s is %s, want %s", got.name(), Math.sqrt(squares), norm)
        .isTrue();
    for (int i = 0; i < expected.get("index").size(); i++) {
      long at = expected.get("index").get(i).longValue();
      double wanted = expected.get("value").get(i).doubleValue();
      softly
          .assertThat(
              Math.abs(got.get(at) - wanted) <= SAMPLE * expected.get("absmax").doubleValue())
          .as("d %s[%d] is %s, want %s", got.name(), at, got.get(at), wanted)
          .isTrue();
    }
  }

  private static void assertWhole(
      SoftAssertions softly,
      Map<String, Tensor> byName,
      SafeTensors whole,
      String stored,
      String parameter) {
    Tensor wanted = whole.tensor(stored);
    boolean rows = parameter.endsWith(".rows");
    Tensor got = byName.get(rows ? parameter.substring(0, parameter.length() - 5) : parameter);
    int[] at = rows ? whole.tensor("embed_rows").toInts() : new int[] {0};
    long width = wanted.size() / at.length;
    double error = 0;
    double norm = 0;
    for (int r = 0; r < at.length; r++) {
      for (int i = 0; i < width; i++) {
        double value = wanted.get(r * width + i);
        double difference = got.get(at[r] * width + i) - value;
        error += difference * difference;
        norm += value * value;
      }
    }
    softly
        .assertThat(Math.sqrt(error) <= GRADIENT * Math.sqrt(norm))
        .as("d %s: relative L2 error %s", parameter, Math.sqrt(error / norm))
        .isTrue();
  }
}
