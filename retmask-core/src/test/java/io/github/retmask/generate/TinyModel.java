package io.github.retmask.generate;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;

/// A random model of awkward sizes: H = 6 over Hkv = 2, H D != C, one layer with a window. Small
/// embeddings let attention decide what is generated.
final class TinyModel implements AutoCloseable {
  static final ModelConfig CONFIG =
      new ModelConfig(
          41, 20, 6, 2, 4, 28, 1e-5f, false, 96, List.of(layer(AttentionSpec.NO_WINDOW), layer(7)));

  private final HostArena arena = new HostArena();
  private final Kernels kernels;
  final Transformer model;

  /// Closes `kernels` when it is closed itself.
  TinyModel(Kernels kernels) {
    this.kernels = kernels;
    SplitMix64 random = new SplitMix64(20251101);
    model = new Transformer(CONFIG, weights(random), new Ops(kernels));
  }

  private static LayerSpec layer(int window) {
    return new LayerSpec(
        LayerSpec.NormPlacement.PRE,
        LayerSpec.QkNorm.NONE,
        new AttentionSpec(window, 0.5f),
        new RopeSpec(10000, 4, new RopeSpec.None()));
  }

  private Weights weights(SplitMix64 random) {
    ModelConfig c = CONFIG;
    int q = c.heads() * c.headDim();
    int kv = c.kvHeads() * c.headDim();
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < c.layerCount(); l++) {
      layers.add(
          new LayerWeights(
              tensor(random, 1, c.hiddenSize()),
              linear(random, q, c.hiddenSize()),
              linear(random, kv, c.hiddenSize()),
              linear(random, kv, c.hiddenSize()),
              null,
              null,
              linear(random, c.hiddenSize(), q),
              tensor(random, 1, c.hiddenSize()),
              linear(random, c.intermediateSize(), c.hiddenSize()),
              linear(random, c.intermediateSize(), c.hiddenSize()),
              linear(random, c.hiddenSize(), c.intermediateSize())));
    }
    return new Weights(
        tensor(random, 0.2f, c.vocabSize(), c.hiddenSize()),
        layers,
        tensor(random, 1, c.hiddenSize()),
        tensor(random, 0.7f, c.vocabSize(), c.hiddenSize()));
  }

  private Linear linear(SplitMix64 random, int out, int in) {
    return new Linear(tensor(random, 1.5f / (float) Math.sqrt(in), out, in), null);
  }

  /// Uniform in [-scale, scale], times the square root of 3 so that `scale` is the deviation.
  private Tensor tensor(SplitMix64 random, float scale, long... dims) {
    Tensor t = arena.floats("random", dims);
    for (long i = 0; i < t.size(); i++) {
      t.set(i, (float) ((random.nextDouble() * 2 - 1) * scale * Math.sqrt(3)));
    }
    return t;
  }

  @Override
  public void close() {
    model.close();
    arena.close();
    kernels.close();
  }
}
