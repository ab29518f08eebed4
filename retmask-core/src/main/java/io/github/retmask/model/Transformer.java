package io.github.retmask.model;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/// A decoder-only transformer: embedding, layers, final norm, lm_head. Which heads are on is an
/// argument of every call, per row; the weights are never edited.
///
/// A row's result does not depend on the other rows, on the number of threads, or on how its tokens
/// were cut into calls. Not thread-safe: use one per thread; they may share [#weights], so that what the
/// backend copied is there once.
public final class Transformer implements AutoCloseable {
  private final ModelConfig config;
  private final Weights weights;
  private final Ops ops;
  private final List<DecoderLayer> layers = new ArrayList<>();
  private final Map<RopeSpec, RopeTable> ropes = new HashMap<>();
  private final DType activations;
  private final TensorArena weightMemory; // of the backend's copies
  private TensorArena ropeMemory;
  private int ropePositions;

  /// A transformer over weights that outlive it, with the activations that the backend has for their
  /// type.
  public Transformer(ModelConfig config, Weights weights, Ops ops) {
    this(
        config,
        weights,
        ops,
        ops.activations(weights.layers().getFirst().qProj().weight().dtype()));
  }

  /// @param weights outlive it
  /// @param activations F32, or BF16 where [Ops#activations] of BF16 is: a product then rounds a weight
  ///   of another type to BF16 on every call, to the bits of one that is stored rounded
  public Transformer(ModelConfig config, Weights weights, Ops ops, DType activations) {
    if (activations != ops.activations(activations)) {
      throw new IllegalArgumentException(
          "transformer: activations of %s, which the backend %s does not have"
              .formatted(activations, ops.backend()));
    }
    this.config = config;
    this.ops = ops;
    this.ropeMemory = ops.arena(TensorArena.Lifetime.MODEL);
    this.weightMemory = ops.arena(TensorArena.Lifetime.MODEL);
    this.weights = placed(weights);
    this.activations = activations;
    for (int l = 0; l < config.layerCount(); l++) {
      layers.add(new DecoderLayer(l, config, config.layers().get(l), this.weights.layers().get(l)));
    }
  }

  /// On a full device nothing of them stays behind.
  private Weights placed(Weights given) {
    try {
      return given.map(weight -> ops.place(weight, weightMemory));
    } catch (Throwable failure) {
      weightMemory.close();
      throw failure;
    }
  }

  public ModelConfig config() {
    return config;
  }

  /// The weights as the backend reads them: those given, or its copies.
  public Weights weights() {
    return weights;
  }

  public Ops ops() {
    return ops;
  }

  /// Type of the activations and their gradients; statistics, logits and gradients of weights are F32
  /// whatever it is.
  public DType activations() {
    return activations;
  }

  /// A tensor of [#activations], all zero.
  public Tensor activation(TensorArena arena, String name, long... dims) {
    return arena.allocate(name, activations, dims);
  }

  List<DecoderLayer> layers() {
    return layers;
  }

  /// The neutral mask of this model.
  public HeadMask noMask() {
    return HeadMask.none(config.layerCount(), config.heads());
  }

  /// Final hidden states of whole sequences or, with a cache, of their continuations.
  ///
  /// @param cache appended to; null for whole sequences
  /// @param keep [Keep#RESULT] unless [#backward] follows, which needs a null cache
  /// @param readouts tokens whose attention is reported in [Activations#readouts]; heads that a
  ///   mask turned off then still attend, so that their pattern can be seen
  /// @param step memory of the result
  /// @throws IllegalArgumentException on a mask of another model, an id outside the vocabulary, or
  ///   a batch that does not fit the cache
  public Activations forward(
      Batch batch,
      @Nullable KvCache cache,
      Keep keep,
      ReadoutRequest readouts,
      TensorArena step,
      Observer observer) {
    checkBatch(batch, cache, keep);
    checkPrefixes(batch, cache);
    boolean shares = SharedKeys.needs(batch);
    BatchLayout layout = shares ? SharedKeys.layout(batch) : layout(batch, cache);
    SharedKeys shared = shares ? SharedKeys.allocate(this, batch, layout, step) : null;
    int n = layout.tokens();
    Tensor ids = step.ints("ids", allIds(batch, n)); // [N]
    Tensor positions = step.ints("positions", layout.positions()); // [N]
    Tensor cacheRows = cache == null ? null : step.ints("cache_rows", layout.keyRows()); // [N]
    ensureRope(layout);
    Map<RopeSpec, Rotation> rotations = rotationsInContext(layout, prompts(batch, cache), step);

    boolean keepGatedOff = keep == Keep.FOR_GATE_GRADIENTS || readouts.tokens().length > 0;
    List<HeadMask> masks = effectiveMasks(batch);
    List<LayerActivations> kept = new ArrayList<>();
    List<AttentionReadout> reported = new ArrayList<>();

    Tensor resid = activation(step, "resid", n, config.hiddenSize()); // [N,C]
    List<Tensor> resids = new ArrayList<>(List.of(resid));
    ops.embedding(resid, ids, weights.embedTokens());
    observer.saw(Site.EMBED, 0, resid);
    for (DecoderLayer layer : layers) {
      int l = layer.index();
      HeadPlan plan = HeadPlan.of(masks, l, config.headDim(), keepGatedOff);
      LayerActivations a = buffers(kept, layer.spec(), keep, plan, n, step);
      AttentionReadout readout = null;
      if (readouts.tokens().length > 0) {
        readout = AttentionReadout.of(step, config.heads(), readouts.tokens(), readouts.spans());
        reported.add(readout);
      }
      CacheLines lines =
          cache == null || cacheRows == null
              ? null
              : new CacheLines(cache.keys(l), cache.values(l), cacheRows);
      Rotation rotation = rotation(layer, positions, rotations);
      Tensor post = keep == Keep.RESULT ? resid : activation(step, "resid", n, config.hiddenSize());
      layer.forward(post, a, resid, rotation, layout, plan, lines, shared, readout, ops, observer);
      resid = post;
      resids.add(post);
      kept.add(a);
    }
    Tensor hidden = activation(step, "hidden", n, config.hiddenSize()); // [N,C]
    Tensor rstd = step.floats("rstd", n);
    ops.rmsNorm(hidden, rstd, resid, weights.norm(), config.normEps());
    return new Activations(
        ids,
        positions,
        rotations,
        masks,
        keepGatedOff,
        kept,
        resids,
        rstd,
        hidden,
        keep,
        shared,
        layout,
        reported);
  }

  /// Room for what the next layer computes.
  private LayerActivations buffers(
      List<LayerActivations> earlier,
      LayerSpec spec,
      Keep keep,
      HeadPlan plan,
      int tokens,
      TensorArena step) {
    LayerActivations other = ofSameKind(earlier, spec);
    return switch (keep) {
      case FOR_BACKWARD, FOR_GATE_GRADIENTS ->
          LayerActivations.allocate(this, spec, tokens, plan.isGated(), other, step);
      // the backward may find a layer gated where others are not
      case RESULT, LAYER_INPUTS ->
          other != null
              ? other
              : LayerActivations.allocate(
                  this, spec, tokens, keep == Keep.LAYER_INPUTS, null, step);
    };
  }

  /// The buffers of an earlier layer that needs the same ones, or null.
  private @Nullable LayerActivations ofSameKind(List<LayerActivations> earlier, LayerSpec spec) {
    for (int l = 0; l < earlier.size(); l++) {
      LayerSpec other = config.layers().get(l);
      if (other.norms() == spec.norms() && other.qkNorm() == spec.qkNorm()) {
        return earlier.get(l);
      }
    }
    return null;
  }

  /// Whole sequences, nothing kept, nothing watched.
  public Activations forward(Batch batch, TensorArena step) {
    return forward(batch, null, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
  }

  /// Final hidden states of chosen tokens: the bits of [#forward] for less work. Rows of the same
  /// tokens are computed as one up to the layer in which their masks part, unless read-outs are
  /// asked for, and in the last layer tokens that were not chosen yield only their keys and values.
  ///
  /// @param cache appended to for all tokens; null for whole sequences
  /// @param readouts as in [#forward]
  /// @param step memory of the result
  /// @param tokens packed token indices, `[M]`; may be none
  /// @throws IllegalArgumentException as [#forward] does
  public TokenStates states(
      Batch batch,
      @Nullable KvCache cache,
      ReadoutRequest readouts,
      TensorArena step,
      int... tokens) {
    checkBatch(batch, cache, Keep.RESULT);
    if (SharedKeys.needs(batch)) {
      throw new IllegalArgumentException("states: rows with prefixes; want whole ones");
    }
    BatchLayout layout = layout(batch, cache);
    return new SharedBatch(batch, cache, layout, prompts(batch, cache), effectiveMasks(batch))
        .states(this, readouts, step, tokens);
  }

  /// Gradients of everything from the gradient of the final hidden states.
  ///
  /// @param grads added to, F32; lm_head's own gradient is the loss's part
  /// @param dGates per layer `[B,H]`, added to; needs [Keep#FOR_GATE_GRADIENTS] or
  ///   [Keep#LAYER_INPUTS]; or null
  /// @param dHidden `[N,C]`; overwritten
  /// @param a from a forward that kept what this needs
  public void backward(
      Weights grads,
      @Nullable List<Tensor> dGates,
      Tensor dHidden,
      Activations a,
      TensorArena step) {
    backward(grads, dGates, dHidden, a, step, _ -> {});
  }

  /// The same, with word of every part of `grads` to which nothing more is added: the final norm, the
  /// layers from the last to the first, the embedding. Nothing reads the weights of that part any more
  /// either, so both may be overwritten at once.
  public void backward(
      Weights grads,
      @Nullable List<Tensor> dGates,
      Tensor dHidden,
      Activations a,
      TensorArena step,
      Consumer<Weights.Part> complete) {
    if (a.keep == Keep.RESULT || (dGates != null && a.keep == Keep.FOR_BACKWARD)) {
      throw new IllegalArgumentException("backward: the forward kept " + a.keep);
    }
    BatchLayout layout = a.layout();
    boolean recompute = a.keep == Keep.LAYER_INPUTS;
    boolean keepGatedOff = recompute ? dGates != null : a.keptGatedOff;
    LayerGradients buffers = LayerGradients.allocate(this, layout.tokens(), a.shared, step);
    Tensor last = a.resids.getLast(); // [N,C]
    Tensor d = activation(step, "d_resid", layout.tokens(), config.hiddenSize()); // [N,C]
    ops.rmsNormBackward(d, grads.norm(), dHidden, last, a.rstd, weights.norm(), Accumulate.SET);
    complete.accept(Weights.Part.NORM);
    for (int l = layers.size() - 1; l >= 0; l--) {
      DecoderLayer layer = layers.get(l);
      LayerActivations kept = a.layers.get(l);
      Tensor residPre = a.resids.get(l);
      HeadPlan plan = HeadPlan.of(a.masks, l, config.headDim(), keepGatedOff);
      Rotation rotation = rotation(layer, a.positions, a.rotations);
      if (recompute) {
        layer.recompute(a.resids.get(l + 1), kept, residPre, rotation, layout, plan, a.shared, ops);
      } else {
        layer.restore(kept, residPre, a.shared, ops);
      }
      layer.backward(
          d,
          grads.layers().get(l),
          dGates == null ? null : dGates.get(l),
          buffers,
          kept,
          residPre,
          rotation,
          layout,
          plan,
          a.shared,
          ops);
      complete.accept(Weights.Part.layer(l));
    }
    ops.embeddingBackward(grads.embedTokens(), d, a.ids);
    complete.accept(Weights.Part.EMBED_TOKENS);
  }

  /// Logits of chosen tokens, `[M,V]`.
  ///
  /// @param tokens packed token indices, `[M]`
  public Tensor logits(Activations a, TensorArena step, int... tokens) {
    Tensor rows = activation(step, "hidden_rows", tokens.length, config.hiddenSize());
    ops.gatherRows(rows, a.hidden(), step.ints("tokens", tokens));
    return logits(rows, step);
  }

  /// Logits of final hidden states, `[M,V]`.
  ///
  /// @param hidden `[M,C]`
  public Tensor logits(Tensor hidden, TensorArena step) {
    Tensor logits = step.floats("logits", hidden.dim(0), config.vocabSize());
    ops.matmul(logits, hidden, weights.lmHead(), null);
    return logits;
  }

  void checkBatch(Batch batch, @Nullable KvCache cache, Keep keep) {
    if (cache != null && keep != Keep.RESULT) {
      throw new IllegalArgumentException(
          "forward: cannot keep " + keep + " with a cache; pass whole sequences");
    }
    for (int r = 0; r < batch.rows().size(); r++) {
      Batch.Row row = batch.rows().get(r);
      HeadMask mask = row.mask();
      if (mask.layers() != config.layerCount() || mask.heads() != config.heads()) {
        throw new IllegalArgumentException(
            "row %d: mask of %d layers x %d heads, model has %d x %d"
                .formatted(r, mask.layers(), mask.heads(), config.layerCount(), config.heads()));
      }
      for (int t = 0; t < row.ids().length; t++) {
        if (row.ids()[t] < 0 || row.ids()[t] >= config.vocabSize()) {
          throw new IllegalArgumentException(
              "row %d: token id %d at %d, want 0 to %d"
                  .formatted(r, row.ids()[t], t, config.vocabSize() - 1));
        }
      }
    }
  }

  private void checkPrefixes(Batch batch, @Nullable KvCache cache) {
    for (int r = 0; r < batch.rows().size(); r++) {
      Batch.Row row = batch.rows().get(r);
      Batch.Prefix prefix = row.prefix();
      if (prefix.equals(Batch.Prefix.NONE)) {
        continue;
      }
      Batch.Row of = prefix.row() >= 0 && prefix.row() < r ? batch.rows().get(prefix.row()) : null;
      if (cache != null
          || of == null
          || prefix.tokens() < 1
          || prefix.tokens() > of.ids().length
          || !of.prefix().equals(Batch.Prefix.NONE)
          || !of.mask().equals(row.mask())
          || of.phase() != row.phase()) {
        throw new IllegalArgumentException(
            "row %d begins with %d tokens of row %d: want at least one of an earlier row that has as many, the same mask and phase, no prefix of its own, and no cache"
                .formatted(r, prefix.tokens(), prefix.row()));
      }
      int context = prompt(of);
      int own = prompt(row);
      if (!config.rotatesAlike(context, own)) {
        throw new IllegalArgumentException(
            "row %d begins with tokens of row %d, which this model rotates otherwise in a context of %d than in one of %d"
                .formatted(r, prefix.row(), own, context));
      }
    }
  }

  /// A decode-only mask leaves prefill rows intact.
  HeadMask inPrefill(HeadMask mask) {
    return mask.phase() == MaskPhase.DECODE_ONLY ? noMask() : mask;
  }

  private List<HeadMask> effectiveMasks(Batch batch) {
    return batch.rows().stream()
        .map(row -> row.phase() == Batch.Phase.PREFILL ? inPrefill(row.mask()) : row.mask())
        .toList();
  }

  private static BatchLayout layout(Batch batch, @Nullable KvCache cache) {
    return cache == null
        ? BatchLayout.packed(batch.rows().stream().mapToInt(row -> row.ids().length).toArray())
        : cache.append(batch);
  }

  private static int[] allIds(Batch batch, int n) {
    int[] ids = new int[n];
    int at = 0;
    for (Batch.Row row : batch.rows()) {
      System.arraycopy(row.ids(), 0, ids, at, row.ids().length);
      at += row.ids().length;
    }
    return ids;
  }

  /// Tokens of every row's prompt.
  private static int[] prompts(Batch batch, @Nullable KvCache cache) {
    return batch.rows().stream()
        .mapToInt(
            row -> {
              if (cache != null) {
                return cache.promptLength(row.slot());
              }
              return prompt(row);
            })
        .toArray();
  }

  /// Tokens of the prompt of a whole sequence.
  private static int prompt(Batch.Row row) {
    return row.promptLength() > 0 ? row.promptLength() : row.prefix().tokens() + row.ids().length;
  }

  /// Rotations of those layers where they depend on the context: computed for the tokens at hand.
  Map<RopeSpec, Rotation> rotationsInContext(BatchLayout layout, int[] prompts, TensorArena step) {
    Map<RopeSpec, Rotation> rotations = new HashMap<>();
    for (DecoderLayer layer : layers) {
      RopeSpec spec = layer.spec().rope();
      if (spec.dependsOnContext() && !rotations.containsKey(spec)) {
        int[] positions = layout.positions();
        RopeTable table =
            RopeTable.byToken(spec, positions, contexts(spec, layout, positions, prompts), step);
        int[] rows = new int[positions.length];
        Arrays.setAll(rows, n -> n);
        rotations.put(spec, new Rotation(table.cos(), table.sin(), step.ints("rope_rows", rows)));
      }
    }
    return rotations;
  }

  /// Context of every token, `[N]`: its prompt or, beyond that, the sequence up to it. Where a
  /// longer context rotates all keys anew, that of a row's last token holds for the row.
  private static int[] contexts(RopeSpec spec, BatchLayout layout, int[] positions, int[] prompts) {
    int[] contexts = new int[positions.length];
    for (int r = 0; r < layout.rows(); r++) {
      int whole = Math.max(layout.keys(r), prompts[r]);
      boolean together = !spec.keepsKeys(prompts[r], whole);
      for (int n = layout.tokenStart(r); n < layout.tokenStart(r + 1); n++) {
        contexts[n] = together ? whole : Math.max(positions[n] + 1, prompts[r]);
      }
    }
    return contexts;
  }

  Rotation rotation(DecoderLayer layer, Tensor positions, Map<RopeSpec, Rotation> inContext) {
    RopeSpec spec = layer.spec().rope();
    if (spec.dependsOnContext()) {
      return inContext.get(spec);
    }
    RopeTable table = ropes.get(spec);
    return new Rotation(table.cos(), table.sin(), positions);
  }

  /// Grows the rope tables to the longest row, by doubling.
  void ensureRope(BatchLayout layout) {
    int longest = 0;
    for (int r = 0; r < layout.rows(); r++) {
      longest = Math.max(longest, layout.keys(r));
    }
    if (longest <= ropePositions) {
      return;
    }
    ropePositions =
        Math.max(Math.max(longest, 256), Math.min(2 * ropePositions, config.maxPositions()));
    ropeMemory.close();
    ropeMemory = ops.arena(TensorArena.Lifetime.MODEL);
    ropes.clear();
    for (DecoderLayer layer : layers) {
      if (!layer.spec().rope().dependsOnContext()) {
        ropes.computeIfAbsent(
            layer.spec().rope(), spec -> RopeTable.byPosition(spec, ropePositions, ropeMemory));
      }
    }
  }

  /// Frees the rope tables and copies of weights. The weights given belong to whoever loaded them.
  @Override
  public void close() {
    ropeMemory.close();
    weightMemory.close();
  }
}
