package io.github.retmask.generate;

/// Token ids by logit, highest first, equal ones by id, lowest first. Sorts only as far as asked: a
/// heap whose extracted roots collect at the end of its own array.
final class Ranking {
  private int[] ids = new int[0]; // [0, heap): max-heap; [heap, V): extracted, best last
  private float[] logits = new float[0];
  private int heap;

  /// Starts over with `logits`, `[V]`, which must not change while ids are asked for.
  void start(float[] newLogits) {
    logits = newLogits;
    heap = newLogits.length;
    if (ids.length != heap) {
      ids = new int[heap];
    }
    for (int i = 0; i < heap; i++) {
      ids[i] = i;
    }
    for (int i = heap / 2 - 1; i >= 0; i--) {
      sink(i);
    }
  }

  /// The id at `rank`, from 0.
  int id(int rank) {
    int at = ids.length - 1 - rank;
    while (heap > at) {
      heap--;
      int root = ids[0];
      ids[0] = ids[heap];
      ids[heap] = root;
      sink(0);
    }
    return ids[at];
  }

  private void sink(int start) {
    int at = start;
    int id = ids[at];
    while (2 * at + 1 < heap) {
      int child = 2 * at + 1;
      if (child + 1 < heap && before(ids[child + 1], ids[child])) {
        child++;
      }
      if (!before(ids[child], id)) {
        break;
      }
      ids[at] = ids[child];
      at = child;
    }
    ids[at] = id;
  }

  private boolean before(int a, int b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  }
}
