package io.github.retmask.model;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.Ops;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;

/// Keys and values of whole sequences some of which begin with tokens of others ([Batch.Prefix]): every
/// row's own ones behind copies of its prefix's, S keys in all. One serves all layers.
///
/// @param sources I32 `[S]`, the token of every key
/// @param own I32 `[N]`, the key of every token that is no copy
/// @param copies of prefixes
/// @param keys `[S,Hkv,D]`
/// @param values `[S,Hkv,D]`
record SharedKeys(Tensor sources, Tensor own, List<Copy> copies, Tensor keys, Tensor values) {

  /// Keys of a prefix within the row behind it.
  ///
  /// @param token first token of the prefix
  /// @param key first key of the copy
  /// @param count of either
  private record Copy(int token, int key, int count) {}

  static boolean needs(Batch batch) {
    return batch.rows().stream().anyMatch(row -> row.prefix().tokens() > 0);
  }

  /// Rows one behind the other, each with room for all its keys.
  static BatchLayout layout(Batch batch) {
    int rows = batch.rows().size();
    int[] lengths = new int[rows];
    int[] past = new int[rows];
    int[] keyStart = new int[rows];
    int keys = 0;
    for (int r = 0; r < rows; r++) {
      Batch.Row row = batch.rows().get(r);
      lengths[r] = row.ids().length;
      past[r] = row.prefix().tokens();
      keyStart[r] = keys;
      keys = Math.addExact(keys, past[r] + lengths[r]);
    }
    return BatchLayout.cached(lengths, past, keyStart);
  }

  /// Room for the keys of a layout made by [#layout].
  static SharedKeys allocate(Transformer model, Batch batch, BatchLayout layout, TensorArena step) {
    int last = layout.rows() - 1;
    int[] sources = new int[layout.keyStart(last) + layout.keys(last)];
    List<Copy> copies = new ArrayList<>();
    for (int r = 0; r < layout.rows(); r++) {
      Batch.Prefix prefix = batch.rows().get(r).prefix();
      for (int j = 0; j < layout.keys(r); j++) {
        boolean copied = j < prefix.tokens();
        sources[layout.keyStart(r) + j] =
            copied
                ? layout.tokenStart(prefix.row()) + j
                : layout.tokenStart(r) + j - prefix.tokens();
      }
      if (prefix.tokens() > 0) {
        copies.add(new Copy(layout.tokenStart(prefix.row()), layout.keyStart(r), prefix.tokens()));
      }
    }
    int kvHeads = model.config().kvHeads();
    int headDim = model.config().headDim();
    return new SharedKeys(
        step.ints("key_sources", sources),
        step.ints("own_keys", layout.keyRows()),
        copies,
        model.activation(step, "shared_k", sources.length, kvHeads, headDim),
        model.activation(step, "shared_v", sources.length, kvHeads, headDim));
  }

  /// Number of keys.
  int count() {
    return (int) keys.dim(0);
  }

  /// Fills [#keys] and [#values].
  ///
  /// @param k `[N,Hkv,D]`
  /// @param v `[N,Hkv,D]`
  void gather(Tensor k, Tensor v, Ops ops) {
    ops.gatherRows(keys, k, sources);
    ops.gatherRows(values, v, sources);
  }

  /// Adds up the gradients of keys or values of every token: its own row's, then those of the copies
  /// by row.
  ///
  /// @param dTokens `[N,Hkv,D]`, overwritten
  /// @param dKeys `[S,Hkv,D]`
  void sum(Tensor dTokens, Tensor dKeys, Ops ops) {
    ops.gatherRows(dTokens, dKeys, own);
    for (Copy copy : copies) {
      Tensor sum = dTokens.slice(copy.token, copy.token + copy.count);
      ops.add(sum, sum, dKeys.slice(copy.key, copy.key + copy.count));
    }
  }
}
