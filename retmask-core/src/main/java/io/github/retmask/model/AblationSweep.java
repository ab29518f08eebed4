package io.github.retmask.model;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.SharedForward.Strand;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/// The same sequences under many masks, such as one head off each: what a mask does not touch is
/// computed once for all.
///
/// Masks share all layers below the first one in which they differ; within that layer they share the
/// projections and, where only gates differ, attention. Of the last layer only what the chosen
/// tokens need is computed. Every number has the bits of a forward of the sequence under that mask
/// alone.
///
/// Memory is bounded by the tokens that are computed at a time, not by the number of masks.
public final class AblationSweep {
  /// Enough to fill the kernels, and small in memory.
  public static final int DEFAULT_TOKENS = 1024;

  private final Transformer model;
  private final int tokens;

  /// A whole sequence.
  ///
  /// @param ids token ids, at least one
  /// @param promptLength tokens of the prompt that it begins with, see [Batch.Row]; 0 for all
  /// @param chosen tokens whose final states are wanted, ascending
  public record Sequence(int[] ids, int promptLength, int... chosen) {
    public Sequence {
      for (int i = 0; i < chosen.length; i++) {
        if (chosen[i] < 0 || chosen[i] >= ids.length || (i > 0 && chosen[i] <= chosen[i - 1])) {
          throw new IllegalArgumentException(
              "sweep: chosen token %d, want ascending ones below %d"
                  .formatted(chosen[i], ids.length));
        }
      }
    }
  }

  /// Whose final state a row of hidden states is. A row that masks have in common has several.
  ///
  /// @param mask index of the mask
  /// @param sequence index of the sequence
  /// @param chosen index of the token among the sequence's chosen ones
  /// @param row row of the hidden states
  public record Place(int mask, int sequence, int chosen, int row) {}

  /// Takes final states as they come.
  @FunctionalInterface
  public interface Sink {
    /// Called until every chosen token of every sequence had its place under every mask once.
    ///
    /// @param hidden `[M,C]`; valid during the call
    /// @param call memory until the end of the call
    void took(List<Place> places, Tensor hidden, TensorArena call);
  }

  /// A sweep over a model that outlives it.
  public AblationSweep(Transformer model) {
    this(model, DEFAULT_TOKENS);
  }

  /// A sweep that computes so many tokens at a time, or as many as the longest sequence has. It
  /// changes no bit.
  public AblationSweep(Transformer model, int tokens) {
    if (tokens < 1) {
      throw new IllegalArgumentException("sweep: " + tokens + " tokens at a time");
    }
    this.model = model;
    this.tokens = tokens;
  }

  /// Final states of the chosen tokens of every sequence under every mask.
  ///
  /// The sequences are read, not generated: a mask that holds while decoding only changes nothing.
  ///
  /// @throws IllegalArgumentException on a mask of another model or an id outside the vocabulary
  public void run(List<Sequence> sequences, List<HeadMask> masks, Sink sink) {
    if (masks.isEmpty()) {
      return;
    }
    try (TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP);
        TensorArena call = model.ops().arena(TensorArena.Lifetime.STEP)) {
      int to;
      for (int from = 0; from < sequences.size(); from = to) {
        long count = sequences.get(from).ids().length;
        to = from + 1;
        while (to < sequences.size() && count + sequences.get(to).ids().length <= tokens) {
          count += sequences.get(to++).ids().length;
        }
        int first = from;
        List<Sequence> part = sequences.subList(from, to);
        run(
            part,
            masks,
            Math.toIntExact(Math.max(tokens, count)),
            (strands, hidden) -> {
              sink.took(places(strands, part, masks.size(), first), hidden, call);
              call.reset();
            },
            step);
        step.reset();
      }
    }
  }

  private void run(
      List<Sequence> sequences,
      List<HeadMask> masks,
      int limit,
      SharedForward.Sink sink,
      TensorArena step) {
    int count = masks.size();
    List<Batch.Row> rows = new ArrayList<>(); // of each sequence under each mask
    List<SharedForward.Sequence> shared = new ArrayList<>();
    for (int s = 0; s < sequences.size(); s++) {
      Sequence sequence = sequences.get(s);
      int prompt = sequence.promptLength() > 0 ? sequence.promptLength() : sequence.ids().length;
      masks.forEach(mask -> rows.add(Batch.Row.whole(sequence.ids(), mask)));
      int[] numbers = IntStream.range(s * count, (s + 1) * count).toArray();
      shared.add(new SharedForward.Sequence(sequence.ids(), 0, prompt, numbers, sequence.chosen()));
    }
    model.checkBatch(new Batch(rows), null, Activations.Keep.RESULT);
    new SharedForward(
            model,
            shared,
            rows.stream().map(row -> model.inPrefill(row.mask())).toList(),
            null,
            limit,
            sink,
            step)
        .run(ReadoutRequest.NONE);
  }

  private static List<Place> places(
      List<Strand> strands, List<Sequence> sequences, int masks, int firstSequence) {
    List<Place> places = new ArrayList<>();
    int at = 0;
    for (Strand strand : strands) {
      int[] chosen = sequences.get(strand.sequence()).chosen();
      int first = Arrays.binarySearch(chosen, strand.from());
      for (int row : strand.rows()) {
        for (int t = 0; t < strand.length(); t++) {
          int mask = row - strand.sequence() * masks;
          places.add(new Place(mask, firstSequence + strand.sequence(), first + t, at + t));
        }
      }
      at += strand.length();
    }
    return places;
  }

  /// Logits of the last token of a prompt under every mask, `[masks][V]`.
  public float[][] lastLogits(int[] prompt, List<HeadMask> masks) {
    float[][] logits = new float[masks.size()][];
    Sequence sequence = new Sequence(prompt, 0, prompt.length - 1);
    run(
        List.of(sequence),
        masks,
        (places, hidden, call) -> {
          Tensor all = model.logits(hidden, call); // [M,V]
          for (Place place : places) {
            logits[place.mask()] = all.slice(place.row(), place.row() + 1).toFloats();
          }
        });
    return logits;
  }

  /// Log-probability of every token of an answer, after the prompt and the tokens before it, under
  /// every mask, `[masks][answer]`.
  ///
  /// @param prompt at least one token
  /// @param answer at least one token
  public float[][] logProbs(int[] prompt, int[] answer, List<HeadMask> masks) {
    int[] ids = Arrays.copyOf(prompt, prompt.length + answer.length - 1);
    System.arraycopy(answer, 0, ids, prompt.length, answer.length - 1);
    int[] before = IntStream.range(prompt.length - 1, ids.length).toArray();
    float[][] logProbs = new float[masks.size()][answer.length];
    run(
        List.of(new Sequence(ids, prompt.length, before)),
        masks,
        (places, hidden, call) -> {
          int m = (int) hidden.dim(0);
          int[] targets = new int[m];
          places.forEach(place -> targets[place.row()] = answer[place.chosen()]);
          Tensor logps = call.floats("logps", m);
          Tensor lse = call.floats("lse", m);
          Tensor lmHead = model.weights().lmHead();
          model.ops().tokenLogProbs(logps, lse, hidden, lmHead, call.ints("targets", targets));
          for (Place place : places) {
            logProbs[place.mask()][place.chosen()] = logps.get(place.row());
          }
        });
    return logProbs;
  }
}
