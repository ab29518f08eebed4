package io.github.retmask.model;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Ops;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/// Small models with random weights, large enough that every part matters to the logits.
public final class RandomModel {
  private RandomModel() {}

  /// Grouped queries, H D != C, untied: 3 layers, C 20, H 6, Hkv 2, D 8, F 28, V 50.
  public static ModelConfig plain() {
    return config(NormPlacement.PRE, QkNorm.NONE, AttentionSpec.NO_WINDOW, false);
  }

  /// A config with the given properties in every layer.
  public static ModelConfig config(NormPlacement norms, QkNorm qkNorm, int window, boolean tied) {
    LayerSpec layer =
        new LayerSpec(
            norms,
            qkNorm,
            new AttentionSpec(window, (float) (1 / Math.sqrt(8))),
            new RopeSpec(10000, 8, new RopeSpec.None()));
    return new ModelConfig(50, 20, 6, 2, 8, 28, 1e-5f, tied, 512, Collections.nCopies(3, layer));
  }

  /// Weights for a config; the same for the same seed.
  public static Weights weights(ModelConfig config, TensorArena arena, long seed) {
    Random random = new Random(seed);
    long c = config.hiddenSize();
    long q = (long) config.heads() * config.headDim();
    long kv = (long) config.kvHeads() * config.headDim();
    long f = config.intermediateSize();
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < config.layerCount(); l++) {
      LayerSpec spec = config.layers().get(l);
      boolean perHead = spec.qkNorm() == QkNorm.PER_HEAD;
      boolean normed = spec.qkNorm() != QkNorm.NONE;
      layers.add(
          new LayerWeights(
              norm(arena, random, c),
              linear(arena, random, q, c),
              linear(arena, random, kv, c),
              linear(arena, random, kv, c),
              normed ? norm(arena, random, perHead ? config.headDim() : q) : null,
              normed ? norm(arena, random, perHead ? config.headDim() : kv) : null,
              linear(arena, random, c, q),
              norm(arena, random, c),
              linear(arena, random, f, c),
              linear(arena, random, f, c),
              linear(arena, random, c, f)));
    }
    Tensor embed = matrix(arena, random, config.vocabSize(), c, 1);
    Tensor lmHead =
        config.tiedEmbeddings() ? embed : matrix(arena, random, config.vocabSize(), c, 0.3);
    return new Weights(embed, layers, norm(arena, random, c), lmHead);
  }

  /// A transformer over fresh random weights.
  public static Transformer transformer(ModelConfig config, Ops ops, TensorArena arena, long seed) {
    return new Transformer(config, weights(config, arena, seed), ops);
  }

  /// `count` ids of the config's vocabulary.
  public static int[] ids(ModelConfig config, int count, long seed) {
    return new Random(seed).ints(count, 0, config.vocabSize()).toArray();
  }

  private static Linear linear(TensorArena arena, Random random, long out, long in) {
    return new Linear(
        matrix(arena, random, out, in, 1.5 / Math.sqrt(in)),
        matrix(arena, random, 1, out, 0.1).view(out));
  }

  private static Tensor norm(TensorArena arena, Random random, long width) {
    Tensor weight = arena.floats("norm", width);
    for (long i = 0; i < width; i++) {
      weight.set(i, (float) (1 + 0.2 * random.nextGaussian()));
    }
    return weight;
  }

  private static Tensor matrix(
      TensorArena arena, Random random, long rows, long cols, double scale) {
    Tensor weight = arena.floats("weight", rows, cols);
    for (long i = 0; i < rows * cols; i++) {
      weight.set(i, (float) (scale * random.nextGaussian()));
    }
    return weight;
  }
}
