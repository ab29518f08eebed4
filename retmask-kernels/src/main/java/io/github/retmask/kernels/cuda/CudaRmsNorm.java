package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.Tensor;

/// Launchers of `rms_norm.cu`.
final class CudaRmsNorm {
  private static final String STEM = "rms_norm";
  private static final int WARP = 32;

  /// Threads of a block whose teams are warps or less.
  private static final int THREADS = 256;

  /// Packs that a thread of the forward keeps, as `HELD` in `rms_norm.cu`.
  private static final int HELD = 4;

  /// Elements of a row that a thread of the backward takes at once.
  private static final int HELD_BACKWARD = 8;

  private static final int MOST_THREADS = 512;
  private static final int MOST_BACKWARD_THREADS = 1024;

  /// Blocks of the backward at most, each with a partial sum of the weight's gradient.
  private static final int CHUNKS = 1024;

  private static final int CHUNKS_OF_LONG_ROWS = 512;

  private CudaRmsNorm() {}

  /// The threads that share a row; they depend on its length alone.
  ///
  /// @param team neighbouring lanes of a warp, a power of two, or all threads of the block
  /// @param threads of a block
  record Team(int team, int threads) {

    /// The team that normalises rows of `width` elements.
    static Team forward(int width, int packed) {
      return of(Math.ceilDiv(width, packed), HELD, MOST_THREADS);
    }

    /// @param items of a row, of which a thread takes `each` where one warp is enough
    static Team of(long items, int each, int mostThreads) {
      if (items <= (long) WARP * each) {
        int lanes = Integer.highestOneBit(2 * Math.clamp(items, 1, WARP) - 1); // next power of two
        return new Team(lanes, THREADS);
      }
      int threads = (int) Math.min(mostThreads, roundUp(Math.ceilDiv(items, each), WARP));
      return new Team(threads, threads);
    }

    int teams() {
      return threads / team;
    }

    /// Bytes in which the warps of a team exchange their sums.
    int sumBytes() {
      return team > WARP ? 2 * threads / WARP * Float.BYTES : 0;
    }
  }

  static void rmsNorm(Gpu gpu, Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    Launch launch = gpu.launch(STEM, "rms_norm" + Gpu.suffix(x)).tensor(out).tensor(rstd).tensor(x);
    run(launch, x, weight, eps);
  }

  static void addRmsNorm(
      Gpu gpu, Tensor out, Tensor rstd, Tensor sum, Tensor a, Tensor b, Tensor weight, float eps) {
    Launch launch =
        gpu.launch(STEM, "add_rms_norm" + Gpu.suffix(sum))
            .tensor(out)
            .tensor(rstd)
            .tensor(sum)
            .tensor(a)
            .tensor(b);
    run(launch, sum, weight, eps);
  }

  private static void run(Launch launch, Tensor x, Tensor weight, float eps) {
    long rows = x.dim(0);
    int width = Math.toIntExact(x.dim(1));
    long packs = Math.ceilDiv(width, CudaElementwise.packed(x));
    Team team = Team.forward(width, CudaElementwise.packed(x));
    int rounds = packs <= Math.min(team.team, WARP) ? HELD : 1; // rows that a team takes at once
    long blocks = Math.ceilDiv(rows, (long) team.teams() * rounds);
    launch
        .tensor(weight)
        .integer(weight.dtype().ordinal())
        .longs(rows)
        .integer(width)
        .real(eps)
        .integer(team.team)
        .integer(rounds)
        .run(blocks, 1, 1, team.threads, team.sumBytes());
  }

  /// The weight's gradient is summed in chunks of rows whose size depends on the shape alone, then
  /// over the chunks.
  static void backward(
      Gpu gpu,
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx) {
    long rows = x.dim(0);
    int width = Math.toIntExact(x.dim(1));
    int packed = CudaElementwise.packed(x);
    Team team = Team.of(Math.ceilDiv(width, packed), HELD_BACKWARD / packed, MOST_BACKWARD_THREADS);
    long most = team.teams() == 1 ? CHUNKS_OF_LONG_ROWS : CHUNKS;
    long chunk = Math.max(1, roundUp(Math.ceilDiv(rows, most), team.teams()));
    int chunks = Math.toIntExact(Math.ceilDiv(rows, chunk));
    long partial = gpu.scratch((long) chunks * width * Float.BYTES); // [chunks,W]
    int teamSums = team.teams() == 1 ? 0 : team.teams() * width * Float.BYTES;
    int sums = (int) roundUp(Math.max(teamSums, team.sumBytes()), 16);
    int stages = packed == 4 ? 2 : 3; // as STAGES in rms_norm.cu, of x and dOut each
    int stageBytes = stages * 2 * HELD_BACKWARD / packed * 16 * team.threads;
    boolean staged =
        width <= team.team * HELD_BACKWARD && sums + stageBytes <= gpu.driver().sharedBytes();
    gpu.launch(STEM, "rms_norm_backward" + Gpu.suffix(x))
        .tensor(dx)
        .address(partial)
        .tensor(dOut)
        .tensor(x)
        .tensor(rstd)
        .tensor(weight)
        .integer(weight.dtype().ordinal())
        .longs(rows)
        .integer(width)
        .integer(intoDx == Accumulate.ADD ? 1 : 0)
        .integer(team.team)
        .longs(chunk)
        .integer(staged ? 1 : 0)
        .run(chunks, 1, 1, team.threads, staged ? sums + stageBytes : sums);
    gpu.launch(STEM, "rms_norm_weight_gradient")
        .tensor(dWeight)
        .address(partial)
        .integer(chunks)
        .integer(width)
        .run(Math.ceilDiv(width, WARP), 1, 1, WARP * WARP, WARP * WARP * Float.BYTES);
  }

  private static long roundUp(long value, int multiple) {
    return Math.ceilDiv(value, multiple) * multiple;
  }
}
