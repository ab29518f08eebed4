package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/// Trains a decoder to predict the next token of endless examples: weighted cross-entropy, step k
/// over examples `k batchSize` to `(k + 1) batchSize - 1` of the source.
public final class LanguageModelTrainer {
  private LanguageModelTrainer() {}

  /// @param steps optimiser steps
  /// @param batchSize examples of one step
  /// @param microBatchTokens tokens that go through the model at once, at most; decides memory, and by the
  ///   order of additions the last bits of the result
  /// @param training schedule, optimiser, log and checkpoints
  public record Options(long steps, int batchSize, int microBatchTokens, Trainer.Options training) {
    public Options {
      if (steps < 1 || batchSize < 1 || microBatchTokens < 1) {
        throw new IllegalArgumentException(
            "training: %d steps of %d examples in micro-batches of %d tokens, want at least 1 of each"
                .formatted(steps, batchSize, microBatchTokens));
      }
    }
  }

  /// Trains, or continues a training that was interrupted; see [Trainer#run] for folder, result and
  /// failures.
  ///
  /// @param initial makes the weights to begin from, F32, in the memory it is given: those of
  ///   [InitialWeights], or a [Trainer#copy]
  /// @param source the examples
  /// @param origin what `initial` and `source` were made from, by option name (seeds, sizes): a
  ///   training is resumed only under equal values
  public static void train(
      ModelConfig config,
      Function<TensorArena, Weights> initial,
      Ops ops,
      Options options,
      ExampleSource source,
      Map<String, String> origin,
      Path directory,
      TrainingStart start,
      Trainer.Result result,
      TrainingListener listener)
      throws IOException, InterruptedException {
    Steps steps = new Steps(config, options, source, origin);
    try (Trainer trainer = new Trainer(config, initial, ops, options.training(), steps)) {
      trainer.run(directory, start, result, listener);
    }
  }

  private record Steps(
      ModelConfig model, Options shape, ExampleSource source, Map<String, String> origin)
      implements StepSource {

    @Override
    public long steps() {
      return shape.steps();
    }

    @Override
    public double epoch(long stepsDone) {
      return (double) stepsDone / shape.steps();
    }

    @Override
    public List<MicroBatch> step(long index) {
      List<Example> examples = new ArrayList<>();
      for (int i = 0; i < shape.batchSize(); i++) {
        examples.add(source.example(index * shape.batchSize() + i));
      }
      HeadMask none = HeadMask.none(model.layerCount(), model.heads());
      List<MicroBatch> parts = new ArrayList<>();
      for (List<Example> rows :
          RowPacker.pack(examples, e -> e.ids().length, shape.microBatchTokens())) {
        LabelledBatch batch = LabelledBatch.of(rows, none);
        parts.add(new MicroBatch(batch, CrossEntropyLoss.over(batch)));
      }
      return parts;
    }

    @Override
    public Map<String, String> options() {
      Map<String, String> all = new LinkedHashMap<>(origin);
      all.put("batch_size", Integer.toString(shape.batchSize()));
      all.put("micro_batch_tokens", Integer.toString(shape.microBatchTokens()));
      return all;
    }
  }
}
