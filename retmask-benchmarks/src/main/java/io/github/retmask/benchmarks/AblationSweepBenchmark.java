package io.github.retmask.benchmarks;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.AblationSweep;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.Linear;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;

/// An ablation sweep against one prefill per mask: a prompt under masks that switch one head off
/// each, the logits of its last token wanted. The model is a Llama of 8 layers, 16 heads, 4 of them
/// for keys and values, C 1024, F 2816, V 32000, with random F32 weights.
///
/// `AblationSweepBenchmark [PROMPT_TOKENS] [EVERY] [ROUNDS]`: every EVERY-th head is switched off
/// once, in each round by the sweep, by prefills of which the last layer computes what the last token
/// needs, and by prefills that compute everything. Stops when a logit differs in one bit.
public final class AblationSweepBenchmark {
  private static final int VOCAB = 32_000;
  private static final int WIDTH = 1024;
  private static final int LAYERS = 8;
  private static final int HEADS = 16;
  private static final int KV_HEADS = 4;
  private static final int HEAD_DIM = 64;
  private static final int INNER = 2816;

  private final SplitMix64 random = new SplitMix64(1);
  private final TensorArena memory;

  private AblationSweepBenchmark(TensorArena memory) {
    this.memory = memory;
  }

  static void main(String[] args) {
    int tokens = number(args, 0, 512);
    int every = number(args, 1, 1);
    int rounds = number(args, 2, 3);
    try (Kernels kernels = Backends.open()) {
      Ops ops = new Ops(kernels);
      try (TensorArena memory = ops.arena(TensorArena.Lifetime.MODEL);
          Transformer model = new AblationSweepBenchmark(memory).model(ops, tokens)) {
        run(model, tokens, every, rounds);
      }
    }
  }

  private static int number(String[] args, int at, int otherwise) {
    return at < args.length ? Integer.parseInt(args[at]) : otherwise;
  }

  private static void run(Transformer model, int tokens, int every, int rounds) {
    SplitMix64 random = new SplitMix64(2);
    int[] prompt = new int[tokens];
    Arrays.setAll(prompt, _ -> random.nextInt(VOCAB));
    List<HeadMask> masks = new ArrayList<>();
    for (int i = 0; i < LAYERS * HEADS; i += every) {
      HeadId head = new HeadId(i / HEADS, i % HEADS);
      masks.add(model.noMask().withGate(List.of(head), 0));
    }
    System.out.printf(
        Locale.ROOT,
        "%s, %d threads; a prompt of %d tokens, %d masks%n",
        model.ops().backend(),
        model.ops().threads(),
        tokens,
        masks.size());
    AblationSweep sweep = new AblationSweep(model);
    for (int i = 0; i < 3; i++) { // code becomes hot
      var _ = sweep.lastLogits(prompt, masks.subList(0, Math.min(3, masks.size())));
      var _ = whole(model, prompt, masks.getFirst());
    }
    double[] againstLast = new double[rounds];
    double[] againstWhole = new double[rounds];
    for (int round = 0; round < rounds; round++) {
      long begun = System.nanoTime();
      float[][] swept = sweep.lastLogits(prompt, masks);
      double seconds = since(begun);
      begun = System.nanoTime();
      float[][] last = new float[masks.size()][];
      Arrays.setAll(last, m -> sweep.lastLogits(prompt, masks.subList(m, m + 1))[0]);
      double lastSeconds = since(begun);
      begun = System.nanoTime();
      float[][] whole = new float[masks.size()][];
      Arrays.setAll(whole, m -> whole(model, prompt, masks.get(m)));
      double wholeSeconds = since(begun);
      for (int m = 0; m < masks.size(); m++) {
        if (!Arrays.equals(swept[m], whole[m]) || !Arrays.equals(last[m], whole[m])) {
          throw new IllegalStateException("logits under " + masks.get(m) + " differ");
        }
      }
      againstLast[round] = lastSeconds / seconds;
      againstWhole[round] = wholeSeconds / seconds;
      System.out.printf(
          Locale.ROOT,
          "same bits; sweep %.2f s, separate for the last token %.2f s, separate %.2f s%n",
          seconds,
          lastSeconds,
          wholeSeconds);
    }
    print("sweep over separate prefills for the last token", againstLast);
    print("sweep over separate prefills", againstWhole);
  }

  private static double since(long begun) {
    return (System.nanoTime() - begun) / 1e9;
  }

  private static void print(String what, double... ratios) {
    Arrays.sort(ratios);
    System.out.printf(
        Locale.ROOT,
        "%s: %.2f times as fast (%.2f to %.2f)%n",
        what,
        ratios[ratios.length / 2],
        ratios[0],
        ratios[ratios.length - 1]);
  }

  /// Logits of the last token by a forward that shares nothing and leaves nothing out.
  private static float[] whole(Transformer model, int[] prompt, HeadMask mask) {
    try (TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      Activations a = model.forward(Batch.of(Batch.Row.whole(prompt, mask)), step);
      return model.logits(a, step, prompt.length - 1).toFloats();
    }
  }

  private Transformer model(Ops ops, int positions) {
    LayerSpec layer =
        new LayerSpec(
            LayerSpec.NormPlacement.PRE,
            LayerSpec.QkNorm.NONE,
            new AttentionSpec(AttentionSpec.NO_WINDOW, 0.125f),
            new RopeSpec(10000, HEAD_DIM, new RopeSpec.None()));
    ModelConfig config =
        new ModelConfig(
            VOCAB,
            WIDTH,
            HEADS,
            KV_HEADS,
            HEAD_DIM,
            INNER,
            1e-5f,
            false,
            positions,
            Collections.nCopies(LAYERS, layer));
    List<LayerWeights> layers = new ArrayList<>();
    for (int l = 0; l < LAYERS; l++) {
      layers.add(
          new LayerWeights(
              ones(),
              linear(HEADS * HEAD_DIM, WIDTH),
              linear(KV_HEADS * HEAD_DIM, WIDTH),
              linear(KV_HEADS * HEAD_DIM, WIDTH),
              null,
              null,
              linear(WIDTH, HEADS * HEAD_DIM),
              ones(),
              linear(INNER, WIDTH),
              linear(INNER, WIDTH),
              linear(WIDTH, INNER)));
    }
    Weights weights = new Weights(matrix(VOCAB, WIDTH), layers, ones(), matrix(VOCAB, WIDTH));
    return new Transformer(config, weights, ops);
  }

  private Tensor ones() {
    float[] ones = new float[WIDTH];
    Arrays.fill(ones, 1f);
    return memory.floats("norm", WIDTH).copyFrom(ones);
  }

  private Linear linear(int outs, int ins) {
    return new Linear(matrix(outs, ins), null);
  }

  /// Uniform numbers of variance 1 / ins.
  private Tensor matrix(int outs, int ins) {
    float bound = (float) Math.sqrt(3.0 / ins);
    float[] values = new float[outs * ins];
    for (int i = 0; i < values.length; i++) {
      values[i] = bound * (2 * SplitMix64.toOpenFloat(random.next()) - 1);
    }
    return memory.floats("weight", outs, ins).copyFrom(values);
  }
}
