package io.github.retmask.heads;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;

/// Retrieval scores of every query head of a model, one for each successful trial. Immutable.
///
/// Scores are finite and not negative. Those of the published script may exceed 1 (a repeated
/// answer counts again); a strict score never does.
public final class HeadScores {
  private final int layers;
  private final int heads;
  private final int trials;
  private final double[][] scores; // [L*H][trials]
  private final double[] means; // [L*H]

  private HeadScores(int layers, int heads, double[][] scores) {
    this.layers = layers;
    this.heads = heads;
    this.trials = scores[0].length;
    this.scores = scores;
    this.means = new double[scores.length];
    for (int i = 0; i < scores.length; i++) {
      means[i] = sum(scores[i]) / trials;
    }
  }

  /// Scores by head: `byHead[layer * heads + head]` lists one score a trial.
  ///
  /// @throws IllegalArgumentException naming the head, when a list is missing, empty, of another
  ///     length than the others, or holds a number that is not finite or negative
  public static HeadScores ofHeads(int layers, int heads, double[][] byHead) {
    if (layers < 1 || heads < 1 || byHead.length != layers * heads) {
      throw new IllegalArgumentException(
          "scores of %d heads, want %d layers x %d heads".formatted(byHead.length, layers, heads));
    }
    int trials = byHead[0].length;
    if (trials == 0) {
      throw new IllegalArgumentException("no trial: a score needs at least one successful trial");
    }
    double[][] copy = new double[byHead.length][];
    for (int i = 0; i < byHead.length; i++) {
      HeadId id = new HeadId(i / heads, i % heads);
      if (byHead[i].length != trials) {
        throw new IllegalArgumentException(
            "head %s has %d scores, head 0-0 has %d: want one a trial for every head"
                .formatted(id, byHead[i].length, trials));
      }
      copy[i] = byHead[i].clone();
      for (double score : copy[i]) {
        if (!(score >= 0 && score < Double.POSITIVE_INFINITY)) {
          throw new IllegalArgumentException(
              "head %s has the score %s: want a finite number, 0 or more".formatted(id, score));
        }
      }
    }
    return new HeadScores(layers, heads, copy);
  }

  /// Scores by trial: each array holds one score a head, at `layer * heads + head`.
  ///
  /// @throws IllegalArgumentException as [#ofHeads]
  public static HeadScores ofTrials(int layers, int heads, List<double[]> byTrial) {
    double[][] byHead = new double[layers * heads][byTrial.size()];
    for (int t = 0; t < byTrial.size(); t++) {
      double[] trial = byTrial.get(t);
      if (trial.length != byHead.length) {
        throw new IllegalArgumentException(
            "trial %d scores %d heads, want %d layers x %d heads"
                .formatted(t, trial.length, layers, heads));
      }
      for (int i = 0; i < byHead.length; i++) {
        byHead[i][t] = trial[i];
      }
    }
    return ofHeads(layers, heads, byHead);
  }

  public int layers() {
    return layers;
  }

  public int heads() {
    return heads;
  }

  /// Successful trials, duplicates included.
  public int trials() {
    return trials;
  }

  /// The score of a head in a trial.
  public double score(HeadId id, int trial) {
    return scores[index(id)][trial];
  }

  /// A copy of a head's scores, one a trial.
  public double[] scores(HeadId id) {
    return scores[index(id)].clone();
  }

  /// Mean over all trials; the number a threshold is held against. The sum is compensated, so the
  /// order of the trials does not move a head across a threshold.
  public double mean(HeadId id) {
    return means[index(id)];
  }

  /// All heads, by layer, then by head.
  public List<HeadId> ids() {
    List<HeadId> ids = new ArrayList<>(means.length);
    for (int i = 0; i < means.length; i++) {
      ids.add(new HeadId(i / heads, i % heads));
    }
    return ids;
  }

  /// All heads, highest mean first; equal means by layer, then by head.
  public List<HeadId> ranking() {
    List<HeadId> ids = ids();
    ids.sort(Comparator.comparingDouble(this::mean).reversed().thenComparing(id -> id));
    return ids;
  }

  /// Heads whose mean is `threshold` or more, in the order of [#ranking].
  public List<HeadId> atLeast(double threshold) {
    return ranking().stream().filter(id -> mean(id) >= threshold).toList();
  }

  /// The first `k` heads of [#ranking].
  ///
  /// @throws IllegalArgumentException when the model has fewer heads
  public List<HeadId> top(int k) {
    if (k < 0 || k > means.length) {
      throw new IllegalArgumentException("top " + k + " of " + means.length + " heads");
    }
    return List.copyOf(ranking().subList(0, k));
  }

  /// The same heads scored by these trials alone.
  ///
  /// @throws IllegalArgumentException when there is none
  public HeadScores select(int... chosen) {
    double[][] byHead = new double[scores.length][chosen.length];
    for (int i = 0; i < scores.length; i++) {
      for (int t = 0; t < chosen.length; t++) {
        byHead[i][t] = scores[i][chosen[t]];
      }
    }
    return ofHeads(layers, heads, byHead);
  }

  /// One table a label, such as the needle, length or depth of the trials, in the order in which the
  /// labels first occur.
  ///
  /// @param labels one a trial
  public SequencedMap<String, HeadScores> byGroup(List<String> labels) {
    if (labels.size() != trials) {
      throw new IllegalArgumentException(labels.size() + " labels for " + trials + " trials");
    }
    SequencedMap<String, List<Integer>> members = new LinkedHashMap<>();
    for (int t = 0; t < trials; t++) {
      members.computeIfAbsent(labels.get(t), _ -> new ArrayList<>()).add(t);
    }
    SequencedMap<String, HeadScores> groups = new LinkedHashMap<>();
    members.forEach(
        (label, list) ->
            groups.put(label, select(list.stream().mapToInt(Integer::intValue).toArray())));
    return Collections.unmodifiableSequencedMap(groups);
  }

  /// For each trial the first trial with the same score of every head, itself when there is none.
  /// Repeated trials show up like this in a file that carries nothing but scores.
  public int[] firstEqual() {
    LinkedHashMap<List<Double>, Integer> seen = new LinkedHashMap<>();
    int[] first = new int[trials];
    for (int t = 0; t < trials; t++) {
      Double[] vector = new Double[scores.length];
      for (int i = 0; i < vector.length; i++) {
        vector[i] = scores[i][t];
      }
      Integer earlier = seen.putIfAbsent(Arrays.asList(vector), t);
      first[t] = earlier == null ? t : earlier;
    }
    return first;
  }

  double[] row(int index) {
    return scores[index];
  }

  private int index(HeadId id) {
    if (id.layer() >= layers || id.head() >= heads) {
      throw new IllegalArgumentException(
          "head %s is not scored: there are layers 0-%d with heads 0-%d"
              .formatted(id, layers - 1, heads - 1));
    }
    return id.layer() * heads + id.head();
  }

  /// Neumaier's compensated sum.
  private static double sum(double[] values) {
    double sum = 0;
    double lost = 0;
    for (double value : values) {
      double next = sum + value;
      lost += Math.abs(sum) >= Math.abs(value) ? (sum - next) + value : (value - next) + sum;
      sum = next;
    }
    return sum + lost;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof HeadScores that
        && layers == that.layers
        && heads == that.heads
        && Arrays.deepEquals(scores, that.scores);
  }

  @Override
  public int hashCode() {
    return 31 * heads + Arrays.deepHashCode(scores);
  }

  @Override
  public String toString() {
    return "scores of %d layers x %d heads in %d trials".formatted(layers, heads, trials);
  }
}
