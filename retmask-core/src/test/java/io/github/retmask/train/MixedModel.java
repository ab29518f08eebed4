package io.github.retmask.train;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// A decoder with one layer of every kind, so that every sort of weight occurs: pre-norm with
/// biases, per-head q/k norm and a window; post-norm with whole q/k norm; plain pre-norm. 6 query
/// heads on 2 key/value heads, heads times head dimension (24) differs from the hidden size (10),
/// tied embeddings.
final class MixedModel {
  private static final int V = 11;
  private static final int C = 10;
  private static final int H = 6;
  private static final int HKV = 2;
  private static final int D = 4;
  private static final int F = 7;

  private MixedModel() {}

  static ModelConfig config() {
    return config(1);
  }

  /// One layer of every kind, `repeats` times over.
  static ModelConfig config(int repeats) {
    return config(repeats, new RopeSpec(100, D, new RopeSpec.None()));
  }

  static ModelConfig config(int repeats, RopeSpec rope) {
    AttentionSpec full = new AttentionSpec(AttentionSpec.NO_WINDOW, 0.5f);
    return new ModelConfig(
        V,
        C,
        H,
        HKV,
        D,
        F,
        1e-5f,
        true,
        32,
        Collections.nCopies(
                repeats,
                List.of(
                    new LayerSpec(
                        NormPlacement.PRE, QkNorm.PER_HEAD, new AttentionSpec(3, 0.5f), rope),
                    new LayerSpec(NormPlacement.POST, QkNorm.WHOLE, full, rope),
                    new LayerSpec(NormPlacement.PRE, QkNorm.NONE, full, rope)))
            .stream()
            .flatMap(List::stream)
            .toList());
  }

  static Weights weights(long seed, TensorArena arena) {
    return weights(config(), seed, arena);
  }

  static Weights weights(ModelConfig config, long seed, TensorArena arena) {
    Random random = new Random(new SplitMix64(seed), arena);
    Tensor embed = random.tensor("embed", 1, V, C);
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < config.layerCount(); l++) {
      QkNorm qkNorm = config.layers().get(l).qkNorm();
      boolean bias = l % 3 == 0;
      layers.add(
          new LayerWeights(
              random.norm(l + ".attn_norm", C),
              random.linear(l + ".q", H * D, C, bias),
              random.linear(l + ".k", HKV * D, C, bias),
              random.linear(l + ".v", HKV * D, C, bias),
              qNorm(random, l + ".q_norm", qkNorm, H),
              qNorm(random, l + ".k_norm", qkNorm, HKV),
              random.linear(l + ".o", C, H * D, bias),
              random.norm(l + ".mlp_norm", C),
              random.linear(l + ".gate", F, C, bias),
              random.linear(l + ".up", F, C, bias),
              random.linear(l + ".down", C, F, bias)));
    }
    return new Weights(embed, layers, random.norm("norm", C), embed);
  }

  private static @Nullable Tensor qNorm(Random random, String name, QkNorm kind, int heads) {
    return switch (kind) {
      case NONE -> null;
      case PER_HEAD -> random.norm(name, D);
      case WHOLE -> random.norm(name, heads * D);
    };
  }

  private record Random(SplitMix64 bits, TensorArena arena) {

    /// Uniform in (-scale, scale).
    Tensor tensor(String name, double scale, long... dims) {
      Tensor tensor = arena.floats(name, dims);
      for (long i = 0; i < tensor.size(); i++) {
        tensor.set(i, (float) (scale * (2 * bits.nextDouble() - 1)));
      }
      return tensor;
    }

    /// Around 1.
    Tensor norm(String name, long size) {
      Tensor tensor = tensor(name, 0.3, size);
      for (long i = 0; i < size; i++) {
        tensor.set(i, 1 + tensor.get(i));
      }
      return tensor;
    }

    Linear linear(String name, long out, long in, boolean bias) {
      return new Linear(tensor(name, 0.6, out, in), bias ? tensor(name + ".bias", 0.3, out) : null);
    }
  }
}
