package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/// Log-probabilities of labelled tokens, and gradients of losses over them. The lm_head reads the
/// hidden states of tokens that predict a labelled one, and no others.
public final class LogProbs {

  private LogProbs() {}

  /// Forward only, as for reference log-probabilities and evaluation.
  ///
  /// @param step memory of the pass; nothing of the result lies in it
  public static TokenLogProbs of(Transformer model, LabelledBatch batch, TensorArena step) {
    Prediction p = predict(model, batch, true, Keep.RESULT, step);
    Tensor lmHead = model.weights().lmHead();
    model.ops().tokenLogProbs(p.logps(), p.lse(), p.rows(), lmHead, p.targets());
    return p.result(batch);
  }

  /// Forward and backward of one micro-batch.
  ///
  /// @param grads gradients of all weights, added to
  /// @param dGates gradients of the gates, one `[B,H]` per layer, added to; or null. With them every row
  ///   is computed whole, and sums over tokens that rows share have other last bits
  /// @param loss of this micro-batch
  /// @param stepUnits units of the whole step, see [Loss]
  /// @param checkpointing decides time and memory, no bit of the result
  /// @param step memory of the passes; nothing of the result lies in it
  public static Loss.Part gradients(
      Weights grads,
      @Nullable List<Tensor> dGates,
      Transformer model,
      LabelledBatch batch,
      Loss loss,
      double stepUnits,
      GradientCheckpointing checkpointing,
      TensorArena step) {
    return gradients(grads, dGates, model, batch, loss, stepUnits, checkpointing, step, _ -> {});
  }

  /// The same, with word of every part of `grads` that is complete: an lm_head of its own, then as
  /// [Transformer#backward] says.
  public static Loss.Part gradients(
      Weights grads,
      @Nullable List<Tensor> dGates,
      Transformer model,
      LabelledBatch batch,
      Loss loss,
      double stepUnits,
      GradientCheckpointing checkpointing,
      TensorArena step,
      Consumer<Weights.Part> complete) {
    Keep keep =
        switch (checkpointing) {
          case ON -> Keep.LAYER_INPUTS;
          case OFF -> dGates == null ? Keep.FOR_BACKWARD : Keep.FOR_GATE_GRADIENTS;
        };
    // gates are those of a row: its gradients are not another row's
    Prediction p = predict(model, batch, dGates == null, keep, step);
    Ops ops = model.ops();
    Tensor lmHead = model.weights().lmHead();
    Tensor dLogps = step.floats("d_logps", batch.labels()); // [M]
    Tensor dRows = model.activation(step, "d_hidden_rows", p.rows().shape().dims()); // [M,C]
    float[] known = loss.constantGradient(stepUnits); // [M]
    Loss.Part part;
    if (known != null) {
      dLogps.copyFrom(known);
      ops.tokenLogProbsAndGradients(
          p.logps(), p.lse(), dRows, grads.lmHead(), dLogps, p.rows(), lmHead, p.targets());
      part = loss.part(p.result(batch), stepUnits);
    } else {
      ops.tokenLogProbs(p.logps(), p.lse(), p.rows(), lmHead, p.targets());
      part = loss.part(p.result(batch), stepUnits);
      dLogps.copyFrom(part.dLogps());
      ops.tokenLogProbsBackward(
          dRows, grads.lmHead(), dLogps, p.rows(), lmHead, p.targets(), p.lse());
    }
    if (!grads.isTied()) {
      complete.accept(Weights.Part.LM_HEAD);
    }
    Tensor dHidden =
        model.activation(step, "d_hidden", p.activations().hidden().shape().dims()); // [N,C]
    ops.scatterRows(dHidden, dRows, p.sources());
    model.backward(grads, dGates, dHidden, p.activations(), step, complete);
    return part;
  }

  /// Everything up to the lm_head.
  private static Prediction predict(
      Transformer model, LabelledBatch batch, boolean sharing, Keep keep, TensorArena step) {
    LabelledBatch.Input input = batch.input(sharing ? model.config() : null);
    Activations a =
        model.forward(input.batch(), null, keep, ReadoutRequest.NONE, step, Observer.NONE);
    Tensor sources = step.ints("sources", input.sources()); // [M]
    Tensor rows =
        model.activation(step, "hidden_rows", batch.labels(), model.config().hiddenSize()); // [M,C]
    model.ops().gatherRows(rows, a.hidden(), sources);
    return new Prediction(
        a,
        sources,
        step.ints("targets", batch.targets()),
        rows,
        step.floats("logps", batch.labels()),
        step.floats("lse", batch.labels()));
  }

  /// @param sources I32 `[M]`
  /// @param targets I32 `[M]`
  /// @param rows `[M,C]`
  /// @param logps `[M]`, to be filled
  /// @param lse `[M]`, to be filled
  private record Prediction(
      Activations activations,
      Tensor sources,
      Tensor targets,
      Tensor rows,
      Tensor logps,
      Tensor lse) {

    TokenLogProbs result(LabelledBatch batch) {
      return new TokenLogProbs(logps.toFloats(), batch.rowStart());
    }
  }
}
