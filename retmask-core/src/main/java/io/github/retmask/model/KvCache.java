package io.github.retmask.model;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Keys and values of several sequences. Each slot holds one sequence of up to `capacity` positions
/// and the mask under which it was computed: everything above the lowest masked layer depends on
/// it, so a slot never mixes masks.
///
/// Owns its memory; close it.
public final class KvCache implements AutoCloseable {
  private final TensorArena arena;
  private final int slots;
  private final int capacity;
  private final List<Tensor> keys = new ArrayList<>(); // per layer [slots * capacity, Hkv, D]
  private final List<Tensor> values = new ArrayList<>(); // per layer [slots * capacity, Hkv, D]
  private final ModelConfig config;
  private final int[] lengths;
  private final int[] prompts; // tokens of each slot's prompt
  private final @Nullable HeadMask[] masks;
  private final int[][] ids; // tokens of each slot; entries from lengths on are room
  private final boolean[] generated; // whether some of a slot's tokens came in a decode phase

  /// Room for `slots` sequences of `capacity` positions.
  ///
  /// @throws IllegalArgumentException when either is below 1 or their product exceeds 2^31 - 1
  public KvCache(Transformer model, int slots, int capacity) {
    if (slots < 1 || capacity < 1 || (long) slots * capacity > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          "kv cache: %d slots of %d positions".formatted(slots, capacity));
    }
    this.slots = slots;
    this.capacity = capacity;
    this.config = model.config();
    this.lengths = new int[slots];
    this.prompts = new int[slots];
    this.masks = new HeadMask[slots];
    this.ids = new int[slots][0];
    this.generated = new boolean[slots];
    this.arena = model.ops().arena(TensorArena.Lifetime.SESSION);
    try {
      for (int l = 0; l < config.layerCount(); l++) {
        long rows = (long) slots * capacity;
        keys.add(
            model.activation(
                arena, "kv_cache.%d.k".formatted(l), rows, config.kvHeads(), config.headDim()));
        values.add(
            model.activation(
                arena, "kv_cache.%d.v".formatted(l), rows, config.kvHeads(), config.headDim()));
      }
    } catch (OutOfMemoryError e) {
      arena.close();
      throw e;
    }
  }

  /// Bytes that a cache of this size takes.
  public static long bytes(Transformer model, int slots, int capacity) {
    ModelConfig config = model.config();
    return 2L
        * model.activations().bytes()
        * slots
        * capacity
        * config.layerCount()
        * config.kvHeads()
        * config.headDim();
  }

  public int slots() {
    return slots;
  }

  public int capacity() {
    return capacity;
  }

  /// Positions that a slot holds.
  public int length(int slot) {
    return lengths[slot];
  }

  /// Empties a slot for another sequence or mask.
  public void clear(int slot) {
    lengths[slot] = 0;
    masks[slot] = null;
  }

  /// Drops the positions from `length` on.
  public void truncate(int slot, int length) {
    if (length < 0 || length > lengths[slot]) {
      throw new IllegalArgumentException(
          "kv cache: slot %d holds %d positions, cannot keep %d"
              .formatted(slot, lengths[slot], length));
    }
    lengths[slot] = length;
    if (length == 0) {
      masks[slot] = null;
    }
  }

  /// Makes room for a batch and says where it lies.
  ///
  /// @throws IllegalArgumentException when a row's slot does not exist, occurs twice, is full, or
  ///   holds a span computed under another mask, for another prompt length, or, where the rotary
  ///   embedding depends on the context, for one that does not go with the row's
  BatchLayout append(Batch batch) {
    int rows = batch.rows().size();
    int[] rowLengths = new int[rows];
    int[] past = new int[rows];
    int[] keyStart = new int[rows];
    boolean[] taken = new boolean[slots];
    for (int r = 0; r < rows; r++) {
      Batch.Row row = batch.rows().get(r);
      int slot = row.slot();
      if (slot < 0 || slot >= slots || taken[slot]) {
        throw new IllegalArgumentException(
            "kv cache: row %d wants slot %d of %d, each at most once".formatted(r, slot, slots));
      }
      taken[slot] = true;
      if (lengths[slot] + (long) row.ids().length > capacity) {
        throw new IllegalArgumentException(
            "kv cache: slot %d holds %d of %d positions, %d more do not fit"
                .formatted(slot, lengths[slot], capacity, row.ids().length));
      }
      HeadMask before = masks[slot];
      if (before != null && !before.equals(row.mask())) {
        throw new IllegalArgumentException(
            "kv cache: slot %d was computed under mask [%s], not [%s]; clear it, or use one mask with phase DECODE_ONLY"
                .formatted(slot, before, row.mask()));
      }
      if (lengths[slot] > 0) {
        checkContext(row);
      }
      rowLengths[r] = row.ids().length;
      past[r] = lengths[slot];
      keyStart[r] = slot * capacity;
    }
    for (Batch.Row row : batch.rows()) {
      if (lengths[row.slot()] == 0) {
        prompts[row.slot()] = row.promptLength() > 0 ? row.promptLength() : row.ids().length;
      }
      note(row);
      masks[row.slot()] = row.mask();
    }
    return BatchLayout.cached(rowLengths, past, keyStart);
  }

  private void note(Batch.Row row) {
    int slot = row.slot();
    int longer = lengths[slot] + row.ids().length;
    generated[slot] = (lengths[slot] > 0 && generated[slot]) || row.phase() == Batch.Phase.DECODE;
    if (ids[slot].length < longer) {
      ids[slot] = Arrays.copyOf(ids[slot], (int) Math.min(capacity, Math.max(64, 2L * longer)));
    }
    System.arraycopy(row.ids(), 0, ids[slot], lengths[slot], row.ids().length);
    lengths[slot] = longer;
  }

  /// Whether two slots hold the same tokens of the same prompt, none of them generated: they differ
  /// by their masks alone.
  boolean sameReading(int slot, int other) {
    return lengths[slot] == lengths[other]
        && prompts[slot] == prompts[other]
        && !generated[slot]
        && !generated[other]
        && Arrays.equals(ids[slot], 0, lengths[slot], ids[other], 0, lengths[other]);
  }

  /// A row that goes on with a slot must not need the keys there rotated otherwise.
  private void checkContext(Batch.Row row) {
    int slot = row.slot();
    int prompt = prompts[slot];
    int longer = lengths[slot] + row.ids().length;
    if (row.promptLength() > 0 && !rotatesAlike(prompt, row.promptLength())) {
      throw new IllegalArgumentException(
          "kv cache: slot %d was begun with a prompt of %d tokens, not %d; clear it"
              .formatted(slot, prompt, row.promptLength()));
    }
    if (!config.keepsKeys(Math.max(prompt, lengths[slot]), Math.max(prompt, longer))) {
      throw new IllegalArgumentException(
          "kv cache: slot %d holds keys rotated for a shorter context than %d; clear it and compute the sequence anew, as a prompt of that length"
              .formatted(slot, longer));
    }
    if (row.phase() == Batch.Phase.PREFILL && longer > prompt && !rotatesAlike(prompt, longer)) {
      throw new IllegalArgumentException(
          "kv cache: slot %d was begun with a prompt of %d tokens, now %d; the rotary embedding depends on it, so say the prompt's length with its first row"
              .formatted(slot, prompt, longer));
    }
  }

  private boolean rotatesAlike(int context, int other) {
    return config.layers().stream().allMatch(layer -> layer.rope().rotatesAlike(context, other));
  }

  /// Tokens of the prompt that a slot's sequence began with.
  int promptLength(int slot) {
    return prompts[slot];
  }

  /// Keys of a layer, `[slots * capacity, Hkv, D]`.
  Tensor keys(int layer) {
    return keys.get(layer);
  }

  /// Values of a layer, `[slots * capacity, Hkv, D]`.
  Tensor values(int layer) {
    return values.get(layer);
  }

  @Override
  public void close() {
    arena.close();
  }
}
