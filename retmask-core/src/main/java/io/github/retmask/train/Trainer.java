package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.StepSource.MicroBatch;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// Runs the optimiser steps of a [StepSource] over the F32 weights of a model, with a log and
/// checkpoints in a folder. Beside a step's activations it holds 16 bytes per parameter: weight,
/// gradient and both moments; with [Precision#BF16] 18, or 16 on a GPU whose memory is short. Steps of
/// one micro-batch whose gradients are not clipped need 12 bytes, or 14, and the gradients of the
/// largest part of the model and of a tied embedding, see [TrainingStep].
///
/// **Exact resume.** Whatever stopped a training, running it again into the same folder continues
/// after the newest checkpoint and ends with the same weights and the same `metrics.jsonl`, byte
/// for byte, as one that was never stopped. Other options than the folder was begun with are
/// refused.
///
/// Interrupting the thread ends a training after the step at hand and a checkpoint.
public final class Trainer implements AutoCloseable {
  private final Options options;
  private final StepSource source;
  private final Ops ops;
  private final TensorArena memory;
  private final TensorArena stepMemory;
  private final Weights weights;
  private final Transformer model;
  private final AdamW optimizer;

  /// How to train.
  ///
  /// @param schedule learning rate by step
  /// @param optimizer scalars of AdamW
  /// @param logEvery steps between lines of the log, which hold means over these steps
  /// @param checkpointEvery steps between checkpoints; has no influence on any result
  /// @param gradientCheckpointing has none either
  /// @param precision of the weights that the model reads
  public record Options(
      LrSchedule schedule,
      AdamW.Options optimizer,
      int logEvery,
      int checkpointEvery,
      GradientCheckpointing gradientCheckpointing,
      Precision precision) {

    /// In F32.
    public Options(
        LrSchedule schedule,
        AdamW.Options optimizer,
        int logEvery,
        int checkpointEvery,
        GradientCheckpointing gradientCheckpointing) {
      this(schedule, optimizer, logEvery, checkpointEvery, gradientCheckpointing, Precision.F32);
    }

    public Options {
      if (logEvery < 1 || checkpointEvery < 1) {
        throw new IllegalArgumentException(
            "training: a log line every %d steps, a checkpoint every %d: want at least 1"
                .formatted(logEvery, checkpointEvery));
      }
    }
  }

  /// A finished step.
  ///
  /// @param step its number, from 1
  /// @param steps all steps
  /// @param epoch passes over the data so far
  /// @param loss of this step
  /// @param learningRate of this step
  /// @param gradNorm global gradient norm before clipping
  /// @param metrics further means of this step, by the names of `metrics.jsonl`
  /// @param numTokens tokens of all steps so far
  public record Progress(
      long step,
      long steps,
      double epoch,
      double loss,
      double learningRate,
      double gradNorm,
      Map<String, Double> metrics,
      long numTokens) {}

  /// @param initial makes the weights before training, F32, in memory of the trainer
  /// @param ops backend that computes, also the owner of the memory
  public Trainer(
      ModelConfig config,
      Function<TensorArena, Weights> initial,
      Ops ops,
      Options options,
      StepSource source) {
    this.options = options;
    this.source = source;
    this.ops = ops;
    this.memory = ops.arena(TensorArena.Lifetime.MODEL);
    this.stepMemory = ops.arena(TensorArena.Lifetime.STEP);
    Transformer begun = null;
    boolean whole = false;
    try {
      this.weights = initial.apply(memory);
      Weights stored = roundsWeights() ? rounded(weights) : weights;
      DType activations =
          options.precision() == Precision.BF16 ? ops.activations(DType.BF16) : DType.F32;
      begun = new Transformer(config, stored, ops, activations);
      this.model = begun;
      this.optimizer = new AdamW(weights, stored, options.optimizer(), ops, memory);
      whole = true;
    } finally {
      if (!whole) { // where memory ends, what was taken goes back
        close(begun, stepMemory, memory);
      }
    }
  }

  /// Whether the model reads copies of the weights in BF16. A backend with BF16 activations rounds to
  /// the same bits in every product; copies, 2 bytes per parameter, spare it that, and are kept while
  /// they take at most half of what the optimiser leaves free.
  private boolean roundsWeights() {
    if (options.precision() == Precision.F32) {
      return false;
    }
    if (ops.activations(DType.BF16) != DType.BF16) {
      return true; // computes in F32: the copies are what rounds
    }
    long parameters = weights.tensors().stream().mapToLong(Tensor::size).sum();
    long left = ops.freeBytes() - AdamW.BYTES_PER_PARAMETER * parameters;
    return DType.BF16.bytes(parameters) <= left / 2;
  }

  /// Matrices in BF16; vectors are few and stay.
  private Weights rounded(Weights masters) {
    Weights stored =
        masters.map(
            t ->
                t.shape().rank() > 1 ? memory.allocate(t.name(), DType.BF16, t.shape().dims()) : t);
    refresh(stored);
    return stored;
  }

  /// Rounds the masters again.
  private void refresh(Weights stored) {
    for (int i = 0; i < stored.tensors().size(); i++) {
      Tensor to = stored.tensors().get(i);
      Tensor from = weights.tensors().get(i);
      if (to != from) {
        ops.cast(to, from);
      }
    }
  }

  /// A copy in F32, for [#Trainer].
  ///
  /// @param weights of any float type
  public static Weights copy(Weights weights, Ops ops, TensorArena memory) {
    Weights copies = weights.map(t -> memory.floats(t.name(), t.shape().dims()));
    for (int i = 0; i < copies.tensors().size(); i++) {
      ops.cast(copies.tensors().get(i), weights.tensors().get(i));
    }
    return copies;
  }

  /// The weights in training, F32; they live until [#close].
  public Weights weights() {
    return weights;
  }

  /// The model over [#weights], as they are stored.
  public Transformer model() {
    return model;
  }

  /// Runs the steps that are left, then hands the trained weights over. A folder whose training is
  /// finished is left as it is.
  ///
  /// @param directory where log and checkpoints go
  /// @param result takes the weights, F32; called once, again by the next run when this one dies
  ///   before it is marked as finished
  /// @param listener hears of every step
  /// @throws IllegalArgumentException naming the options that differ from those the folder was
  ///   begun with
  /// @throws ArithmeticException when loss or gradient are not finite; the last checkpoint stays,
  ///   [#weights] may be broken
  /// @throws InterruptedException after a checkpoint, when the thread was interrupted
  /// @throws IOException when log, checkpoint or result cannot be written
  public void run(Path directory, TrainingStart start, Result result, TrainingListener listener)
      throws IOException, InterruptedException {
    try (TrainingDirectory files =
        TrainingDirectory.open(directory, describe(), source.files(), start)) {
      if (files.isFinished()) {
        return;
      }
      source.prepare(model, directory, listener);
      TrainingState state = files.load(weights, optimizer, ops);
      refresh(model.weights());
      runSteps(files, state, listener);
      result.save(weights);
      files.finish();
    }
  }

  /// What happens to the trained weights.
  @FunctionalInterface
  public interface Result {
    /// Writes them; must leave the same files when called again.
    ///
    /// @param weights F32
    void save(Weights weights) throws IOException;
  }

  private void runSteps(TrainingDirectory files, TrainingState state, TrainingListener listener)
      throws IOException, InterruptedException {
    while (state.step() < source.steps()) {
      Progress done = step(state);
      state.add(done);
      boolean last = done.step() == done.steps();
      if (last || done.step() % options.logEvery() == 0) {
        files.log().write(done, state.takeMeans());
      }
      boolean interrupted = Thread.interrupted();
      if (last || interrupted || done.step() % options.checkpointEvery() == 0) {
        files.save(state, weights, optimizer);
        interrupted |= Thread.interrupted();
      }
      listener.step(done);
      if (interrupted) {
        throw new InterruptedException(
            "training interrupted after step %d of %d; the same command continues it"
                .formatted(done.step(), done.steps()));
      }
    }
  }

  /// The step after those of `state`.
  private Progress step(TrainingState state) {
    long index = state.step();
    List<MicroBatch> parts = source.step(index);
    double rate = options.schedule().at(index);
    TrainingStep done =
        TrainingStep.run(
            model, optimizer, parts, options.gradientCheckpointing(), index + 1, rate, stepMemory);
    long tokens = state.numTokens();
    for (MicroBatch part : parts) {
      tokens += part.batch().tokens();
    }
    return new Progress(
        index + 1,
        source.steps(),
        source.epoch(index + 1),
        done.loss(),
        rate,
        done.gradNorm(),
        done.metrics(),
        tokens);
  }

  /// Everything that decides the result, by option name.
  Map<String, String> describe() {
    Map<String, String> all = new LinkedHashMap<>(source.options());
    all.put("steps", Long.toString(source.steps()));
    all.put("schedule", options.schedule().toString());
    all.put("optimizer", options.optimizer().toString());
    all.put("log_every", Integer.toString(options.logEvery()));
    all.put("backend", ops.backend());
    if (options.precision() != Precision.F32) {
      all.put("precision", options.precision().name());
    }
    return all;
  }

  /// Frees weights, gradients and moments.
  @Override
  public void close() {
    close(model, stepMemory, memory);
  }

  private static void close(
      @Nullable Transformer model, TensorArena stepMemory, TensorArena memory) {
    if (model != null) {
      model.close();
    }
    stepMemory.close();
    memory.close();
  }
}
