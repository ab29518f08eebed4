package io.github.retmask.generate;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.TokenStates;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.FreeMemory;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// Generates continuations by continuous batching: every step is one forward over the next token of
/// each running request and the next piece of each prompt that is still being read; a request that
/// ends makes room for the next one at once. Requests may carry different masks and lengths.
///
/// Consecutive requests of one prompt, twins under different masks or several samples, begin
/// together, and what they have in common of the prompt is read once ([Transformer#states]).
///
/// A request's result is the same bits whatever runs beside it. Under a mask with
/// [io.github.retmask.heads.MaskPhase#DECODE_ONLY] the prompt but its last token is read intact; the
/// last prompt token and the generated ones run under the mask.
///
/// Not thread-safe, like the model it runs on. Owns its caches; close it.
public final class Generator implements AutoCloseable {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Transformer model;
  private final Options options;
  private final long memoryBytes;
  private final TensorArena step;
  private final Sampler sampler = new Sampler();
  private final float[] row; // [V], logits
  private @Nullable KvCache cache;

  /// What a generator may use. None of it changes a result.
  ///
  /// @param maxRows requests that run at a time, at most
  /// @param prefillTokens prompt tokens that one step reads, over all requests, at most
  /// @param memoryBytes memory for everything in a [MemoryPlan], at most
  public record Options(int maxRows, int prefillTokens, long memoryBytes) {
    public Options {
      if (maxRows < 1 || prefillTokens < 1 || memoryBytes < 1) {
        throw new IllegalArgumentException(
            "generator: %d rows, %d prompt tokens a step, %d bytes: want all at least 1"
                .formatted(maxRows, prefillTokens, memoryBytes));
      }
    }

    /// As [#memoryBytes]: seven eighths of what is free when the generator is made.
    public static final long MOST_OF_FREE = Long.MAX_VALUE;

    /// 64 rows, 512 prompt tokens a step, seven eighths of the memory that is free.
    public static Options defaults() {
      return new Options(64, 512, MOST_OF_FREE);
    }

    /// The limit in bytes, for a model.
    public long memoryBytes(Transformer model) {
      return memoryBytes == MOST_OF_FREE
          ? Math.max(1, model.ops().freeBytes() / 8 * 7)
          : memoryBytes;
    }

    /// These options with another number of rows.
    public Options withMaxRows(int rows) {
      return new Options(rows, prefillTokens, memoryBytes);
    }

    /// These options with another number of prompt tokens a step.
    public Options withPrefillTokens(int tokens) {
      return new Options(maxRows, tokens, memoryBytes);
    }

    /// These options with another limit on memory.
    public Options withMemoryBytes(long bytes) {
      return new Options(maxRows, prefillTokens, bytes);
    }
  }

  /// When completions are handed over.
  public enum Order {
    /// As soon as each is ready.
    READY,
    /// As the requests came.
    REQUESTED
  }

  /// A generator on a model that outlives it.
  public Generator(Transformer model, Options options) {
    this.model = model;
    this.options = options;
    this.memoryBytes = options.memoryBytes(model);
    this.step = model.ops().arena(TensorArena.Lifetime.STEP);
    this.row = new float[model.config().vocabSize()];
  }

  /// All completions, in the order of the requests.
  ///
  /// @throws IllegalArgumentException as [#generate(Iterator, int, Order, TokenListener, Consumer)]
  ///   does, for any of the requests before work starts
  public List<Completion> generate(List<GenerationRequest> requests) {
    List<Completion> completions = new ArrayList<>(requests.size());
    generate(requests, Order.REQUESTED, TokenListener.NONE, completions::add);
    return completions;
  }

  /// One completion, its tokens heard as they come.
  ///
  /// @throws IllegalArgumentException when the request does not fit the model or the memory
  public Completion generate(GenerationRequest request, TokenListener listener) {
    List<Completion> completions = new ArrayList<>(1);
    generate(List.of(request), Order.REQUESTED, listener, completions::add);
    return completions.getFirst();
  }

  /// Runs requests whose needs are known in advance.
  ///
  /// @throws IllegalArgumentException as [#generate(Iterator, int, Order, TokenListener, Consumer)]
  ///   does, for any of the requests before work starts
  public void generate(
      List<GenerationRequest> requests,
      Order order,
      TokenListener listener,
      Consumer<Completion> sink) {
    if (requests.isEmpty()) {
      return;
    }
    long positions = 0;
    for (int i = 0; i < requests.size(); i++) {
      check(i, requests.get(i));
      positions = Math.max(positions, requests.get(i).positions());
    }
    int rows = Math.min(options.maxRows(), requests.size());
    run(requests.iterator(), rows, Math.toIntExact(positions), order, listener, sink);
  }

  /// Runs a stream of requests, of which only those under way are held.
  ///
  /// @param requests asked for the next one when a row is free
  /// @param maxPositions prompt and continuation of the longest request
  /// @param order when completions reach `sink`
  /// @param listener hears every token
  /// @param sink takes the completions
  /// @throws IllegalArgumentException when the memory does not hold one request of that length, or
  ///   when a request is longer than that or than the model's context, has a token outside the
  ///   vocabulary, or a mask of another model
  /// @throws IllegalStateException when the model yields NaN
  public void generate(
      Iterator<GenerationRequest> requests,
      int maxPositions,
      Order order,
      TokenListener listener,
      Consumer<Completion> sink) {
    run(requests, options.maxRows(), maxPositions, order, listener, sink);
  }

  private void run(
      Iterator<GenerationRequest> requests,
      int maxRows,
      int maxPositions,
      Order order,
      TokenListener listener,
      Consumer<Completion> sink) {
    KvCache slots = cacheFor(maxRows, maxPositions);
    Deque<Integer> free = new ArrayDeque<>();
    for (int s = 0; s < Math.min(maxRows, slots.slots()); s++) {
      slots.clear(s);
      free.add(s);
    }
    Consumer<Completion> out = order == Order.READY ? sink : inOrder(sink);
    List<Running> running = new ArrayList<>();
    Arrivals arrivals = new Arrivals(requests, free.size());
    int admitted = 0;
    while (true) {
      for (GenerationRequest request : arrivals.begin(free.size(), running.isEmpty())) {
        check(admitted, request);
        if (request.positions() > maxPositions) {
          throw new IllegalArgumentException(
              "request %d needs %d positions, announced were at most %d"
                  .formatted(admitted, request.positions(), maxPositions));
        }
        running.add(new Running(admitted++, request, free.remove(), model.config()));
      }
      if (running.isEmpty()) {
        return;
      }
      step(running, slots, listener);
      List<Running> still = new ArrayList<>(running.size());
      for (Running row : running) {
        if (row.finish() == null) {
          still.add(row);
        } else {
          slots.clear(row.slot());
          free.add(row.slot());
          out.accept(row.completion());
        }
      }
      running = still;
    }
  }

  /// One forward: the next tokens of every running request.
  private void step(List<Running> running, KvCache slots, TokenListener listener) {
    List<Batch.Row> rows = new ArrayList<>(running.size());
    List<Running> drawing = new ArrayList<>(running.size()); // rows that yield a token
    int[] queries = new int[running.size()]; // their last tokens within the batch
    int tokens = 0;
    int budget = options.prefillTokens();
    boolean shares = true; // read-outs are of every row's own
    boolean decodes = true; // every row is its newest token
    for (Running request : running) {
      if (request.startsOver()) {
        slots.clear(request.slot());
      }
      shares &= !request.readsAttention();
    }
    for (int first = 0, next; first < running.size(); first = next) {
      next = first + 1;
      while (shares && next < running.size() && running.get(next).readsWith(running.get(first))) {
        next++;
      }
      List<Running> together = running.subList(first, next);
      int copies = Running.masksInPrefill(together);
      int piece = Running.piece(together, budget == 0 ? 0 : Math.max(1, budget / copies));
      int read = 0;
      for (Running request : together) {
        Batch.Row row = request.nextRow(piece);
        if (row == null) {
          continue; // other prompts took this step's budget
        }
        boolean single = row.phase() == Batch.Phase.DECODE && row.ids().length == 1;
        decodes &= single;
        read = single ? 0 : row.ids().length;
        rows.add(row);
        tokens += row.ids().length;
        if (request.isRead()) {
          queries[drawing.size()] = tokens - 1;
          drawing.add(request);
        }
      }
      budget = Math.max(0, budget - read * copies);
    }
    int[] drawn = Arrays.copyOf(queries, drawing.size());
    ReadoutRequest readouts = readouts(drawing, drawn);
    step.reset();
    if (drawing.isEmpty()) {
      model.states(new Batch(rows), slots, readouts, step, drawn);
      return;
    }
    Supplier<Forward> forward = () -> forward(new Batch(rows), slots, readouts, drawn);
    Forward result = decodes ? model.ops().together(forward) : forward.get();
    TokenStates states = result.states();
    int[] ids = drawTokens(result.logits(), drawing);
    int reported = 0;
    for (int m = 0; m < drawing.size(); m++) {
      Running request = drawing.get(m);
      request.take(ids[m]);
      if (request.readsAttention()) {
        readAttention(request, states.readouts(), reported++);
      }
      listener.generated(request.index(), request.count() - 1, ids[m]);
    }
  }

  /// @param logits `[M,V]`
  private record Forward(TokenStates states, Tensor logits) {}

  private Forward forward(Batch batch, KvCache slots, ReadoutRequest readouts, int[] tokens) {
    TokenStates states = model.states(batch, slots, readouts, step, tokens);
    return new Forward(states, model.logits(states.hidden(), step));
  }

  /// One token for each request, drawn where the logits are.
  ///
  /// @param logits `[M,V]`
  private int[] drawTokens(Tensor logits, List<Running> drawing) {
    List<TokenDraw> draws = drawing.stream().map(Running::draw).toList();
    int[] drawn = model.ops().drawTokens(logits, draws);
    if (drawn != null) {
      return drawn;
    }
    int[] ids = new int[draws.size()];
    MemorySegment all = logits.toHost().segment();
    for (int m = 0; m < ids.length; m++) {
      MemorySegment.copy(all, FLOAT, (long) m * row.length * Float.BYTES, row, 0, row.length);
      ids[m] = sampler.sample(row, draws.get(m));
    }
    return ids;
  }

  private static ReadoutRequest readouts(List<Running> drawing, int[] queries) {
    int[] wanted = new int[queries.length];
    int count = 0;
    for (int m = 0; m < queries.length; m++) {
      if (drawing.get(m).readsAttention()) {
        wanted[count++] = queries[m];
      }
    }
    return count == 0 ? ReadoutRequest.NONE : ReadoutRequest.of(Arrays.copyOf(wanted, count));
  }

  private static void readAttention(Running request, List<AttentionReadout> layers, int query) {
    for (int l = 0; l < layers.size(); l++) {
      Tensor position = layers.get(l).topPosition().toHost(); // [Q,H]
      Tensor weight = layers.get(l).topWeight().toHost(); // [Q,H]
      int heads = (int) position.dim(1);
      for (int h = 0; h < heads; h++) {
        long at = (long) query * heads + h;
        request.saw(l, h, position.getInt(at), weight.get(at));
      }
    }
  }

  /// Holds completions back until all earlier ones are through.
  private static Consumer<Completion> inOrder(Consumer<Completion> sink) {
    Map<Integer, Completion> early = new HashMap<>();
    int[] next = {0};
    return completion -> {
      early.put(completion.index(), completion);
      while (early.containsKey(next[0])) {
        sink.accept(early.remove(next[0]++));
      }
    };
  }

  private void check(int index, GenerationRequest request) {
    ModelConfig config = model.config();
    if (request.positions() > config.maxPositions()) {
      throw new IllegalArgumentException(
          "request %d: a prompt of %d tokens and %d new ones need %d positions, the model has %d; shorten the prompt or ask for fewer new tokens"
              .formatted(
                  index,
                  request.prompt().length,
                  request.maxNewTokens(),
                  request.positions(),
                  config.maxPositions()));
    }
    for (int t = 0; t < request.prompt().length; t++) {
      int id = request.prompt()[t];
      if (id < 0 || id >= config.vocabSize()) {
        throw new IllegalArgumentException(
            "request %d: token id %d at %d of the prompt, want 0 to %d"
                .formatted(index, id, t, config.vocabSize() - 1));
      }
    }
    if (request.mask().layers() != config.layerCount()
        || request.mask().heads() != config.heads()) {
      throw new IllegalArgumentException(
          "request %d: mask of %d layers x %d heads, model has %d x %d"
              .formatted(
                  index,
                  request.mask().layers(),
                  request.mask().heads(),
                  config.layerCount(),
                  config.heads()));
    }
  }

  /// A cache of as many slots as memory allows, up to `maxRows`; the last one when it still serves.
  private KvCache cacheFor(int maxRows, int maxPositions) {
    int capacity = MemoryPlan.capacity(maxPositions);
    int rows = rowsWithin(Math.min(maxRows, Integer.MAX_VALUE / capacity), maxPositions);
    if (rows < 1) {
      throw tooLong(maxPositions);
    }
    KvCache old = cache;
    if (old != null && old.slots() >= rows && old.capacity() >= capacity) {
      return old;
    }
    if (old != null) {
      old.close();
      cache = null;
    }
    KvCache fresh = new KvCache(model, rows, capacity);
    cache = fresh;
    return fresh;
  }

  /// How many rows the memory holds, up to `maxRows`.
  private int rowsWithin(int maxRows, int maxPositions) {
    int rows = maxRows;
    while (rows > 0 && plan(rows, maxPositions).total() > memoryBytes) {
      rows--;
    }
    return rows;
  }

  private MemoryPlan plan(int rows, int positions) {
    return MemoryPlan.of(model, rows, positions, options.prefillTokens());
  }

  private IllegalArgumentException tooLong(int positions) {
    int fits = MemoryPlan.positionsWithin(memoryBytes, model, options.prefillTokens());
    return new IllegalArgumentException(
        "a context of %d tokens needs %s; %s may be used, %s are free; %s"
            .formatted(
                positions,
                plan(1, positions),
                FreeMemory.text(memoryBytes),
                FreeMemory.text(model.ops().freeBytes()),
                fits == 0
                    ? "that holds no context at all"
                    : "a context of %d tokens would fit".formatted(fits)));
  }

  /// Frees caches and activations.
  @Override
  public void close() {
    step.close();
    if (cache != null) {
      cache.close();
    }
  }
}
