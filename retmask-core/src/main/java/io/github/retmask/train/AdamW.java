package io.github.retmask.train;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.Ops;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;

/// AdamW (Loshchilov and Hutter 2019) over all weights of a model, with clipping of the global
/// gradient norm. Gradients and both moments have the structure of the weights.
///
/// Decoupled decay applies to matrices, the embedding among them, and spares norms and biases: the
/// rule of Hugging Face's Trainer.
public final class AdamW {
  /// Added to the norm before dividing by it, as torch's `clip_grad_norm_` does.
  private static final double CLIP_EPS = 1e-6;

  /// Gradient and both moments.
  static final int BYTES_PER_PARAMETER = 3 * Float.BYTES;

  private final Weights parameters;
  private final Weights stored; // what the model reads: the parameters, or matrices in BF16
  private final Weights gradients;
  private final Weights firstMoments;
  private final Weights secondMoments;
  private final Options options;
  private final Ops ops;

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
  /// @param parameters F32, changed in place by [#step]
  /// @param arena memory of gradients and moments
  public AdamW(Weights parameters, Options options, Ops ops, TensorArena arena) {
    this(parameters, parameters, options, ops, arena);
  }

  /// The same for a model that reads its weights rounded.
  ///
  /// @param parameters F32, changed in place by [#step]
  /// @param stored of each tensor itself, or one in BF16, which [#step] overwrites
  /// @param arena memory of gradients and moments
  public AdamW(Weights parameters, Weights stored, Options options, Ops ops, TensorArena arena) {
    this.parameters = parameters;
    this.stored = stored;
    this.options = options;
    this.ops = ops;
    this.gradients = zeros(parameters, "grad.", arena);
    this.firstMoments = zeros(parameters, "exp_avg.", arena);
    this.secondMoments = zeros(parameters, "exp_avg_sq.", arena);
  }

  private static Weights zeros(Weights like, String prefix, TensorArena arena) {
    return like.map(t -> arena.floats(prefix + t.name(), t.shape().dims()));
  }

  /// What backward adds to; [#step] sets it back to zero.
  public Weights gradients() {
    return gradients;
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
    return Math.sqrt(ops.sumOfSquares(gradients.tensors()));
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
    List<Tensor> ps = parameters.tensors();
    List<Tensor> ws = stored.tensors();
    List<Tensor> gs = gradients.tensors();
    List<Tensor> ms = firstMoments.tensors();
    List<Tensor> vs = secondMoments.tensors();
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
}
