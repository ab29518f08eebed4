package io.github.retmask.examples.quickstart;

import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadId;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Made-up results, the same at every call.
final class FakeResults {
  static final List<Integer> LENGTHS = List.of(48, 96, 128, 160, 224);

  private FakeResults() {}

  /// A whole run: every arm, six columns, two seeds.
  static Results full() {
    SplitMix64 random = new SplitMix64(1);
    List<HeadEstimate> heads = new ArrayList<>();
    List<HeadId> selected = new ArrayList<>();
    for (int layer = 0; layer < 6; layer++) {
      for (int head = 0; head < 8; head++) {
        boolean retrieval = layer == 3 && head % 3 == 1 || layer == 4 && head == 5;
        double score = (retrieval ? 0.55 : 0) + random.nextDouble() * (retrieval ? 0.4 : 0.06);
        heads.add(
            new HeadEstimate(
                new HeadId(layer, head),
                score,
                new Interval(Math.max(0, score - 0.03), Math.min(1, score + 0.03))));
        if (retrieval) {
          selected.add(new HeadId(layer, head));
        }
      }
    }
    double[][] byArm = {
      {.84, .554, .39, .314, .22, .97},
      {0, .004, 0, .002, 0, .965},
      {.79, .50, .36, .28, .19, .96},
      {.81, .53, .37, .30, .20, .962},
      {.77, .47, .33, .25, .17, .95},
      {.895, .648, .48, .387, .27, .968},
      {.845, .56, .40, .31, .225, .955},
      {.85, .565, .395, .32, .22, Double.NaN}
    };
    List<Results.Evaluation> evaluation = new ArrayList<>();
    for (int a = 0; a < byArm.length; a++) {
      for (int c = 0; c < byArm[a].length; c++) {
        double value = byArm[a][c];
        evaluation.add(
            new Results.Evaluation(
                Results.ARMS.get(a),
                c < LENGTHS.size() ? LENGTHS.get(c) : 96,
                c < LENGTHS.size() ? Results.CONTEXT_EXACT : Results.MEMORY_EXACT,
                value,
                Double.isNaN(value)
                    ? null
                    : new Interval(Math.max(0, value - .02), Math.min(1, value + .018)),
                Double.isNaN(value) ? 0 : 1200));
      }
    }
    List<Results.Difference> differences = new ArrayList<>();
    int[][] compared = {{5, 0}, {6, 0}, {7, 0}, {5, 6}, {5, 7}, {1, 0}, {2, 0}};
    for (int[] pair : compared) {
      for (int c = 0; c < 6; c++) {
        double value = byArm[pair[0]][c] - byArm[pair[1]][c];
        differences.add(
            new Results.Difference(
                Results.ARMS.get(pair[0]),
                Results.ARMS.get(pair[1]),
                c < LENGTHS.size() ? LENGTHS.get(c) : 96,
                c < LENGTHS.size() ? Results.CONTEXT_EXACT : Results.MEMORY_EXACT,
                value,
                Double.isNaN(value) ? null : new Interval(value - .021, value + .021)));
      }
    }
    List<Results.CurvePoint> curves = new ArrayList<>();
    List<Results.Pairs> pairs = new ArrayList<>();
    for (int a = 5; a < 8; a++) {
      for (long seed = 1; seed <= 2; seed++) {
        pairs.add(new Results.Pairs(Results.ARMS.get(a), seed, 2000, 900 + a * 7, 1100 - a * 7));
        for (int step = 1; step <= 60; step++) {
          double progress = step / 60.0 * (a == 5 ? 1 : 0.4);
          curves.add(
              new Results.CurvePoint(
                  Results.ARMS.get(a),
                  seed,
                  step,
                  Math.log(2) - progress * 0.25 + (random.nextDouble() - .5) * 0.04,
                  Math.min(1, 0.5 + progress * 0.45 + (random.nextDouble() - .5) * 0.08),
                  progress * 0.8 + (random.nextDouble() - .5) * 0.05));
        }
      }
    }
    Map<String, String> options = new LinkedHashMap<>();
    options.put("prompts", "2000");
    options.put("learning-rate", "2e-5");
    options.put("beta", "0.1");
    Map<String, String> environment = new LinkedHashMap<>();
    environment.put("java", "25");
    environment.put("backend", "vector, 2 threads");
    return new Results(
        "bundled:tiny",
        List.of(1L, 2L),
        512.25,
        new Results.Lengths(48, 128),
        6,
        8,
        0.1,
        heads,
        selected,
        evaluation,
        differences,
        pairs,
        curves,
        List.of(
            new Results.Stage("detect", 12.5),
            new Results.Stage("sample", 190),
            new Results.Stage("train", 210.25),
            new Results.Stage("evaluate", 99.5)),
        options,
        environment);
  }

  /// Nothing was measured.
  static Results empty() {
    return new Results(
        "none",
        List.of(),
        Double.NaN,
        null,
        0,
        0,
        Double.NaN,
        List.of(),
        List.of(),
        List.of(),
        List.of(),
        List.of(),
        List.of(),
        List.of(),
        Map.of(),
        Map.of());
  }

  /// The given text in every place that takes one.
  static Results named(String text) {
    Interval ci95 = new Interval(0.4, 0.6);
    return new Results(
        text,
        List.of(1L),
        1,
        new Results.Lengths(48, 128),
        1,
        1,
        0.1,
        List.of(new HeadEstimate(new HeadId(0, 0), 0.5, ci95)),
        List.of(new HeadId(0, 0)),
        List.of(new Results.Evaluation(text, 48, text, 0.5, ci95, 10)),
        List.of(new Results.Difference(text, text, 48, text, 0.5, ci95)),
        List.of(new Results.Pairs(text, 1, 3, 2, 1)),
        List.of(new Results.CurvePoint(text, 1, 1, 0.5, 0.5, 0.5)),
        List.of(new Results.Stage(text, 1)),
        Map.of(text, text),
        Map.of(text, text));
  }
}
