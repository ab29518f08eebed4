package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.TokenDraw;
import io.github.retmask.generate.Sampler;
import io.github.retmask.tensor.Tensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/// Launchers of `sampler.cu`.
final class CudaSampler {
  private static final String STEM = "sampler";
  private static final int THREADS = 256;
  private static final int WARPS = THREADS / 32;

  // As in sampler.cu.
  private static final int STRETCH = 4096;
  private static final int BINS = 2048;
  private static final int MOST_CANDIDATES = 1024;
  private static final int MOST_OF_STRETCH = 256;
  private static final int UNDECIDED = -1;
  private static final int TOP_BYTES = 8;
  private static final int BEST_BYTES = 24;
  private static final int CUT_BYTES = 48;
  private static final int DRAW_BYTES = 40;

  private CudaSampler() {}

  /// Rows that the GPU cannot decide with certainty are drawn on the host.
  static int[] draw(Gpu gpu, Tensor logits, List<TokenDraw> draws) {
    if (draws.isEmpty()) {
      return new int[0];
    }
    penalise(gpu, logits, draws);
    int[] ids = drawCertain(gpu, logits, draws);
    Sampler sampler = new Sampler();
    for (int m = 0; m < ids.length; m++) {
      if (ids[m] == UNDECIDED) {
        float[] row = logits.slice(m, m + 1).toHost().toFloats();
        ids[m] = sampler.sample(row, draws.get(m).withoutPenalty());
      }
    }
    return ids;
  }

  /// Tokens, or [#UNDECIDED].
  static int[] drawCertain(Gpu gpu, Tensor logits, List<TokenDraw> draws) {
    int rows = draws.size();
    int vocab = Math.toIntExact(logits.dim(1));
    int stretches = Math.ceilDiv(vocab, STRETCH);
    long how = gpu.upload(structs(draws));
    long parts = (long) rows * stretches;
    long tops = gpu.scratch(parts * TOP_BYTES);
    long bests = gpu.scratch(parts * BEST_BYTES);
    long candidates = gpu.scratch(parts * MOST_OF_STRETCH * TOP_BYTES);
    long listed = gpu.scratch(parts * Integer.BYTES);
    long cuts = gpu.scratch((long) rows * CUT_BYTES);
    long ids = gpu.scratch((long) rows * Integer.BYTES);
    gpu.launch(STEM, "sampler_top")
        .address(tops)
        .tensor(logits)
        .integer(vocab)
        .run(stretches, rows, 1, THREADS, WARPS * TOP_BYTES);
    if (draws.stream().anyMatch(d -> d.temperature() > 0)) {
      cut(gpu, cuts, logits, tops, how, draws, stretches);
      gpu.launch(STEM, "sampler_score")
          .address(bests)
          .address(candidates)
          .address(listed)
          .tensor(logits)
          .address(tops)
          .address(cuts)
          .address(how)
          .integer(vocab)
          .run(stretches, rows, 1, THREADS, (1 + WARPS) * BEST_BYTES + THREADS * Integer.BYTES);
    }
    gpu.launch(STEM, "sampler_pick")
        .address(ids)
        .address(bests)
        .address(candidates)
        .address(listed)
        .address(tops)
        .address(cuts)
        .address(how)
        .integer(stretches)
        .integer(vocab)
        .run(
            rows,
            1,
            1,
            MOST_CANDIDATES,
            MOST_CANDIDATES * (Long.BYTES + TOP_BYTES)
                + MOST_CANDIDATES / 32 * BEST_BYTES
                + Long.BYTES
                + Integer.BYTES);
    return gpu.downloadInts(ids, rows);
  }

  /// Finds where top-k and top-p cut; without these filters, that nothing is cut.
  private static void cut(
      Gpu gpu,
      long cuts,
      Tensor logits,
      long tops,
      long how,
      List<TokenDraw> draws,
      int stretches) {
    int rows = draws.size();
    int vocab = Math.toIntExact(logits.dim(1));
    long counts = 0;
    long weights = 0;
    if (draws.stream().anyMatch(d -> d.topK() > 0 || d.topP() < 1)) {
      long bins = (long) rows * BINS;
      counts = gpu.scratch(bins * Integer.BYTES);
      weights = gpu.scratch(bins * Long.BYTES);
      gpu.zero(counts, bins * Integer.BYTES);
      gpu.zero(weights, bins * Long.BYTES);
      gpu.launch(STEM, "sampler_count")
          .address(counts)
          .address(weights)
          .tensor(logits)
          .address(tops)
          .address(how)
          .integer(vocab)
          .run(stretches, rows, 1, THREADS, BINS * (Integer.BYTES + Long.BYTES));
    }
    gpu.launch(STEM, "sampler_cut")
        .address(cuts)
        .address(counts)
        .address(weights)
        .address(how)
        .integer(vocab)
        .run(
            rows,
            1,
            1,
            THREADS,
            (BINS + 1) * Long.BYTES
                + (BINS + 2) * Integer.BYTES
                + THREADS * (Long.BYTES + Integer.BYTES)
                + 3 * Integer.BYTES);
  }

  /// The structs `TokenDraw` of the kernels, as integers.
  private static int[] structs(List<TokenDraw> draws) {
    ByteBuffer bytes =
        ByteBuffer.allocate(draws.size() * DRAW_BYTES).order(ByteOrder.nativeOrder());
    for (TokenDraw d : draws) {
      bytes.putLong(d.key()).putDouble(d.temperature()).putDouble(d.topP()).putDouble(d.lowest());
      bytes.putInt(d.topK()).putInt(0);
    }
    int[] integers = new int[bytes.capacity() / Integer.BYTES];
    bytes.flip().asIntBuffer().get(integers);
    return integers;
  }

  private static void penalise(Gpu gpu, Tensor logits, List<TokenDraw> draws) {
    int[] starts = new int[draws.size() + 1];
    float[] penalties = new float[draws.size()];
    int most = 0;
    for (int m = 0; m < penalties.length; m++) {
      int count = draws.get(m).seen().length;
      starts[m + 1] = starts[m] + count;
      penalties[m] = draws.get(m).repetitionPenalty();
      most = Math.max(most, count);
    }
    if (most == 0) {
      return;
    }
    int[] seen = new int[starts[penalties.length]];
    for (int m = 0; m < penalties.length; m++) {
      int[] ids = draws.get(m).seen();
      System.arraycopy(ids, 0, seen, starts[m], ids.length);
    }
    long ids = gpu.upload(seen);
    long places = gpu.upload(starts);
    long factors = gpu.upload(penalties);
    gpu.launch(STEM, "sampler_penalise")
        .tensor(logits)
        .address(ids)
        .address(places)
        .address(factors)
        .integer(logits.dim(1))
        .run(Math.ceilDiv(most, THREADS), draws.size(), 1, THREADS, 0);
  }
}
