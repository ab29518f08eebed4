package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Trains a model on preference pairs with [DpoLoss]. The reference is the model before training:
/// its log-probabilities are computed first, see [Trainer#run] for everything else.
///
/// Every epoch goes through all pairs in an order of its own: the permutation that
/// [SplitMix64#sample] draws from the stream whose seed is output `epoch` of the stream of the
/// training's seed. The last step of an epoch may have fewer pairs.
public final class DpoTrainer {
  private DpoTrainer() {}

  /// @param beta strength of the pull towards the reference, > 0
  /// @param labelSmoothing see [DpoLoss]
  /// @param policyMask switched heads of the model in training; the reference is never masked
  /// @param epochs passes over the pairs
  /// @param batchSize pairs of one step
  /// @param microBatchTokens tokens that go through the model at once, at most; decides memory, and by the
  ///   order of additions the last bits of the result
  /// @param gradientCheckpointing decides time and memory, no bit of the result
  /// @param seed of the order of the pairs
  /// @param learningRate schedule
  /// @param optimizer scalars of AdamW
  /// @param logEvery steps between lines of the log
  /// @param checkpointEvery steps between checkpoints; has no influence on any result
  /// @param precision of the weights that the model reads
  public record Options(
      double beta,
      double labelSmoothing,
      HeadMask policyMask,
      int epochs,
      int batchSize,
      int microBatchTokens,
      GradientCheckpointing gradientCheckpointing,
      long seed,
      LrPlan learningRate,
      AdamW.Options optimizer,
      int logEvery,
      int checkpointEvery,
      Precision precision) {

    /// In F32.
    public Options(
        double beta,
        double labelSmoothing,
        HeadMask policyMask,
        int epochs,
        int batchSize,
        int microBatchTokens,
        GradientCheckpointing gradientCheckpointing,
        long seed,
        LrPlan learningRate,
        AdamW.Options optimizer,
        int logEvery,
        int checkpointEvery) {
      this(
          beta,
          labelSmoothing,
          policyMask,
          epochs,
          batchSize,
          microBatchTokens,
          gradientCheckpointing,
          seed,
          learningRate,
          optimizer,
          logEvery,
          checkpointEvery,
          Precision.F32);
    }

    public Options {
      new DpoLoss(beta, labelSmoothing, List.of()); // checks both
      if (epochs < 1 || batchSize < 1 || microBatchTokens < 1) {
        throw new IllegalArgumentException(
            "DPO: %d epochs in steps of %d pairs and micro-batches of %d tokens, want at least 1 of each"
                .formatted(epochs, batchSize, microBatchTokens));
      }
    }

    /// Steps of a training on so many pairs.
    public long steps(int pairs) {
      return epochs * stepsPerEpoch(pairs);
    }

    private long stepsPerEpoch(int pairs) {
      return Math.ceilDiv(pairs, batchSize);
    }
  }

  /// Trains, or continues a training that was interrupted; see [Trainer#run] for folder, result and
  /// failures.
  ///
  /// @param initial weights before training, which are also the reference; copied
  public static void train(
      ModelConfig config,
      Weights initial,
      Ops ops,
      Options options,
      PreferenceData data,
      Path directory,
      TrainingStart start,
      Trainer.Result result,
      TrainingListener listener)
      throws IOException, InterruptedException {
    Steps steps = new Steps(options, data, Fingerprint.of(initial));
    Trainer.Options training =
        new Trainer.Options(
            options.learningRate().over(steps.steps()),
            options.optimizer(),
            options.logEvery(),
            options.checkpointEvery(),
            options.gradientCheckpointing(),
            options.precision());
    try (Trainer trainer =
        new Trainer(config, memory -> Trainer.copy(initial, ops, memory), ops, training, steps)) {
      trainer.run(directory, start, result, listener);
    }
  }

  private static final class Steps implements StepSource {
    private final Options shape;
    private final List<PreferencePair> pairs;
    private final PreferenceData data;
    private final String model;
    private List<PairLogProbs> references = List.of();
    private long orderOf = -1;
    private int[] order = new int[0];

    Steps(Options shape, PreferenceData data, String model) {
      this.shape = shape;
      this.data = data;
      this.pairs = data.pairs();
      this.model = model;
    }

    @Override
    public long steps() {
      return shape.steps(pairs.size());
    }

    @Override
    public double epoch(long stepsDone) {
      long perEpoch = shape.stepsPerEpoch(pairs.size());
      return (double) stepsDone / perEpoch;
    }

    @Override
    public List<String> files() {
      return List.of(ReferenceLogProbs.fileName());
    }

    @Override
    public void prepare(Transformer initial, Path directory, TrainingListener listener)
        throws IOException, InterruptedException {
      Map<String, String> origin = Map.of("model", model, "pairs", data.fingerprint());
      references =
          ReferenceLogProbs.of(
              initial, pairs, origin, shape.microBatchTokens(), directory, listener);
    }

    @Override
    public List<MicroBatch> step(long index) {
      long perEpoch = shape.stepsPerEpoch(pairs.size());
      shuffle(index / perEpoch);
      int from = (int) (index % perEpoch) * shape.batchSize();
      int to = Math.min(pairs.size(), from + shape.batchSize());
      List<Integer> numbers = new ArrayList<>();
      for (int i = from; i < to; i++) {
        numbers.add(order[i]);
      }
      List<MicroBatch> parts = new ArrayList<>();
      for (List<Integer> group :
          RowPacker.pack(numbers, n -> pairs.get(n).tokens(), shape.microBatchTokens())) {
        List<Example> rows = ReferenceLogProbs.rows(group.stream().map(pairs::get).toList());
        List<PairLogProbs> known = group.stream().map(references::get).toList();
        parts.add(
            new MicroBatch(
                LabelledBatch.of(rows, shape.policyMask()),
                new DpoLoss(shape.beta(), shape.labelSmoothing(), known)));
      }
      return parts;
    }

    private void shuffle(long epoch) {
      if (epoch != orderOf) {
        SplitMix64 random = new SplitMix64(SplitMix64.at(shape.seed(), epoch));
        order = random.sample(pairs.size(), pairs.size());
        orderOf = epoch;
      }
    }

    @Override
    public Map<String, String> options() {
      Map<String, String> all = new LinkedHashMap<>();
      all.put("model", model);
      all.put("pairs", data.fingerprint());
      all.put("beta", Double.toString(shape.beta()));
      all.put("label_smoothing", Double.toString(shape.labelSmoothing()));
      all.put("policy_mask", Fingerprint.of(shape.policyMask()));
      all.put("epochs", Integer.toString(shape.epochs()));
      all.put("batch_size", Integer.toString(shape.batchSize()));
      all.put("micro_batch_tokens", Integer.toString(shape.microBatchTokens()));
      all.put("seed", Long.toString(shape.seed()));
      return all;
    }
  }
}
