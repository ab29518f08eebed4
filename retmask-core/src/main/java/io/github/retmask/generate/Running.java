package io.github.retmask.generate;

import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// A request under way in a cache slot.
final class Running {
  private final int index;
  private final GenerationRequest request;
  private final int slot;
  private final int layers;
  private final int heads;
  private int read; // prompt tokens that are in the cache or in the batch being computed
  private int[] ids; // generated; entries from count on are room
  private int count;
  private int[] positions = new int[0]; // [count,L,H] when attention is read
  private float[] weights = new float[0];
  private @Nullable FinishReason finish;

  Running(int index, GenerationRequest request, int slot, ModelConfig config) {
    this.index = index;
    this.request = request;
    this.slot = slot;
    this.layers = config.layerCount();
    this.heads = config.heads();
    this.ids = new int[Math.min(request.maxNewTokens(), 64)];
  }

  int index() {
    return index;
  }

  int slot() {
    return slot;
  }

  int count() {
    return count;
  }

  boolean readsAttention() {
    return request.readAttention();
  }

  /// Whether the whole prompt is in the cache or in the batch being computed.
  boolean promptIsRead() {
    return read == request.prompt().length;
  }

  @Nullable FinishReason finish() {
    return finish;
  }

  /// The tokens that come next: a piece of the prompt of at most `budget` tokens, or the last token.
  /// Null when the prompt goes on but the budget is spent.
  Batch.@Nullable Row nextRow(int budget) {
    int[] prompt = request.prompt();
    if (promptIsRead()) {
      return row(Batch.Phase.DECODE, ids[count - 1]);
    }
    // A decode-only mask already holds for the query that produces the first new token.
    boolean lastAlone = request.mask().phase() == MaskPhase.DECODE_ONLY;
    int prefill = lastAlone ? prompt.length - 1 : prompt.length;
    if (read == prefill) {
      return row(Batch.Phase.DECODE, prompt[read++]);
    }
    if (budget == 0) {
      return null;
    }
    int from = read;
    read += Math.min(budget, prefill - from);
    boolean whole = from == 0 && read == prompt.length;
    return row(Batch.Phase.PREFILL, whole ? prompt : Arrays.copyOfRange(prompt, from, read));
  }

  private Batch.Row row(Batch.Phase phase, int... tokens) {
    return new Batch.Row(slot, tokens, request.mask(), phase);
  }

  /// Chooses and keeps the next token.
  ///
  /// @param logits `[V]`
  int draw(Sampler sampler, float[] logits) {
    int id = sampler.sample(logits, request.sampling(), request.record(), count);
    if (count == ids.length) {
      ids = Arrays.copyOf(ids, Math.min(2 * count, request.maxNewTokens()));
    }
    ids[count++] = id;
    if (request.stop().stops(ids, count)) {
      finish = FinishReason.STOP;
    } else if (count == request.maxNewTokens()) {
      finish = FinishReason.LENGTH;
    }
    return id;
  }

  /// Notes where a head looked when it produced the newest token.
  void saw(int layer, int head, int position, float weight) {
    int needed = count * layers * heads;
    if (positions.length < needed) {
      positions = Arrays.copyOf(positions, 2 * needed);
      weights = Arrays.copyOf(weights, 2 * needed);
    }
    int at = ((count - 1) * layers + layer) * heads + head;
    positions[at] = position;
    weights[at] = weight;
  }

  Completion completion() {
    FinishReason why = finish;
    if (why == null) {
      throw new IllegalStateException("request " + index + " still runs");
    }
    int steps = count * layers * heads;
    DecodeAttention attention =
        request.readAttention()
            ? new DecodeAttention(
                layers, heads, Arrays.copyOf(positions, steps), Arrays.copyOf(weights, steps))
            : null;
    return new Completion(index, request, Arrays.copyOf(ids, count), why, attention);
  }
}
