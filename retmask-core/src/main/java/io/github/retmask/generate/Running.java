package io.github.retmask.generate;

import io.github.retmask.backend.TokenDraw;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// A request under way in a cache slot.
final class Running {
  private final int index;
  private final GenerationRequest request;
  private final int slot;
  private final ModelConfig config;
  private final int layers;
  private final int heads;
  private int context; // tokens that are rotated as one prompt
  private int read; // tokens that are in the cache or in the batch being computed
  private int[] ids; // generated; entries from count on are room
  private int count;
  private int[] positions = new int[0]; // [count,L,H] when attention is read
  private float[] weights = new float[0];
  private final @Nullable SeenTokens seen; // where a repetition penalty asks for them
  private @Nullable FinishReason finish;

  Running(int index, GenerationRequest request, int slot, ModelConfig config) {
    this.index = index;
    this.request = request;
    this.slot = slot;
    this.config = config;
    this.context = request.prompt().length;
    this.layers = config.layerCount();
    this.heads = config.heads();
    this.ids = new int[Math.min(request.maxNewTokens(), 64)];
    boolean penalised = request.sampling().repetitionPenalty() != 1;
    this.seen = penalised ? new SeenTokens(request.prompt()) : null;
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

  /// Whether all tokens so far are in the cache or in the batch being computed, so that it yields the
  /// next one.
  boolean isRead() {
    return read == length();
  }

  /// Prompt and generated tokens.
  private int length() {
    return request.prompt().length + count;
  }

  /// Starts over with all tokens so far where the next one makes the context so long that the keys
  /// in the slot do not serve any more. True when it does; the slot must then be emptied.
  boolean startsOver() {
    if (config.keepsKeys(context, length())) {
      return false;
    }
    context = length();
    read = 0;
    return true;
  }

  @Nullable FinishReason finish() {
    return finish;
  }

  /// Tokens of the prompt that are read as such. A decode-only mask already holds for the query that
  /// produces the first new token.
  private int prefill() {
    boolean lastAlone = request.mask().phase() == MaskPhase.DECODE_ONLY;
    return lastAlone ? request.prompt().length - 1 : request.prompt().length;
  }

  /// Whether what comes next is the same piece of the same prompt for both.
  boolean readsWith(Running other) {
    return read == other.read
        && read < prefill()
        && other.read < other.prefill()
        && context == other.context
        && Arrays.equals(request.prompt(), other.request.prompt());
  }

  /// How many of the requests differ by the mask under which they read their prompt.
  static int masksInPrefill(List<Running> together) {
    return (int) together.stream().map(Running::maskInPrefill).distinct().count();
  }

  private HeadMask maskInPrefill() {
    HeadMask mask = request.mask();
    return mask.phase() == MaskPhase.DECODE_ONLY ? HeadMask.none(layers, heads) : mask;
  }

  /// How much of their prompt requests that read together read now, `most` at most.
  static int piece(List<Running> together, int most) {
    int piece = most;
    if (together.size() > 1) {
      for (Running request : together) {
        piece = Math.min(piece, request.prefill() - request.read);
      }
    }
    return piece;
  }

  /// The tokens that come next: a piece of at most `budget` tokens, or the last token. Null when
  /// there is more to read than that but the budget is spent.
  Batch.@Nullable Row nextRow(int budget) {
    int prefill = prefill();
    int from = read;
    if (from >= prefill && from == length() - 1) {
      read++;
      return row(Batch.Phase.DECODE, from);
    }
    if (budget == 0) {
      return null;
    }
    read += Math.min(budget, (from < prefill ? prefill : length()) - from);
    return row(from < prefill ? Batch.Phase.PREFILL : Batch.Phase.DECODE, from);
  }

  /// The tokens from `from` to what is read now.
  private Batch.Row row(Batch.Phase phase, int from) {
    int[] tokens = new int[read - from];
    for (int t = 0; t < tokens.length; t++) {
      int generated = from + t - request.prompt().length;
      tokens[t] = generated < 0 ? request.prompt()[from + t] : ids[generated];
    }
    return new Batch.Row(slot, tokens, request.mask(), phase, context);
  }

  /// How the next token is drawn.
  TokenDraw draw() {
    int[] held = seen == null ? new int[0] : seen.ids();
    return request.sampling().draw(request.record(), count, held);
  }

  /// Keeps the next token.
  void take(int id) {
    if (count == ids.length) {
      ids = Arrays.copyOf(ids, Math.min(2 * count, request.maxNewTokens()));
    }
    ids[count++] = id;
    if (seen != null) {
      seen.saw(id);
    }
    if (request.stop().stops(ids, count)) {
      finish = FinishReason.STOP;
    } else if (count == request.maxNewTokens()) {
      finish = FinishReason.LENGTH;
    }
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
