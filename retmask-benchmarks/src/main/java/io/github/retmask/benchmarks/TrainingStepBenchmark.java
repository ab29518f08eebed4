package io.github.retmask.benchmarks;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.TearDown;

/// Forward and backward of a whole Llama-shaped model: C 128, 6 layers of 8 heads, F 256, V 300. The
/// counter `gflop` holds 6 flops per token and weight; attention comes on top.
public class TrainingStepBenchmark extends OpBenchmark {
  private static final int VOCAB = 300;
  private static final int WIDTH = 128;
  private static final int LAYERS = 6;
  private static final int HEADS = 8;
  private static final int HEAD_DIM = 16;
  private static final int INNER = 256;

  /// Rows x T.
  @Param("8x96")
  public String size = "";

  private ModelConfig config;
  private Weights weights;
  private Weights grads;
  private Transformer model;
  private TensorArena step;
  private Batch batch;
  private Tensor targets;
  private Tensor dLogps;

  @Override
  void prepare() {
    int[] n = numbers(size);
    LayerSpec layer =
        new LayerSpec(
            LayerSpec.NormPlacement.PRE,
            LayerSpec.QkNorm.NONE,
            new AttentionSpec(AttentionSpec.NO_WINDOW, 0.25f),
            new RopeSpec(10000, HEAD_DIM, new RopeSpec.None()));
    config =
        new ModelConfig(
            VOCAB,
            WIDTH,
            HEADS,
            HEADS,
            HEAD_DIM,
            INNER,
            1e-5f,
            false,
            512,
            Collections.nCopies(LAYERS, layer));
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < LAYERS; l++) {
      layers.add(
          new LayerWeights(
              ones(),
              linear(WIDTH, WIDTH),
              linear(WIDTH, WIDTH),
              linear(WIDTH, WIDTH),
              null,
              null,
              linear(WIDTH, WIDTH),
              ones(),
              linear(INNER, WIDTH),
              linear(INNER, WIDTH),
              linear(WIDTH, INNER)));
    }
    weights = new Weights(matrix(VOCAB, WIDTH), layers, ones(), matrix(VOCAB, WIDTH));
    grads = gradients();
    List<Batch.Row> rows = new ArrayList<>();
    for (int r = 0; r < n[0]; r++) {
      int[] ids = below("ids", VOCAB, n[1]).toInts();
      rows.add(Batch.Row.whole(ids, HeadMask.none(LAYERS, HEADS)));
    }
    batch = new Batch(rows);
    targets = below("targets", VOCAB, n[0] * n[1]);
    dLogps = normal("dLogps", n[0] * n[1]);
    Ops ops = new Ops(kernels);
    step = ops.arena(TensorArena.Lifetime.STEP);
    model = new Transformer(config, weights, ops);
  }

  private Tensor ones() {
    Tensor norm = zeros("norm", WIDTH);
    for (int i = 0; i < WIDTH; i++) {
      norm.set(i, 1f);
    }
    return norm;
  }

  private Tensor matrix(int outs, int ins) {
    Tensor m = normal("weight", outs, ins);
    for (long i = 0; i < m.size(); i++) {
      m.set(i, m.get(i) / (float) Math.sqrt(ins));
    }
    return m;
  }

  private Linear linear(int outs, int ins) {
    return new Linear(matrix(outs, ins), null);
  }

  private Weights gradients() {
    return weights.map(w -> zeros("gradient", w.shape().dims()));
  }

  private static void run(
      Transformer model,
      Batch batch,
      Tensor logps,
      Tensor targets,
      Tensor dLogps,
      Weights grads,
      TensorArena step) {
    Ops ops = model.ops();
    Activations a =
        model.forward(
            batch, null, Activations.Keep.FOR_BACKWARD, ReadoutRequest.NONE, step, Observer.NONE);
    Tensor lse = step.floats("lse", targets.size());
    Tensor lmHead = model.weights().lmHead();
    ops.tokenLogProbs(logps, lse, a.hidden(), lmHead, targets);
    Tensor dHidden = step.floats("d_hidden", a.hidden().shape().dims());
    ops.tokenLogProbsBackward(dHidden, grads.lmHead(), dLogps, a.hidden(), lmHead, targets, lse);
    model.backward(grads, null, dHidden, a, step);
  }

  @Override
  void prove(Kernels reference) {
    Tensor want = zeros("logps", targets.size());
    Tensor got = zeros("logps", targets.size());
    Weights wantGrads = gradients();
    Weights gotGrads = gradients();
    Ops ops = new Ops(reference);
    try (TensorArena memory = ops.arena(TensorArena.Lifetime.STEP);
        Transformer other = new Transformer(config, weights, ops)) {
      run(other, batch, want, targets, dLogps, wantGrads, memory);
    }
    run(model, batch, got, targets, dLogps, gotGrads, step);
    int terms = 10 * LAYERS * WIDTH; // the roundings of all layers, one on top of the other
    close(got, want, terms);
    for (int i = 0; i < weights.tensors().size(); i++) {
      close(gotGrads.tensors().get(i), wantGrads.tensors().get(i), terms);
    }
  }

  /// Frees the model's own memory.
  @TearDown(Level.Trial)
  public void closeModel() {
    model.close();
    step.close();
  }

  @Benchmark
  public void forwardAndBackward(Rate rate) {
    step.reset();
    Tensor logps = step.floats("logps", targets.size());
    run(model, batch, logps, targets, dLogps, grads, step);
    long used = 0;
    for (Tensor w : weights.tensors()) {
      used += w == weights.embedTokens() ? 0 : w.size();
    }
    rate.gflop += 6e-9 * targets.size() * used;
  }
}
