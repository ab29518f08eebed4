package io.github.retmask.train;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.Ops;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// AdamW (Loshchilov and Hutter 2019) over all weights of a model, with clipping of the global
/// gradient norm. Gradients and both moments have the structure of the weights.
///
/// An update comes after all gradients are there, [#step], or part by part within the backward that
/// makes them, [#inBackward], to the same bits and with memory for the gradients of one part and of a
/// tied embedding.
///
/// Decoupled decay applies to matrices, the embedding among them, and spares norms and biases: the
/// rule of Hugging Face's Trainer.
public final class AdamW {
  /// Added to the norm before dividing by it, as torch's `clip_grad_norm_` does.
  private static final double CLIP_EPS = 1e-6;

  /// Gradient and both moments; with [#inBackward] less.
  static final int BYTES_PER_PARAMETER = 3 * Float.BYTES;

  private final Weights parameters;
  private final Weights stored; // what the model reads: the parameters, or matrices in BF16
  private final Weights firstMoments;
  private final Weights secondMoments;
  private final Options options;
  private final Ops ops;
  private final TensorArena arena;
  private @Nullable Weights gradients; // all of them
  private @Nullable Weights turns; // parts that take turns in the same memory

  /// @param beta1 decay of the first moment, in [0, 1)
  /// @param beta2 decay of the second moment, in [0, 1)
  /// @param eps added to the root of the second moment, > 0
  /// @param weightDecay decoupled decay of matrices, >= 0
  /// @param maxGradNorm gradients with a larger global norm are scaled down to it; > 0, infinity
  ///   for no clipping
  public record Options(
      double beta1, double beta2, double eps, double weightDecay, double maxGradNorm) {

    /// The values of the RetMask recipe.
    public static final Options RETMASK = new Options(0.9, 0.95, 1e-8, 0.1, 1.0);

    /// The largest norm as commands and recipes say it: 0 for no clipping, as with Hugging Face's Trainer.
    public static double maxGradNorm(double said) {
      return said == 0 ? Double.POSITIVE_INFINITY : said;
    }

    public Options {
      if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)
          || !(eps > 0 && eps < Double.POSITIVE_INFINITY)
          || !(weightDecay >= 0 && weightDecay < Double.POSITIVE_INFINITY)
          || !(maxGradNorm > 0)) {
        throw new IllegalArgumentException(
            "adamw: beta1 %s, beta2 %s, eps %s, weight decay %s, max gradient norm %s: want betas in [0, 1), eps > 0, decay >= 0, norm > 0"
                .formatted(beta1, beta2, eps, weightDecay, maxGradNorm));
      }
    }
  }

  /// An optimiser before its first step: moments and gradients are zero.
  ///
  /// @param parameters F32, changed in place
  /// @param arena memory of gradients and moments
  public AdamW(Weights parameters, Options options, Ops ops, TensorArena arena) {
    this(parameters, parameters, options, ops, arena);
  }

  /// The same for a model that reads its weights rounded.
  ///
  /// @param parameters F32, changed in place
  /// @param stored of each tensor itself, or one in BF16, which is overwritten
  /// @param arena memory of gradients and moments
  public AdamW(Weights parameters, Weights stored, Options options, Ops ops, TensorArena arena) {
    this.parameters = parameters;
    this.stored = stored;
    this.options = options;
    this.ops = ops;
    this.arena = arena;
    this.firstMoments = parameters.map(t -> zeros("exp_avg.", t));
    this.secondMoments = parameters.map(t -> zeros("exp_avg_sq.", t));
    if (options.maxGradNorm() < Double.POSITIVE_INFINITY) {
      var _ = gradients(); // always needed: memory that is short shows now
    }
  }

  private Tensor zeros(String prefix, Tensor like) {
    return arena.floats(prefix + like.name(), like.shape().dims());
  }

  /// What backward adds to; [#step] sets it back to zero. Without clipping they take their memory on
  /// the first call.
  public Weights gradients() {
    Weights all = gradients;
    if (all == null) {
      Tensor embedding =
          turns == null ? zeros("grad.", parameters.embedTokens()) : turns.embedTokens();
      all = parameters.map(t -> t == parameters.embedTokens() ? embedding : zeros("grad.", t));
      gradients = all;
    }
    return all;
  }

  /// Exponential average of the gradients, `m`.
  public Weights firstMoments() {
    return firstMoments;
  }

  /// Exponential average of their squares, `v`.
  public Weights secondMoments() {
    return secondMoments;
  }

  /// Norm of all gradients together. The order of its sum is fixed, so it has the same bits on any
  /// number of threads.
  public double gradientNorm() {
    return norm(ops.sumsOfSquares(gradients().tensors()));
  }

  private static double norm(double[] squares) {
    double sum = 0;
    for (double square : squares) { // not a stream's sum, which compensates
      sum += square;
    }
    return Math.sqrt(sum);
  }

  /// What all gradients are multiplied by so that their norm stays below the largest allowed one.
  static double clipFactor(double gradientNorm, double maxGradNorm) {
    return Math.min(1, maxGradNorm / (gradientNorm + CLIP_EPS));
  }

  /// One update of all parameters; afterwards the gradients are zero.
  ///
  /// @param step number of the update, from 1
  /// @param gradientNorm of the gradients as they are, see [#gradientNorm]
  public void step(long step, double learningRate, double gradientNorm) {
    double scale = clipFactor(gradientNorm, options.maxGradNorm());
    update(Weights::tensors, gradients(), step, learningRate, scale);
  }

  private void update(
      Weights.Part part, Weights grads, long step, double learningRate, double scale) {
    List<Tensor> ps = part.of(parameters);
    List<Tensor> ws = part.of(stored);
    List<Tensor> gs = part.of(grads);
    List<Tensor> ms = part.of(firstMoments);
    List<Tensor> vs = part.of(secondMoments);
    for (int i = 0; i < ps.size(); i++) {
      boolean matrix = ps.get(i).shape().rank() > 1; // norms and biases have rank 1
      AdamWStep scalars =
          new AdamWStep(
              step,
              learningRate,
              options.beta1(),
              options.beta2(),
              options.eps(),
              matrix ? options.weightDecay() : 0,
              scale);
      if (ws.get(i) == ps.get(i)) {
        ops.adamW(ps.get(i), gs.get(i), ms.get(i), vs.get(i), scalars);
      } else {
        ops.adamW(ws.get(i), ps.get(i), gs.get(i), ms.get(i), vs.get(i), scalars);
      }
      ops.zero(gs.get(i));
    }
  }

  /// Whether [#inBackward] can take the place of [#step] and saves memory: nothing is clipped, which
  /// takes the norm of all gradients first, and there is no memory for all of them yet.
  public boolean updatesInBackward() {
    return options.maxGradNorm() == Double.POSITIVE_INFINITY && gradients == null;
  }

  /// One update of all parameters within the one backward that makes their gradients.
  ///
  /// @param step number of the update, from 1
  public InBackward inBackward(long step, double learningRate) {
    if (!updatesInBackward()) {
      throw new IllegalStateException(
          "adamw: an update within the backward wants no clipping and no gradients() before it: %s, %s"
              .formatted(options, gradients == null ? "none" : "all gradients"));
    }
    if (turns == null) {
      turns = takingTurns();
    }
    return new InBackward(turns, step, learningRate);
  }

  /// Gradients of which only one part exists at a time: lm_head, the final norm, every layer and the
  /// embedding lie in the same memory. A tied embedding, complete at the very end, has its own.
  private Weights takingTurns() {
    Weights w = parameters;
    boolean tied = w.isTied();
    long floats = tied ? 0 : Math.max(Room.floats(w.embedTokens()), Room.floats(w.lmHead()));
    floats = Math.max(floats, Room.floats(w.norm()));
    for (LayerWeights layer : w.layers()) {
      floats = Math.max(floats, layer.tensors().stream().mapToLong(Room::floats).sum());
    }
    Tensor memory = arena.floats("grad", floats);
    Tensor embedding =
        tied ? zeros("grad.", w.embedTokens()) : new Room(memory).of(w.embedTokens());
    return new Weights(
        embedding,
        w.layers().stream().map(layer -> layer.map(new Room(memory)::of)).toList(),
        new Room(memory).of(w.norm()),
        tied ? embedding : new Room(memory).of(w.lmHead()));
  }

  /// Cuts a tensor into gradients, one after the other.
  private static final class Room {
    private static final long ALIGNMENT = 64; // floats, what devices align tensors to

    private final Tensor memory;
    private long filled;

    Room(Tensor memory) {
      this.memory = memory;
    }

    /// What a gradient takes.
    static long floats(Tensor like) {
      return Math.ceilDiv(like.size(), ALIGNMENT) * ALIGNMENT;
    }

    Tensor of(Tensor like) {
      Tensor part = memory.slice(filled, filled + like.size());
      filled += floats(like);
      return part.view(like.shape().dims()).named("grad." + like.name());
    }
  }

  /// An update part by part, each as soon as its gradients are complete.
  public final class InBackward {
    private final Weights grads;
    private final long step;
    private final double learningRate;
    private final Map<Tensor, Double> squares = new IdentityHashMap<>(); // by parameter

    private InBackward(Weights grads, long step, double learningRate) {
      this.grads = grads;
      this.step = step;
      this.learningRate = learningRate;
    }

    /// What the backward adds to, all zero. Its parts share memory.
    public Weights gradients() {
      return grads;
    }

    /// Updates a part, whose gradients are then zero again.
    public void update(Weights.Part part) {
      List<Tensor> ps = part.of(parameters);
      double[] sums = ops.sumsOfSquares(part.of(grads));
      for (int i = 0; i < sums.length; i++) {
        squares.put(ps.get(i), sums[i]);
      }
      AdamW.this.update(part, grads, step, learningRate, 1);
    }

    /// Norm of all gradients together, with the bits of [AdamW#gradientNorm], once every part was
    /// updated.
    public double gradientNorm() {
      return norm(parameters.tensors().stream().mapToDouble(squares::get).toArray());
    }
  }
}
