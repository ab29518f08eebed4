package io.github.retmask.train;

import io.github.retmask.model.arch.Architecture;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;

/// Weights before any training: norms 1, biases 0, matrices normal with mean 0 and a given standard
/// deviation. A value depends on the seed, the tensor's name and its place in the tensor alone, so
/// the same model gets the same weights on every machine.
///
/// Pair i of a tensor's values comes from outputs 2i and 2i+1 of the [SplitMix64] stream whose seed
/// is output [SplitMix64#key] of its name of the stream that starts at the given seed, by the
/// transform of Box and Muller (1958) in `StrictMath`.
public final class InitialWeights implements Architecture.TensorSource {
  private final long seed;
  private final double std;
  private final double residualStd;
  private final TensorArena arena;

  /// How large the projections that write to the residual stream (`o_proj`, `down_proj`) begin.
  public enum Residuals {
    /// As all other matrices.
    PLAIN,
    /// Divided by the root of the number of such projections, 2L, so that the residual stream does
    /// not grow with depth (Radford et al. 2019, GPT-2).
    SCALED_BY_DEPTH
  }

  /// @param std standard deviation, 0.02 in most recipes
  /// @param layers L
  /// @param arena memory of the weights
  public InitialWeights(long seed, double std, Residuals residuals, int layers, TensorArena arena) {
    if (!(std > 0 && std < Double.POSITIVE_INFINITY)) {
      throw new IllegalArgumentException(
          "initial weights: standard deviation " + std + ", want a finite number above 0");
    }
    this.seed = seed;
    this.std = std;
    this.residualStd = residuals == Residuals.PLAIN ? std : std / Math.sqrt(2.0 * layers);
    this.arena = arena;
  }

  @Override
  public Tensor tensor(String name, long... dims) {
    Tensor tensor = arena.floats(name, dims);
    if (dims.length > 1) {
      boolean residual = name.endsWith("o_proj.weight") || name.endsWith("down_proj.weight");
      return tensor.copyFrom(
          normal(Math.toIntExact(tensor.size()), name, residual ? residualStd : std));
    }
    if (!name.endsWith(".bias")) {
      float[] ones = new float[Math.toIntExact(tensor.size())];
      java.util.Arrays.fill(ones, 1f);
      tensor.copyFrom(ones);
    }
    return tensor;
  }

  private float[] normal(int count, String name, double std) {
    long stream = SplitMix64.at(seed, SplitMix64.key(name));
    float[] values = new float[count];
    for (int i = 0; i < count; i += 2) {
      double radius =
          Math.sqrt(-2 * StrictMath.log(SplitMix64.toOpenDouble(SplitMix64.at(stream, i))));
      double angle = 2 * Math.PI * SplitMix64.toOpenDouble(SplitMix64.at(stream, i + 1));
      values[i] = (float) (std * radius * StrictMath.cos(angle));
      if (i + 1 < count) {
        values[i + 1] = (float) (std * radius * StrictMath.sin(angle));
      }
    }
    return values;
  }
}
