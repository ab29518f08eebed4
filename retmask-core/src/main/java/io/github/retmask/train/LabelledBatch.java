package io.github.retmask.train;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Batch;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// Whole sequences with the tokens whose log-probabilities count, each under its own mask.
///
/// The labelled tokens of a row are those after the first with a weight other than 0. All labelled
/// tokens of the batch, M of them, are numbered row by row; what comes after a row's last one is
/// not computed, since nothing that counts depends on it.
public final class LabelledBatch {
  private final List<Example> rows;
  private final List<HeadMask> masks;
  private final int[] rowStart; // [B+1], first labelled token of each row
  private final int[] targets; // [M], the labelled token ids
  private final int[] sources; // [M], packed index of the token that predicts each
  private final float[] weights; // [M]
  private final Batch batch;

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
    this.rowStart = new int[rows.size() + 1];
    List<Batch.Row> inputs = new ArrayList<>();
    for (int r = 0; r < rows.size(); r++) {
      Example row = rows.get(r);
      int last = 0;
      for (int t = 1; t < row.ids().length; t++) {
        if (row.weights()[t] != 0) {
          rowStart[r + 1]++;
          last = t;
        }
      }
      rowStart[r + 1] += rowStart[r];
      int[] ids = java.util.Arrays.copyOf(row.ids(), Math.max(1, last));
      inputs.add(Batch.Row.whole(ids, masks.get(r)).ofPrompt(row.ids().length));
    }
    int count = rowStart[rows.size()];
    if (count == 0) {
      throw new IllegalArgumentException(
          "labelled batch: no token of its %d rows has a weight other than 0"
              .formatted(rows.size()));
    }
    this.batch = new Batch(inputs);
    this.targets = new int[count];
    this.sources = new int[count];
    this.weights = new float[count];
    int at = 0;
    int packed = 0;
    for (int r = 0; r < rows.size(); r++) {
      Example row = rows.get(r);
      for (int t = 1; t < row.ids().length; t++) {
        if (row.weights()[t] != 0) {
          targets[at] = row.ids()[t];
          sources[at] = packed + t - 1;
          weights[at] = row.weights()[t];
          at++;
        }
      }
      packed += inputs.get(r).ids().length;
    }
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

  /// Packed index of the token that predicts each labelled one, `[M]`.
  int[] sources() {
    return sources;
  }

  /// What the model reads.
  Batch batch() {
    return batch;
  }
}
