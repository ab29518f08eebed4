package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.Test;

/// The update in double against the golden traces to 1e-12, as those say, and the op in F32 against
/// the update in double; which tensors decay; clipping.
class AdamWTest {
  private static final double F32 = 0x1p-24; // relative error of one rounding

  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  /// The update of one element as [io.github.retmask.backend.Kernels#adamW] documents it, in
  /// double.
  private static final class Element {
    double param;
    double m;
    double v;

    void update(double grad, AdamWStep s) {
      double g = s.gradScale() * grad;
      m = s.beta1() * m + (1 - s.beta1()) * g;
      v = s.beta2() * v + (1 - s.beta2()) * g * g;
      double corrected = v / (1 - Math.pow(s.beta2(), s.step()));
      param =
          param * (1 - s.learningRate() * s.weightDecay())
              - s.learningRate()
                  / (1 - Math.pow(s.beta1(), s.step()))
                  * m
                  / (Math.sqrt(corrected) + s.eps());
    }
  }

  @Test
  void theFormulaMatchesTheGoldenTraceInDouble() throws IOException {
    for (JsonNode golden : golden().get("cases")) {
      Element[] elements = start(golden);
      long step = 0;
      for (JsonNode one : golden.get("steps")) {
        AdamWStep scalars = scalars(golden, one, ++step);
        for (int i = 0; i < elements.length; i++) {
          elements[i].update(one.get("grad").get(i).doubleValue(), scalars);
          assertClose(elements[i].param, one.get("param").get(i).doubleValue(), 1e-12);
          assertClose(elements[i].m, one.get("exp_avg").get(i).doubleValue(), 1e-12);
          assertClose(elements[i].v, one.get("exp_avg_sq").get(i).doubleValue(), 1e-12);
        }
      }
    }
  }

  @Test
  void theOpMatchesTheGoldenTraceInSinglePrecision() throws IOException {
    for (JsonNode golden : golden().get("cases")) {
      int n = golden.get("start").size();
      try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
        Tensor param = arena.floats("param", n).copyFrom(floats(golden.get("start")));
        Tensor grad = arena.floats("grad", n);
        Tensor m = arena.floats("m", n);
        Tensor v = arena.floats("v", n);
        double largest = 0;
        long step = 0;
        for (JsonNode one : golden.get("steps")) {
          for (float g : floats(one.get("grad"))) {
            largest = Math.max(largest, Math.abs(g));
          }
          grad.copyFrom(floats(one.get("grad")));
          ops.adamW(param, grad, m, v, scalars(golden, one, ++step));
          double roundings = 8 * step * F32; // at most 8 per value and step
          for (int i = 0; i < n; i++) {
            double wanted = one.get("param").get(i).doubleValue();
            assertWithin(param.get(i), wanted, roundings * Math.max(1, Math.abs(wanted)));
            assertWithin(m.get(i), one.get("exp_avg").get(i).doubleValue(), roundings * largest);
            assertWithin(
                v.get(i),
                one.get("exp_avg_sq").get(i).doubleValue(),
                roundings * largest * largest);
          }
        }
      }
    }
  }

  @Test
  void clippingMatchesTheGoldenCases() throws IOException {
    for (JsonNode golden : golden().get("clip_grad_norm")) {
      double norm = golden.get("norm").doubleValue();
      double squares = 0;
      double factor = AdamW.clipFactor(norm, golden.get("max_norm").doubleValue());
      for (var grad : golden.get("grads").properties()) {
        List<JsonNode> values = leaves(grad.getValue());
        List<JsonNode> clipped = leaves(golden.get("clipped").get(grad.getKey()));
        for (int i = 0; i < values.size(); i++) {
          squares += values.get(i).doubleValue() * values.get(i).doubleValue();
          assertClose(factor * values.get(i).doubleValue(), clipped.get(i).doubleValue(), 1e-12);
        }
      }
      assertClose(Math.sqrt(squares), norm, 1e-12);
    }
  }

  @Test
  void theNormIsThatOfAllTensorsTogether() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      AdamW adamW = new AdamW(TinyModel.weights(true, 3, arena), plain(0), ops, arena);
      List<Tensor> grads = adamW.gradients().tensors();
      double squares = 0;
      for (int i = 0; i < grads.size(); i++) {
        grads.get(i).set(0, i + 1);
        squares += (i + 1) * (i + 1);
      }
      assertThat(adamW.gradientNorm()).isEqualTo(Math.sqrt(squares));
    }
  }

  @Test
  void matricesAndTheEmbeddingDecayButNormsAndBiasesDoNot() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(5, arena);
      List<float[]> before = weights.tensors().stream().map(Tensor::toFloats).toList();
      AdamW adamW = new AdamW(weights, plain(0.5), ops, arena);
      adamW.step(1, 0.5, 0); // no gradient: only decay acts, by 1 - 0.25
      int spared = 0;
      for (int t = 0; t < before.size(); t++) {
        Tensor tensor = weights.tensors().get(t);
        boolean norm = tensor.name().contains("norm") || tensor.name().contains("bias");
        spared += norm ? 1 : 0;
        float[] after = tensor.toFloats();
        for (int i = 0; i < after.length; i++) {
          assertThat(after[i])
              .as(tensor.name())
              .isEqualTo(norm ? before.get(t)[i] : 0.75f * before.get(t)[i]);
        }
      }
      assertThat(spared).isBetween(1, before.size() - 1);
    }
  }

  @Test
  void aNormOfZeroSaysNoClipping() {
    assertThat(AdamW.Options.maxGradNorm(0)).isEqualTo(Double.POSITIVE_INFINITY);
    assertThat(AdamW.Options.maxGradNorm(0.5)).isEqualTo(0.5);
  }

  @Test
  void gradientsAreZeroAfterAStep() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      AdamW adamW = new AdamW(TinyModel.weights(false, 3, arena), plain(0), ops, arena);
      adamW.gradients().tensors().forEach(t -> t.set(0, 7));
      adamW.step(1, 0.1, adamW.gradientNorm());
      assertThat(adamW.gradientNorm()).isZero();
    }
  }

  @Test
  void impossibleOptionsAreRefused() {
    assertThatThrownBy(() -> new AdamW.Options(1, 0.95, 1e-8, 0.1, 1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("adamw: beta1 1.0,");
    assertThatThrownBy(() -> new AdamW.Options(0.9, 0.95, Double.NaN, 0.1, 1))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> new AdamW.Options(0.9, 0.95, 1e-8, 0.1, 0))
        .isInstanceOf(IllegalArgumentException.class);
  }

  private static AdamW.Options plain(double decay) {
    return new AdamW.Options(0.9, 0.95, 1e-8, decay, Double.POSITIVE_INFINITY);
  }

  private static JsonNode golden() throws IOException {
    return JsonFiles.read(GoldenFiles.path("/goldens/optim/adamw.json"));
  }

  private static AdamWStep scalars(JsonNode golden, JsonNode one, long step) {
    return new AdamWStep(
        step,
        one.get("lr").doubleValue(),
        golden.get("beta1").doubleValue(),
        golden.get("beta2").doubleValue(),
        golden.get("eps").doubleValue(),
        golden.get("decay").doubleValue(),
        1);
  }

  private static Element[] start(JsonNode golden) {
    Element[] elements = new Element[golden.get("start").size()];
    for (int i = 0; i < elements.length; i++) {
      elements[i] = new Element();
      elements[i].param = golden.get("start").get(i).doubleValue();
    }
    return elements;
  }

  private static float[] floats(JsonNode array) {
    float[] values = new float[array.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = array.get(i).floatValue();
    }
    return values;
  }

  private static List<JsonNode> leaves(JsonNode node) {
    return node.isArray()
        ? node.valueStream().flatMap(child -> leaves(child).stream()).toList()
        : List.of(node);
  }

  private static void assertClose(double got, double wanted, double relative) {
    assertWithin(got, wanted, relative * Math.abs(wanted));
  }

  private static void assertWithin(double got, double wanted, double bound) {
    assertThat(Math.abs(got - wanted) <= bound).as("%s, want %s", got, wanted).isTrue();
  }
}
