package io.github.retmask.train;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// Whole sequences with the tokens whose log-probabilities count, each under its own mask.
///
/// The labelled tokens of a row are those after the first with a weight other than 0. All labelled
/// tokens of the batch, M of them, are numbered row by row; what comes after a row's last one is
/// not computed, since nothing that counts depends on it. A prompt that the row before has too is
/// computed once (Wang and Hegde 2024).
public final class LabelledBatch {
  /// Tokens that rows share at least.
  private static final int SHORTEST_PREFIX = 16;

  /// One in so many tokens of a row is shared at least.
  private static final int LEAST_SHARE = 8;

  private final List<Example> rows;
  private final List<HeadMask> masks;
  private final int[][] labels; // places of the labelled tokens of each row
  private final int[] rowStart; // [B+1], first labelled token of each row
  private final int[] targets; // [M], the labelled token ids
  private final float[] weights; // [M]

  /// @param rows at least one
  /// @param masks one per row
  /// @throws IllegalArgumentException when the counts differ or no token is labelled
  public LabelledBatch(List<Example> rows, List<HeadMask> masks) {
    if (rows.isEmpty() || rows.size() != masks.size()) {
      throw new IllegalArgumentException(
          "labelled batch: %d rows and %d masks, want as many of both and at least 1"
              .formatted(rows.size(), masks.size()));
    }
    this.rows = List.copyOf(rows);
    this.masks = List.copyOf(masks);
    this.labels = rows.stream().map(LabelledBatch::labels).toArray(int[][]::new);
    this.rowStart = new int[rows.size() + 1];
    for (int r = 0; r < rows.size(); r++) {
      rowStart[r + 1] = rowStart[r] + labels[r].length;
    }
    int count = rowStart[rows.size()];
    if (count == 0) {
      throw new IllegalArgumentException(
          "labelled batch: no token of its %d rows has a weight other than 0"
              .formatted(rows.size()));
    }
    this.targets = new int[count];
    this.weights = new float[count];
    int at = 0;
    for (int r = 0; r < rows.size(); r++) {
      Example row = rows.get(r);
      for (int t : labels[r]) {
        targets[at] = row.ids()[t];
        weights[at] = row.weights()[t];
        at++;
      }
    }
  }

  /// Places of the labelled tokens of a row.
  private static int[] labels(Example row) {
    return IntStream.range(1, row.ids().length).filter(t -> row.weights()[t] != 0).toArray();
  }

  /// All rows under one mask.
  public static LabelledBatch of(List<Example> rows, HeadMask mask) {
    return new LabelledBatch(rows, Collections.nCopies(rows.size(), mask));
  }

  /// The sequences.
  public List<Example> rows() {
    return rows;
  }

  /// The mask of each row.
  public List<HeadMask> masks() {
    return masks;
  }

  /// M, the labelled tokens of all rows.
  public int labels() {
    return targets.length;
  }

  /// Tokens of all rows, labelled or not.
  public long tokens() {
    long tokens = 0;
    for (Example row : rows) {
      tokens += row.ids().length;
    }
    return tokens;
  }

  /// Loss weight of every labelled token, `[M]`.
  public float[] labelWeights() {
    return weights.clone();
  }

  /// First labelled token of each row, `[B+1]`; the last entry is M.
  int[] rowStart() {
    return rowStart;
  }

  /// The labelled ids, `[M]`.
  int[] targets() {
    return targets;
  }

  /// What the model reads.
  ///
  /// @param batch the rows
  /// @param sources `[M]`, packed index of the token that predicts each labelled one; distinct
  record Input(Batch batch, int[] sources) {}

  /// @param sharing the model, where rows may begin with tokens of an earlier one: log-probabilities in
  ///   F32 have the same bits, gradients are added up in another order; or null
  Input input(@Nullable ModelConfig sharing) {
    List<Batch.Row> inputs = new ArrayList<>();
    int[] sources = new int[targets.length];
    int at = 0;
    int packed = 0;
    for (int r = 0; r < rows.size(); r++) {
      Example row = rows.get(r);
      int home = r == 0 ? 0 : home(inputs, r - 1);
      int from = shared(home, r, sharing);
      if (r + 1 < rows.size() && shared(r, r + 1, sharing) > 2 * from) {
        from = 0; // only whole rows are shared from: both would have but what all rows begin with
      }
      int[] ids = Arrays.copyOfRange(row.ids(), from, length(r));
      Batch.Row input = Batch.Row.whole(ids, masks.get(r)).ofPrompt(row.ids().length);
      inputs.add(from == 0 ? input : input.after(home, from));
      for (int t : labels[r]) {
        sources[at++] = packed + t - 1 - from;
      }
      packed += ids.length;
    }
    return new Input(new Batch(inputs), sources);
  }

  /// Tokens of a row up to the one that predicts the last label, at least one.
  private int length(int row) {
    int count = labels[row].length;
    return count == 0 ? 1 : labels[row][count - 1];
  }

  /// The row that a row's prefix is of: itself where it has none.
  private static int home(List<Batch.Row> inputs, int row) {
    Batch.Prefix prefix = inputs.get(row).prefix();
    return prefix.tokens() == 0 ? row : prefix.row();
  }

  /// How many of its first tokens a row may take from an earlier one: none that predict a label of it,
  /// and enough that copies of keys take less time than what they save.
  private int shared(int earlier, int row, @Nullable ModelConfig model) {
    int[] a = rows.get(earlier).ids();
    int[] b = rows.get(row).ids();
    if (model == null
        || earlier == row
        || labels[row].length == 0
        || !masks.get(earlier).equals(masks.get(row))
        || !model.rotatesAlike(a.length, b.length)) {
      return 0;
    }
    int end = Math.min(labels[row][0] - 1, length(earlier));
    int differs = Arrays.mismatch(a, 0, end, b, 0, end);
    int common = differs < 0 ? end : differs;
    boolean pays = common >= SHORTEST_PREFIX && common >= length(row) / LEAST_SHARE;
    return pays ? common : 0;
  }
}
