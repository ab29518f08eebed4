package io.github.retmask.examples.cli;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// One pass over a text, in pieces through a cache, so that memory does not grow with the square of
/// its length. How it is cut does not change a bit of the result.
final class ForwardPass implements AutoCloseable {
  /// Enough to fill the kernels; logits of one piece take 128 MiB with a vocabulary of 128 Ki.
  static final int PIECE = 256;

  private final Transformer model;
  private final int[] ids;
  private final HeadMask mask;
  private final int piece;
  private final HostArena results = new HostArena();
  private final @Nullable Tensor argmax; // I32 [L,H,T]
  private final @Nullable Tensor argmaxWeight; // [L,H,T]
  private final @Nullable Tensor logprobs; // [T-1]

  /// @param ids T tokens
  /// @param argmax whether where every head looks is kept
  /// @param logprobs whether log-probabilities of the tokens are kept
  /// @param piece tokens that go through the model at once
  ForwardPass(
      Transformer model, int[] ids, HeadMask mask, boolean argmax, boolean logprobs, int piece) {
    ModelConfig config = model.config();
    this.model = model;
    this.ids = ids;
    this.mask = mask;
    this.piece = piece;
    long[] perQuery = {config.layerCount(), config.heads(), ids.length};
    this.argmax = argmax ? results.allocate("argmax", DType.I32, perQuery) : null;
    this.argmaxWeight = argmax ? results.floats("argmax_weight", perQuery) : null;
    this.logprobs = logprobs ? results.floats("logprobs", ids.length - 1) : null;
  }

  /// Adds the results; they are computed while the file is written.
  void addTo(SafeTensorsWriter file) {
    file.add("logits", DType.F32, Shape.of(ids.length, model.config().vocabSize()), this::run);
    for (Tensor tensor : new @Nullable Tensor[] {argmax, argmaxWeight, logprobs}) {
      if (tensor != null) {
        file.add(tensor);
      }
    }
  }

  private void run(SafeTensorsWriter.Sink logits) throws IOException {
    try (KvCache cache = new KvCache(model, 1, ids.length);
        TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      for (int from = 0; from < ids.length; from += piece) {
        int[] part = Arrays.copyOfRange(ids, from, Math.min(from + piece, ids.length));
        int[] all = IntStream.range(0, part.length).toArray();
        Activations a =
            model.forward(
                Batch.of(new Batch.Row(0, part, mask, Batch.Phase.PREFILL, ids.length)),
                cache,
                Activations.Keep.RESULT,
                argmax == null ? ReadoutRequest.NONE : ReadoutRequest.of(all),
                step,
                Observer.NONE);
        logits.write(model.logits(a, step, all).toHost().segment());
        keepArgmax(a, from, part.length);
        keepLogprobs(a, from, step);
        step.reset();
      }
    }
  }

  private void keepArgmax(Activations a, int from, int queries) {
    if (argmax == null || argmaxWeight == null) {
      return;
    }
    int heads = model.config().heads();
    for (int l = 0; l < a.readouts().size(); l++) {
      AttentionReadout seen = a.readouts().get(l);
      Tensor positions = seen.topPosition().toHost(); // [Q,H]
      Tensor weights = seen.topWeight().toHost(); // [Q,H]
      for (int q = 0; q < queries; q++) {
        for (int h = 0; h < heads; h++) {
          long at = ((long) l * heads + h) * ids.length + from + q;
          argmax.setInt(at, positions.getInt((long) q * heads + h));
          argmaxWeight.set(at, weights.get((long) q * heads + h));
        }
      }
    }
  }

  /// Every token but the last predicts the one after it.
  private void keepLogprobs(Activations a, int from, TensorArena step) {
    int predicted = Math.min(a.layout().tokens(), ids.length - 1 - from);
    if (logprobs == null || predicted == 0) {
      return;
    }
    int[] next = Arrays.copyOfRange(ids, from + 1, from + 1 + predicted);
    Tensor logps = step.floats("logps", predicted);
    model
        .ops()
        .tokenLogProbs(
            logps,
            step.floats("lse", predicted),
            a.hidden().slice(0, predicted),
            model.weights().lmHead(),
            step.ints("targets", next));
    float[] values = logps.toFloats();
    for (int t = 0; t < predicted; t++) {
      logprobs.set(from + t, values[t]);
    }
  }

  @Override
  public void close() {
    results.close();
  }
}
