package io.github.retmask.model;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;
import java.util.function.ToIntFunction;
import org.jspecify.annotations.Nullable;

/// A forward that computes once what several rows have in common, and of the last layer only what
/// chosen tokens need.
///
/// Rows of the same tokens are one **strand** as long as their masks agree. In the layer where they
/// part they still share norm, projections and rope, and attention too where only gates differ, for
/// a gate acts on its result. A row's numbers do not depend on what runs beside it, so this changes
/// no bit.
///
/// Where strands come to more tokens than a limit they go on in groups, one after the other, each
/// to the last layer; the others wait with their layer's input, queries, keys and head outputs.
/// Of every strand that parts, the part of most rows goes last, when nothing waits for it any more:
/// so no more than log2(rows) layers wait at a time.
final class SharedForward {
  private final Transformer model;
  private final ModelConfig config;
  private final Ops ops;
  private final List<Sequence> sequences;
  private final List<HeadMask> masks; // per row, as they hold for these tokens
  private final @Nullable Slots slots;
  private final int limit;
  private final Sink sink;
  private final TensorArena step;
  private final BatchLayout base; // the sequences, packed
  private final Map<RopeSpec, Rotation> inContext;
  private final int capacity; // tokens of a frame
  private final List<Frame> frames = new ArrayList<>(); // by number of layers that wait
  private @Nullable Places places; // of the latest strands

  /// New tokens that several rows share.
  ///
  /// @param ids token ids
  /// @param past tokens before them in the cache
  /// @param prompt tokens of the prompt, see [RopeSpec]
  /// @param rows numbers of the rows
  /// @param chosen tokens whose final states are wanted, ascending, counted from the first of `ids`
  record Sequence(int[] ids, int past, int prompt, int[] rows, int[] chosen) {}

  /// Where rows keep their keys and values.
  ///
  /// @param start per row, the cache row of its position 0
  record Slots(KvCache cache, IntUnaryOperator start) {}

  /// Consecutive tokens of a sequence, computed once for several rows.
  ///
  /// @param sequence index of the sequence
  /// @param rows whose masks agree so far
  /// @param from first token, counted from the first of the sequence's ids
  /// @param length number of tokens
  /// @param source where the first token lies in the tensors of the strand that this one comes from
  /// @param keyStart where position 0 lies in the keys and values of the layer
  record Strand(int sequence, int[] rows, int from, int length, int source, int keyStart) {}

  /// Takes final states.
  interface Sink {
    /// Called once or, with a limit, several times; together the strands cover the chosen tokens of
    /// every row once.
    ///
    /// @param strands whose tokens lie in `hidden` one after the other
    /// @param hidden `[M,C]`; valid during the call
    void took(List<Strand> strands, Tensor hidden);
  }

  /// Buffers of one group of strands.
  ///
  /// @param layers by the first layer that needs alike ones
  /// @param resid `[N,C]` residual stream between layers
  /// @param narrowed `[N,C]` residual stream of chosen tokens
  /// @param parted `[N,C]` residual stream of strands that just parted
  private record Frame(
      Map<Integer, LayerActivations> layers, Tensor resid, Tensor narrowed, Tensor parted) {}

  /// Heads at work in one layer: strands that ask, and what is there to answer them.
  ///
  /// @param a holds queries and, unless only kinds of heads part the strands, head outputs
  /// @param resid `[N,C]` input of the layer
  /// @param layout of the strands
  /// @param plan of the strands
  /// @param parting how the strands part behind their heads
  private record Heads(
      LayerActivations a,
      Tensor resid,
      Tensor keys,
      Tensor values,
      BatchLayout layout,
      HeadPlan plan,
      Parting parting) {}

  /// How strands part in a layer.
  private enum Parting {
    NONE,
    /// Only gates differ: head outputs are shared.
    BY_GATES,
    /// Heads compute differently: queries, keys and values are shared.
    BY_KINDS
  }

  /// @param masks per row
  /// @param limit tokens that are computed at a time, at least those of all sequences
  SharedForward(
      Transformer model,
      List<Sequence> sequences,
      List<HeadMask> masks,
      @Nullable Slots slots,
      int limit,
      Sink sink,
      TensorArena step) {
    this.model = model;
    this.config = model.config();
    this.ops = model.ops();
    this.sequences = sequences;
    this.masks = masks;
    this.slots = slots;
    this.limit = limit;
    this.sink = sink;
    this.step = step;
    int[] lengths = sequences.stream().mapToInt(s -> s.ids().length).toArray();
    int[] pasts = sequences.stream().mapToInt(Sequence::past).toArray();
    int[] prompts = sequences.stream().mapToInt(Sequence::prompt).toArray();
    this.base = BatchLayout.cached(lengths, pasts, new int[lengths.length]);
    model.ensureRope(base);
    this.inContext = model.rotationsInContext(base, prompts, step);
    this.capacity = (int) Math.min(limit, mostTokens());
  }

  /// Runs all layers.
  ///
  /// @param request packed tokens of the sequences, all of them chosen; with any, every sequence is
  ///   of one row
  /// @return one read-out per layer when the request has tokens
  List<AttentionReadout> run(ReadoutRequest request) {
    int[] ids = sequences.stream().flatMapToInt(s -> Arrays.stream(s.ids())).toArray();
    Tensor embedded = frame(0).resid().slice(0, ids.length); // [N,C]
    ops.embedding(embedded, step.ints("ids", ids), model.weights().embedTokens());
    List<AttentionReadout> readouts = new ArrayList<>();
    layers(0, 0, whole(), embedded, request, readouts);
    return readouts;
  }

  /// Takes strands through the layers from `first` on.
  ///
  /// @param depth number of layers that wait
  /// @param residPre `[N,C]`
  private void layers(
      int depth,
      int first,
      List<Strand> group,
      Tensor residPre,
      ReadoutRequest request,
      List<AttentionReadout> readouts) {
    List<Strand> strands = group;
    Tensor resid = residPre;
    for (int l = first; l < config.layerCount(); l++) {
      DecoderLayer layer = model.layers().get(l);
      strands = entering(strands);
      LayerActivations a = buffers(depth, l).first(tokens(strands));
      Tensor attnIn = layer.attentionInput(a, resid, ops); // [N,C]
      CacheLines lines = lines(strands, l);
      layer.keysAndValues(a, attnIn, rotation(layer, strands), lines, ops, Observer.NONE);
      Tensor keys = lines == null ? a.rotK() : lines.keys(); // [keys,Hkv,D]
      Tensor values = lines == null ? a.v() : lines.values(); // [keys,Hkv,D]
      if (lines != null && slots != null) {
        share(keys, a.rotK(), strands, slots);
        share(values, a.v(), strands, slots);
      }
      int[] queries = request.tokens();
      if (l == config.layerCount() - 1) {
        List<Strand> chosen = chosen(strands);
        if (chosen.isEmpty()) {
          return;
        }
        if (tokens(chosen) < tokens(strands)) {
          queries = moved(queries, chosen);
          resid = gathered(frame(depth).narrowed(), resid, chosen); // [M,C]
          a = buffers(depth, l).first(tokens(chosen));
          attnIn = layer.attentionInput(a, resid, ops);
          strands = chosen;
        }
      }
      layer.queries(a, attnIn, rotation(layer, strands), ops, Observer.NONE);
      List<Strand> parts = parted(strands, l);
      Parting parting = parting(strands, parts, l);
      HeadPlan plan = plan(strands, l, parting == Parting.BY_GATES || queries.length > 0);
      Heads heads = new Heads(a, resid, keys, values, layout(strands), plan, parting);
      if (parting != Parting.BY_KINDS) {
        AttentionReadout readout = null;
        if (queries.length > 0) {
          readout = AttentionReadout.of(step, config.heads(), queries, request.spans());
          readouts.add(readout);
        }
        attend(layer, a, a.rotQ(), heads, heads.layout(), plan, readout);
      }
      List<List<Strand>> groups = groups(parts);
      for (List<Strand> next : groups.subList(0, groups.size() - 1)) {
        Tensor out = afterHeads(layer, depth + 1, next, heads);
        layers(depth + 1, l + 1, next, out, ReadoutRequest.NONE, readouts);
      }
      strands = groups.getLast();
      resid = afterHeads(layer, depth, strands, heads);
    }
    int tokens = tokens(strands);
    Tensor hidden = frame(depth).narrowed().slice(0, tokens); // [M,C]
    Tensor rstd = step.floats("rstd", tokens);
    ops.rmsNorm(hidden, rstd, resid, model.weights().norm(), config.normEps());
    sink.took(strands, hidden);
  }

  /// The rest of a layer for strands that part in it, or for all when none does.
  private Tensor afterHeads(DecoderLayer layer, int depth, List<Strand> strands, Heads heads) {
    int l = layer.index();
    LayerActivations a = buffers(depth, l).first(tokens(strands));
    BatchLayout layout = heads.layout();
    HeadPlan plan = heads.plan();
    Tensor resid = heads.resid();
    Tensor z = heads.a().z(); // [N,H,D]
    if (heads.parting() != Parting.NONE) {
      layout = layout(strands);
      plan = plan(strands, l, heads.parting() == Parting.BY_GATES);
      resid = gathered(frame(depth).parted(), heads.resid(), strands);
      z = a.gatedZ();
      if (heads.parting() == Parting.BY_GATES) {
        ops.gatherRows(z, heads.a().z(), sources(strands));
      } else {
        Tensor q = a.gatedZ(); // [N,H,D], until the gates need it
        ops.gatherRows(q, heads.a().rotQ(), sources(strands));
        attend(layer, a, q, heads, layout, plan, null);
        z = a.z();
      }
    }
    if (plan.isGated()) {
      ops.headGate(a.gatedZ(), z, layout, plan);
      z = a.gatedZ();
    }
    Tensor residPost = frame(depth).resid().slice(0, tokens(strands)); // [N,C]
    layer.afterHeads(residPost, a, resid, z, ops, Observer.NONE);
    return residPost;
  }

  private void attend(
      DecoderLayer layer,
      LayerActivations a,
      Tensor q,
      Heads heads,
      BatchLayout layout,
      HeadPlan plan,
      @Nullable AttentionReadout readout) {
    ops.attention(
        a.z(),
        a.lse(),
        q,
        heads.keys(),
        heads.values(),
        layout,
        plan,
        layer.spec().attention(),
        readout);
  }

  /// Where the keys and values of a layer go in the slot of every strand's first row.
  private @Nullable CacheLines lines(List<Strand> strands, int l) {
    if (slots == null) {
      return null;
    }
    KvCache cache = slots.cache();
    return new CacheLines(cache.keys(l), cache.values(l), places(strands).cacheRows());
  }

  /// Writes the keys or values of strands to the slots of their other rows.
  private void share(Tensor cached, Tensor fresh, List<Strand> strands, Slots to) {
    for (Strand strand : strands) {
      Tensor own = fresh.slice(strand.source(), strand.source() + strand.length());
      for (int i = 1; i < strand.rows().length; i++) {
        int[] rows = new int[strand.length()];
        int start = to.start().applyAsInt(strand.rows()[i]) + past(strand);
        Arrays.setAll(rows, t -> start + t);
        ops.scatterRows(cached, own, step.ints("cache_rows", rows));
      }
    }
  }

  // --- strands --------------------------------------------------------------------------------

  private List<Strand> whole() {
    List<Strand> all = new ArrayList<>();
    for (int s = 0; s < sequences.size(); s++) {
      Sequence sequence = sequences.get(s);
      all.add(new Strand(s, sequence.rows(), 0, sequence.ids().length, 0, 0));
    }
    return all;
  }

  /// The same strands, packed as they enter a layer; the same list where nothing changed.
  private List<Strand> entering(List<Strand> strands) {
    List<Strand> packed = new ArrayList<>(strands.size());
    int at = 0;
    for (Strand s : strands) {
      int keyStart = slots == null ? at : slots.start().applyAsInt(s.rows()[0]);
      packed.add(new Strand(s.sequence(), s.rows(), s.from(), s.length(), at, keyStart));
      at += s.length();
    }
    Places before = places;
    return before != null && packed.equals(before.strands) ? before.strands : packed;
  }

  /// The runs of chosen tokens within whole strands.
  private List<Strand> chosen(List<Strand> strands) {
    List<Strand> runs = new ArrayList<>();
    for (Strand s : strands) {
      int[] tokens = sequences.get(s.sequence()).chosen();
      for (int i = 0, next; i < tokens.length; i = next) {
        next = i + 1;
        while (next < tokens.length && tokens[next] == tokens[next - 1] + 1) {
          next++;
        }
        int from = tokens[i];
        runs.add(
            new Strand(s.sequence(), s.rows(), from, next - i, s.source() + from, s.keyStart()));
      }
    }
    return runs;
  }

  /// A strand for every set of rows whose masks agree in layer `l` too.
  private List<Strand> parted(List<Strand> strands, int l) {
    List<Strand> parts = new ArrayList<>(strands.size());
    int at = 0;
    for (Strand s : strands) {
      for (int[] rows : agreeing(s.rows(), l)) {
        parts.add(new Strand(s.sequence(), rows, s.from(), s.length(), at, s.keyStart()));
      }
      at += s.length();
    }
    return parts;
  }

  private List<int[]> agreeing(int[] rows, int l) {
    if (rows.length == 1) {
      return List.of(rows);
    }
    List<int[]> sets = new ArrayList<>();
    boolean[] placed = new boolean[rows.length];
    for (int i = 0; i < rows.length; i++) {
      if (!placed[i]) {
        int[] set = new int[rows.length];
        int count = 0;
        HeadMask mask = masks.get(rows[i]);
        for (int j = i; j < rows.length; j++) {
          HeadMask other = masks.get(rows[j]);
          if (!placed[j] && mask.sameGates(other, l) && mask.sameKinds(other, l)) {
            placed[j] = true;
            set[count++] = rows[j];
          }
        }
        sets.add(Arrays.copyOf(set, count));
      }
    }
    return sets;
  }

  private Parting parting(List<Strand> strands, List<Strand> parts, int l) {
    if (parts.size() == strands.size()) {
      return Parting.NONE;
    }
    for (Strand s : strands) {
      HeadMask mask = masks.get(s.rows()[0]);
      for (int row : s.rows()) {
        if (!mask.sameKinds(masks.get(row), l)) {
          return Parting.BY_KINDS;
        }
      }
    }
    return Parting.BY_GATES;
  }

  /// Strands in groups of at most `limit` tokens. Of every strand that parted, the part of most rows
  /// is in the last group: those of before the parting had no more tokens.
  private List<List<Strand>> groups(List<Strand> strands) {
    if (count(strands) <= limit) {
      return List.of(strands);
    }
    Map<Integer, Strand> heirs = new HashMap<>(); // by source
    for (Strand s : strands) {
      heirs.merge(s.source(), s, (a, b) -> b.rows().length > a.rows().length ? b : a);
    }
    List<Strand> heirsLast = new ArrayList<>(strands);
    heirsLast.sort(Comparator.comparing(s -> heirs.get(s.source()) == s));
    List<List<Strand>> groups = new ArrayList<>();
    long tokens = limit;
    for (Strand s : heirsLast.reversed()) {
      tokens += s.length();
      if (tokens > limit) {
        groups.addFirst(new ArrayList<>());
        tokens = s.length();
      }
      groups.getFirst().add(s);
    }
    return groups;
  }

  /// The most tokens that would be computed at a time without a limit.
  private long mostTokens() {
    List<Strand> strands = whole();
    long most = count(strands);
    for (int l = 0; l < config.layerCount() && most < limit; l++) {
      strands = parted(l == config.layerCount() - 1 ? chosen(strands) : strands, l);
      most = Math.max(most, count(strands));
    }
    return most;
  }

  // --- what kernels need to know of strands ---------------------------------------------------

  private static long count(List<Strand> strands) {
    return strands.stream().mapToLong(Strand::length).sum();
  }

  private static int tokens(List<Strand> strands) {
    return Math.toIntExact(count(strands));
  }

  /// Position of a strand's first token.
  private int past(Strand strand) {
    return base.past(strand.sequence()) + strand.from();
  }

  private BatchLayout layout(List<Strand> strands) {
    return places(strands).layout;
  }

  /// The latest strands' are kept: most layers have the same.
  private Places places(List<Strand> strands) {
    Places latest = places;
    if (latest == null || latest.strands != strands) {
      latest = new Places(strands);
      places = latest;
    }
    return latest;
  }

  /// Where the tokens of strands lie, copied to the backend when asked for.
  private final class Places {
    final List<Strand> strands;
    final BatchLayout layout;
    private @Nullable Tensor positions;
    private @Nullable Tensor baseTokens;
    private @Nullable Tensor cacheRows;

    Places(List<Strand> strands) {
      this.strands = strands;
      this.layout =
          BatchLayout.cached(
              strands.stream().mapToInt(Strand::length).toArray(),
              strands.stream().mapToInt(SharedForward.this::past).toArray(),
              strands.stream().mapToInt(Strand::keyStart).toArray());
    }

    /// Within their rows, `[N]`.
    Tensor positions() {
      if (positions == null) {
        positions = numbers(strands, SharedForward.this::past);
      }
      return positions;
    }

    /// Packed tokens of the sequences, `[N]`.
    Tensor baseTokens() {
      if (baseTokens == null) {
        baseTokens = numbers(strands, s -> base.tokenStart(s.sequence()) + s.from());
      }
      return baseTokens;
    }

    /// In the cache, `[N]`.
    Tensor cacheRows() {
      if (cacheRows == null) {
        cacheRows = step.ints("cache_rows", layout.keyRows());
      }
      return cacheRows;
    }
  }

  private HeadPlan plan(List<Strand> strands, int l, boolean keepGatedOff) {
    List<HeadMask> ofStrands = strands.stream().map(s -> masks.get(s.rows()[0])).toList();
    return HeadPlan.of(ofStrands, l, config.headDim(), keepGatedOff);
  }

  /// Every token counted on from a start per strand.
  private Tensor numbers(List<Strand> strands, ToIntFunction<Strand> start) {
    int[] numbers = new int[tokens(strands)];
    int at = 0;
    for (Strand s : strands) {
      int from = start.applyAsInt(s);
      for (int t = 0; t < s.length(); t++) {
        numbers[at++] = from + t;
      }
    }
    return step.ints("tokens", numbers);
  }

  private Tensor sources(List<Strand> strands) {
    return numbers(strands, Strand::source);
  }

  private Tensor gathered(Tensor buffer, Tensor from, List<Strand> strands) {
    Tensor out = buffer.slice(0, tokens(strands));
    ops.gatherRows(out, from, sources(strands));
    return out;
  }

  private Rotation rotation(DecoderLayer layer, List<Strand> strands) {
    Rotation ofBase = inContext.get(layer.spec().rope());
    if (ofBase == null) {
      return model.rotation(layer, places(strands).positions(), inContext);
    }
    return new Rotation(ofBase.cos(), ofBase.sin(), places(strands).baseTokens());
  }

  /// Packed tokens of the sequences as tokens of the chosen runs.
  private int[] moved(int[] tokens, List<Strand> chosen) {
    int[] moved = new int[tokens.length];
    int i = 0;
    int at = 0;
    for (Strand s : chosen) {
      int start = base.tokenStart(s.sequence()) + s.from();
      for (; i < tokens.length && tokens[i] < start + s.length(); i++) {
        moved[i] = at + tokens[i] - start;
      }
      at += s.length();
    }
    return moved;
  }

  // --- buffers --------------------------------------------------------------------------------

  private Frame frame(int depth) {
    if (depth == frames.size()) {
      frames.add(
          new Frame(
              new HashMap<>(),
              model.activation(step, "resid", capacity, config.hiddenSize()),
              model.activation(step, "narrowed", capacity, config.hiddenSize()),
              model.activation(step, "parted", capacity, config.hiddenSize())));
    }
    return frames.get(depth);
  }

  private LayerActivations buffers(int depth, int l) {
    LayerSpec spec = config.layers().get(l);
    int alike = 0;
    while (config.layers().get(alike).norms() != spec.norms()
        || config.layers().get(alike).qkNorm() != spec.qkNorm()) {
      alike++;
    }
    return frame(depth)
        .layers()
        .computeIfAbsent(
            alike, _ -> LayerActivations.allocate(model, spec, capacity, true, null, step));
  }
}
