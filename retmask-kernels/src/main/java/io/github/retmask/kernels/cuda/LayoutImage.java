package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.BatchLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;

/// A [BatchLayout] in device memory, as `batch.cuh` declares it.
final class LayoutImage implements AutoCloseable {
  private final Gpu gpu;
  private final List<Long> stored = new ArrayList<>(); // what is not in the image of a step
  private final BatchLayout layout;
  private final long rows;
  private final long rowOf;
  private final Map<Integer, Long> tiles = new HashMap<>(); // by tokens per tile
  private final Map<Integer, Long> keyTiles = new HashMap<>(); // by keys per tile

  LayoutImage(Gpu gpu, BatchLayout layout) {
    this.gpu = gpu;
    this.layout = layout;
    int[] structs = new int[4 * layout.rows()];
    int[] owners = new int[layout.tokens()];
    for (int r = 0; r < layout.rows(); r++) {
      structs[4 * r] = layout.tokenStart(r);
      structs[4 * r + 1] = layout.length(r);
      structs[4 * r + 2] = layout.past(r);
      structs[4 * r + 3] = layout.keyStart(r);
      java.util.Arrays.fill(owners, layout.tokenStart(r), layout.tokenStart(r + 1), r);
    }
    rows = store(structs);
    rowOf = store(owners);
  }

  BatchLayout layout() {
    return layout;
  }

  /// Address of `BatchRow[B]`.
  long rows() {
    return rows;
  }

  /// Address of `int[N]`: the row of every token.
  long rowOf() {
    return rowOf;
  }

  /// Address of `TokenTile[]`: runs of at most `tokens` tokens of one row, rows in order.
  long tiles(int tokens) {
    return tiles.computeIfAbsent(tokens, size -> makeTiles(layout::length, size));
  }

  /// The same of keys, those of the past included.
  long keyTiles(int keys) {
    return keyTiles.computeIfAbsent(keys, size -> makeTiles(layout::keys, size));
  }

  private long makeTiles(IntUnaryOperator length, int size) {
    int[] pairs = new int[2 * count(layout, length, size)];
    int at = 0;
    for (int r = 0; r < layout.rows(); r++) {
      for (int first = 0; first < length.applyAsInt(r); first += size) {
        pairs[at++] = r;
        pairs[at++] = first;
      }
    }
    return store(pairs);
  }

  private long store(int... values) {
    long inStep = gpu.placeInStep(values);
    if (inStep != 0) {
      return inStep;
    }
    long address = gpu.store(values);
    stored.add(address);
    return address;
  }

  static int tileCount(BatchLayout layout, int tokens) {
    return count(layout, layout::length, tokens);
  }

  static int keyTileCount(BatchLayout layout, int keys) {
    return count(layout, layout::keys, keys);
  }

  private static int count(BatchLayout layout, IntUnaryOperator length, int size) {
    int count = 0;
    for (int r = 0; r < layout.rows(); r++) {
      count += Math.ceilDiv(length.applyAsInt(r), size);
    }
    return count;
  }

  @Override
  public void close() {
    stored.forEach(gpu::release);
  }
}
