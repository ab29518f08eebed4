package io.github.retmask.benchmarks;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.random.SplitMix64;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/// What a masked twin adds to a step of decoding: one row alone, then the same row with its twin in
/// the batch, by turns. Every fourth head of the twin is off.
///
/// `TwinDecoding MODEL [PROMPT_TOKENS] [NEW_TOKENS] [ROUNDS]`, MODEL a folder or a GGUF file. Stops
/// when the row's tokens are others beside its twin than alone.
public final class TwinDecoding {
  private static final int WARM_UPS = 3;

  private TwinDecoding() {}

  static void main(String[] args) throws IOException {
    int tokens = number(args, 1, 512);
    int steps = number(args, 2, 64);
    int rounds = number(args, 3, 10);
    try (Kernels kernels = Backends.open();
        PretrainedModel pretrained = PretrainedModel.open(Path.of(args[0]), new Ops(kernels))) {
      Transformer model = pretrained.transformer();
      SplitMix64 random = new SplitMix64(1);
      int[] prompt = new int[tokens];
      Arrays.setAll(prompt, _ -> random.nextInt(model.config().vocabSize()));
      var intact = GenerationRequest.greedy(prompt, model.noMask(), steps);
      List<HeadId> off = new ArrayList<>();
      for (int l = 0; l < model.config().layerCount(); l++) {
        for (int h = 0; h < model.config().heads(); h += 4) {
          off.add(new HeadId(l, h));
        }
      }
      HeadMask mask = model.noMask().withGate(off, 0);
      Generator generator = new Generator(model, Generator.Options.defaults().withMaxRows(2));
      double[] ratios = new double[rounds];
      for (int round = -WARM_UPS; round < rounds; round++) {
        Run alone = new Run(generator, List.of(intact));
        Run twins = new Run(generator, List.of(intact, intact.withMask(mask)));
        if (!Arrays.equals(alone.tokens, twins.tokens)) {
          throw new IllegalStateException("the intact row has other tokens beside its twin");
        }
        if (round >= 0) {
          ratios[round] = twins.seconds / alone.seconds;
        }
      }
      Arrays.sort(ratios);
      System.out.printf(
          Locale.ROOT,
          "%s, %d threads; a step with a twin takes %.2f times one alone (%.2f to %.2f)%n",
          model.ops().backend(),
          model.ops().threads(),
          ratios[rounds / 2],
          ratios[0],
          ratios[rounds - 1]);
    }
  }

  private static int number(String[] args, int at, int otherwise) {
    return at < args.length ? Integer.parseInt(args[at]) : otherwise;
  }

  /// The requests together: the first one's tokens, the seconds from its second token to its last.
  private static final class Run {
    final int[] tokens;
    final double seconds;
    private long begun;
    private long ended;

    Run(Generator generator, List<GenerationRequest> requests) {
      List<Completion> completions = new ArrayList<>();
      generator.generate(
          requests,
          Generator.Order.REQUESTED,
          (request, position, _) -> {
            ended = System.nanoTime();
            if (position <= 1) {
              begun = ended;
            }
          },
          completions::add);
      tokens = completions.getFirst().ids();
      seconds = (ended - begun) / 1e9;
    }
  }
}
