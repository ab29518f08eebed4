package io.github.retmask.model;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.SharedForward.Sequence;
import io.github.retmask.model.SharedForward.Strand;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/// The rows of a batch as a [SharedForward] takes them: rows of the same tokens together.
///
/// @param layout of the rows
/// @param prompts tokens of every row's prompt
/// @param masks of the rows, as they hold in this batch
record SharedBatch(
    Batch batch, @Nullable KvCache cache, BatchLayout layout, int[] prompts, List<HeadMask> masks) {

  /// See [Transformer#states].
  TokenStates states(Transformer model, ReadoutRequest readouts, TensorArena step, int... tokens) {
    List<Sequence> sequences = sequences(readouts, tokens);
    SharedForward.Slots slots =
        cache == null ? null : new SharedForward.Slots(cache, layout::keyStart);
    Tensor hidden =
        model.activation(step, "hidden", tokens.length, model.config().hiddenSize()); // [M,C]
    SharedForward forward =
        new SharedForward(
            model,
            sequences,
            masks,
            slots,
            Integer.MAX_VALUE,
            (strands, all) -> {
              int[] places = places(strands, tokens);
              model.ops().gatherRows(hidden, all, step.ints("places", places));
            },
            step);
    List<AttentionReadout> reported = forward.run(readouts);
    return new TokenStates(hidden, reported);
  }

  private List<Sequence> sequences(ReadoutRequest readouts, int[] tokens) {
    List<List<Integer>> sets = new ArrayList<>();
    for (int r = 0; r < layout.rows(); r++) {
      List<Integer> home = null;
      for (int s = 0; s < sets.size() && home == null && readouts.tokens().length == 0; s++) {
        home = same(sets.get(s).getFirst(), r) ? sets.get(s) : null;
      }
      if (home == null) {
        home = new ArrayList<>();
        sets.add(home);
      }
      home.add(r);
    }
    List<TreeSet<Integer>> chosen = new ArrayList<>(); // per row
    for (int r = 0; r < layout.rows(); r++) {
      chosen.add(new TreeSet<>());
    }
    for (int[] wanted : List.of(tokens, readouts.tokens())) {
      for (int token : wanted) {
        int row = layout.rowOf(token);
        chosen.get(row).add(token - layout.tokenStart(row));
      }
    }
    List<Sequence> sequences = new ArrayList<>();
    for (List<Integer> set : sets) {
      int first = set.getFirst();
      TreeSet<Integer> ofAny = new TreeSet<>();
      set.forEach(row -> ofAny.addAll(chosen.get(row)));
      sequences.add(
          new Sequence(
              batch.rows().get(first).ids(),
              layout.past(first),
              prompts[first],
              ints(set),
              ints(ofAny)));
    }
    return sequences;
  }

  /// Whether two rows differ by their masks alone, now and in what the cache holds of them.
  private boolean same(int r, int other) {
    Batch.Row a = batch.rows().get(r);
    Batch.Row b = batch.rows().get(other);
    if (a.ids().length != b.ids().length || prompts[r] != prompts[other]) {
      return false;
    }
    return cache == null ? Arrays.equals(a.ids(), b.ids()) : cache.sameReading(a.slot(), b.slot());
  }

  /// Where packed tokens of the batch lie in the final states of strands.
  private int[] places(List<Strand> strands, int[] tokens) {
    List<List<int[]>> runs = new ArrayList<>(); // per row: from, length, place of the first
    for (int r = 0; r < layout.rows(); r++) {
      runs.add(new ArrayList<>());
    }
    int at = 0;
    for (Strand s : strands) {
      for (int row : s.rows()) {
        runs.get(row).add(new int[] {s.from(), s.length(), at});
      }
      at += s.length();
    }
    int[] places = new int[tokens.length];
    for (int m = 0; m < tokens.length; m++) {
      int row = layout.rowOf(tokens[m]);
      int token = tokens[m] - layout.tokenStart(row);
      for (int[] run : runs.get(row)) {
        if (token >= run[0] && token < run[0] + run[1]) {
          places[m] = run[2] + token - run[0];
        }
      }
    }
    return places;
  }

  private static int[] ints(Collection<Integer> numbers) {
    return numbers.stream().mapToInt(Integer::intValue).toArray();
  }
}
