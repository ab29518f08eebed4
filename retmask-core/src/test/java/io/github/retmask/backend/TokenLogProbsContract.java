package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.exactIn;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class TokenLogProbsContract extends OpContract {
  private static final String SOURCE = "rounding of F32 sums, to first order";

  TokenLogProbsContract(KernelsContract contract) {
    super(contract);
  }

  record Case(int tokens, int width, int vocab, DType dtype) {
    float[] hidden() {
      return normal(1, tokens * width);
    }

    float[] lmHead() {
      return exactIn(dtype, normal(2, vocab * width));
    }

    float[] dLogps() {
      return normal(3, tokens);
    }

    int[] targets() {
      int[] targets = new int[tokens];
      for (int m = 0; m < tokens; m++) {
        targets[m] = m == 0 ? vocab - 1 : m * 31 % vocab;
      }
      return targets;
    }
  }

  static List<Case> cases() {
    return List.of(
        new Case(1, 1, 1, DType.F32),
        new Case(3, 13, 3, DType.BF16),
        new Case(1, 17, 207, DType.F16),
        new Case(13, 16, 15, DType.F32),
        new Case(17, 12, 1003, DType.BF16),
        new Case(70, 33, 65, DType.F32),
        new Case(207, 5, 131, DType.F16),
        new Case(129, 2, 65_537, DType.F32)); // more logits than exist at once
  }

  /// Logits in double with the bound of their rounding, and what follows from them.
  private static final class Dense {
    final double[] logits; // [M,V]
    final double[] logps; // [M]
    final double[] lse; // [M]
    final double[] logitError; // [M], the largest of the row

    Dense(Case c, float[] hidden, float[] lmHead) {
      logits = new double[c.tokens() * c.vocab()];
      logps = new double[c.tokens()];
      lse = new double[c.tokens()];
      logitError = new double[c.tokens()];
      for (int m = 0; m < c.tokens(); m++) {
        double max = Double.NEGATIVE_INFINITY;
        for (int v = 0; v < c.vocab(); v++) {
          double abs = 0;
          int at = m * c.vocab() + v;
          for (int i = 0; i < c.width(); i++) {
            double product = (double) hidden[m * c.width() + i] * lmHead[v * c.width() + i];
            logits[at] += product;
            abs += Math.abs(product);
          }
          max = Math.max(max, logits[at]);
          // Also the rounding of logit - max.
          logitError[m] = Math.max(logitError[m], (c.width() + 4) * EPS * abs);
        }
        double sum = 0;
        for (int v = 0; v < c.vocab(); v++) {
          sum += Math.exp(logits[m * c.vocab() + v] - max);
        }
        lse[m] = max + Math.log(sum);
        logps[m] = logits[m * c.vocab() + c.targets()[m]] - lse[m];
      }
    }

    double lseError(Case c, int m) {
      return 2 * logitError[m] + (c.vocab() + 10) * EPS + 2 * EPS * Math.abs(lse[m]);
    }
  }

  static float[][] forward(
      Workbench on, float[] hidden, float[] lmHead, int[] targets, DType dtype) {
    int tokens = targets.length;
    int width = hidden.length / tokens;
    Tensor logps = on.garbage("logps", tokens);
    Tensor lse = on.garbage("lse", tokens);
    on.ops.tokenLogProbs(
        logps,
        lse,
        on.f32("hidden", hidden, tokens, width),
        on.weight("lm_head.weight", dtype, lmHead, lmHead.length / width, width),
        on.ints("targets", targets));
    return new float[][] {on.floats(logps), on.floats(lse)};
  }

  @ParameterizedTest
  @MethodSource("cases")
  void isTheLogSoftmaxOfTheLogitsAtTheTarget(Case c) {
    Dense want = new Dense(c, c.hidden(), c.lmHead());
    double[] lseTolerance = new double[c.tokens()];
    double[] logpsTolerance = new double[c.tokens()];
    for (int m = 0; m < c.tokens(); m++) {
      lseTolerance[m] = want.lseError(c, m);
      logpsTolerance[m] =
          lseTolerance[m] + want.logitError[m] + EPS * Math.abs(want.logps[m]) + Float.MIN_NORMAL;
    }
    float[][] got = forward(bench, c.hidden(), c.lmHead(), c.targets(), c.dtype());
    TensorAssert.assertThat("token_log_probs logps", got[0])
        .isClose(want.logps, logpsTolerance, SOURCE);
    TensorAssert.assertThat("token_log_probs lse", got[1]).isClose(want.lse, lseTolerance, SOURCE);
  }

  static float[][] backward(Workbench on, Case c, float[] dLogps, float[] lse) {
    Tensor dHidden = on.garbage("dHidden", c.tokens(), c.width());
    Tensor dLmHead = on.filled("dLmHead", 0.5f, c.vocab(), c.width());
    on.ops.tokenLogProbsBackward(
        dHidden,
        dLmHead,
        on.f32("dLogps", dLogps, c.tokens()),
        on.f32("hidden", c.hidden(), c.tokens(), c.width()),
        on.weight("lm_head.weight", c.dtype(), c.lmHead(), c.vocab(), c.width()),
        on.ints("targets", c.targets()),
        on.f32("lse", lse, c.tokens()));
    return new float[][] {on.floats(dHidden), on.floats(dLmHead)};
  }

  @ParameterizedTest
  @MethodSource("cases")
  void backwardIsTheGradientOfForward(Case c) {
    float[] hidden = c.hidden();
    float[] lmHead = c.lmHead();
    float[] dLogps = c.dLogps();
    int[] targets = c.targets();
    Dense dense = new Dense(c, hidden, lmHead);
    double[] dHidden = new double[hidden.length];
    double[] dHiddenTolerance = new double[hidden.length];
    double[] dLmHead = new double[lmHead.length];
    double[] dLmHeadTolerance = new double[lmHead.length];
    Arrays.fill(dLmHead, 0.5);
    Arrays.fill(dLmHeadTolerance, 0.5 * (c.tokens() + 2) * EPS);
    for (int m = 0; m < c.tokens(); m++) {
      double pError = dense.logitError[m] + 4 * EPS * (1 + Math.abs(dense.lse[m]));
      for (int v = 0; v < c.vocab(); v++) {
        double p = Math.exp(dense.logits[m * c.vocab() + v] - dense.lse[m]);
        double hit = targets[m] == v ? 1 : 0;
        double d = dLogps[m] * (hit - p);
        double error = Math.abs(dLogps[m]) * (p * pError + 2 * EPS * (hit + p));
        for (int i = 0; i < c.width(); i++) {
          double w = lmHead[v * c.width() + i];
          double h = hidden[m * c.width() + i];
          dHidden[m * c.width() + i] += d * w;
          dHiddenTolerance[m * c.width() + i] +=
              (error + Math.abs(d) * (c.vocab() + 2) * EPS) * Math.abs(w) + Float.MIN_NORMAL;
          dLmHead[v * c.width() + i] += d * h;
          dLmHeadTolerance[v * c.width() + i] +=
              (error + Math.abs(d) * (c.tokens() + 2) * EPS) * Math.abs(h) + Float.MIN_NORMAL;
        }
      }
    }
    float[][] got = backward(bench, c, dLogps, AttentionCase.rounded(dense.lse));
    TensorAssert.assertThat("token_log_probs_backward dHidden", got[0], c.tokens(), c.width())
        .isClose(dHidden, dHiddenTolerance, SOURCE);
    TensorAssert.assertThat("token_log_probs_backward dLmHead", got[1], c.vocab(), c.width())
        .isClose(dLmHead, dLmHeadTolerance, SOURCE);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void bothAtOnceHaveTheBitsOfOneAfterTheOther(Case c) {
    float[][] forward = forward(bench, c.hidden(), c.lmHead(), c.targets(), c.dtype());
    float[][] backward = backward(bench, c, c.dLogps(), forward[1]);
    Tensor logps = bench.garbage("logps", c.tokens());
    Tensor lse = bench.garbage("lse", c.tokens());
    Tensor dHidden = bench.garbage("dHidden", c.tokens(), c.width());
    Tensor dLmHead = bench.filled("dLmHead", 0.5f, c.vocab(), c.width());
    bench.ops.tokenLogProbsAndGradients(
        logps,
        lse,
        dHidden,
        dLmHead,
        bench.f32("dLogps", c.dLogps(), c.tokens()),
        bench.f32("hidden", c.hidden(), c.tokens(), c.width()),
        bench.weight("lm_head.weight", c.dtype(), c.lmHead(), c.vocab(), c.width()),
        bench.ints("targets", c.targets()));
    assertSameBits(
        "token_log_probs_and_gradients",
        new float[][] {
          bench.floats(logps), bench.floats(lse), bench.floats(dHidden), bench.floats(dLmHead)
        },
        new float[][] {forward[0], forward[1], backward[0], backward[1]});
  }

  @Test
  void hugeLogitsDoNotOverflow() {
    float[] hidden = {1e4f, -1e4f, 1e4f};
    float[] lmHead = {100, -100, 50}; // logits of one million
    float[][] got = forward(bench, hidden, lmHead, new int[] {0, 0, 2}, DType.F32);
    TensorAssert.assertThat("token_log_probs logps", got[0]).hasBits(0, -2e6f, -5e5f);
    TensorAssert.assertThat("token_log_probs lse", got[1]).hasBits(1e6f, 1e6f, 1e6f);
  }

  @Test
  void nanStaysInItsToken() {
    Case c = new Case(21, 13, 33, DType.F32);
    float[][] want = forward(bench, c.hidden(), c.lmHead(), c.targets(), c.dtype());
    float[] hidden = c.hidden();
    hidden[6 * 13 + 2] = Float.NaN;
    want[0][6] = Float.NaN;
    want[1][6] = Float.NaN;
    assertSameBits(
        "token_log_probs", forward(bench, hidden, c.lmHead(), c.targets(), c.dtype()), want);
  }

  @Test
  void isReproducible() {
    Case c = new Case(19, 17, 131, DType.BF16);
    float[] lse = AttentionCase.rounded(new Dense(c, c.hidden(), c.lmHead()).lse);
    assertReproducible(
        "token_log_probs", on -> forward(on, c.hidden(), c.lmHead(), c.targets(), c.dtype()));
    assertReproducible("token_log_probs_backward", on -> backward(on, c, c.dLogps(), lse));
  }

  @Test
  void aTokenIsTheSameAlone() {
    Case c = new Case(70, 17, 131, DType.F16);
    float[][] all = forward(bench, c.hidden(), c.lmHead(), c.targets(), c.dtype());
    for (int m = 0; m < 70; m += 3) {
      float[] hidden = Arrays.copyOfRange(c.hidden(), m * 17, m * 17 + 17);
      float[][] one = forward(bench, hidden, c.lmHead(), new int[] {c.targets()[m]}, c.dtype());
      assertSameBits(
          "token_log_probs of token " + m, one, new float[][] {{all[0][m]}, {all[1][m]}});
    }
  }

  @Test
  void theGradientOfATokenIsTheSameAlone() {
    Case c = new Case(70, 17, 131, DType.BF16);
    float[] lse = AttentionCase.rounded(new Dense(c, c.hidden(), c.lmHead()).lse);
    float[] all = backward(bench, c, c.dLogps(), lse)[0];
    for (int m = 0; m < 70; m += 23) {
      Tensor dHidden = bench.garbage("dHidden", 1, 17);
      bench.ops.tokenLogProbsBackward(
          dHidden,
          bench.filled("dLmHead", 0, 131, 17),
          bench.f32("dLogps", c.dLogps(), 70).slice(m, m + 1),
          bench.f32("hidden", c.hidden(), 70, 17).slice(m, m + 1),
          bench.weight("lm_head.weight", c.dtype(), c.lmHead(), 131, 17),
          bench.ints("targets", c.targets()).slice(m, m + 1),
          bench.f32("lse", lse, 70).slice(m, m + 1));
      TensorAssert.assertThat("token_log_probs_backward of token " + m, bench.floats(dHidden))
          .hasBits(Arrays.copyOfRange(all, m * 17, m * 17 + 17));
    }
  }
}
