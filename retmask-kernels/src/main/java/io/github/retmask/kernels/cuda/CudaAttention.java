package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Attention with an online softmax over blocks of keys (Dao et al. 2022).
///
/// Rows with many new tokens compute, tiles of queries walking over the keys; rows with few stream the
/// cache, a block of threads per span of keys. Both add up in the same order, which positions alone
/// decide. Blocks of keys that a head does not see are skipped, skipped heads cost nothing.
final class CudaAttention {
  static final String STEM = "attention";
  static final String FLASH = "flash_attention";
  static final String DECODING = "flash_decoding";

  /// Largest D that kernels exist for.
  static final int MOST_COLUMNS = 256;

  /// Keys of a span, as in `attention.cuh`.
  static final int SPAN = 256;

  /// Pairs of query head and token of a kv head up to which a row streams its cache.
  private static final int FEW_LANES = 16;

  /// Memory for sums of spans beyond which many queries are not split.
  private static final long MOST_PARTIAL_BYTES = 256L << 20;

  static final int FLASH_THREADS = 128;
  private static final int FLASH_KEYS = 64;
  private static final int TILE_THREADS = 256;
  private static final int MASS_THREADS = 128;

  private CudaAttention() {}

  static void attention(
      Gpu gpu,
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    int headDim = headDim(q);
    Call call =
        new Call(
            gpu,
            z,
            lse,
            q,
            k,
            v,
            layout,
            gpu.image(layout),
            gpu.image(plan, headDim),
            spec,
            Reads.of(gpu, readout, (int) q.dim(1)));
    int few = Math.max(1, FEW_LANES * call.kvHeads() / call.heads());
    int fewTokens = 0; // of the longest row with few
    int fewSpans = 0;
    int spans = 0;
    boolean many = false;
    for (int r = 0; r < layout.rows(); r++) {
      int ofRow = Math.ceilDiv(layout.keys(r), SPAN);
      if (layout.length(r) <= few) {
        fewTokens = Math.max(fewTokens, layout.length(r));
        fewSpans = Math.max(fewSpans, ofRow);
      } else {
        many = true;
        spans = Math.max(spans, ofRow);
      }
    }
    if (many) {
      call.many(few, spans);
    }
    if (fewTokens > 0) {
      call.few(few, fewTokens, fewSpans);
    }
    if (readout != null) {
      call.masses(readout);
    }
  }

  /// D of a `[N,H,D]` tensor.
  static int headDim(Tensor q) {
    int headDim = (int) q.dim(2);
    if (headDim > MOST_COLUMNS) {
      throw new UnsupportedOperationException(
          "cuda attention: head dimension " + headDim + ", want at most " + MOST_COLUMNS);
    }
    return headDim;
  }

  /// Floats from one row of a tile to the next, as in `attention.cuh`.
  static int tileStride(int headDim) {
    return (Math.ceilDiv(headDim, 4) | 1) * 4;
  }

  /// Columns that a kernel of tiles is made for.
  static int padded(int headDim) {
    return headDim <= 32 ? 32 : headDim <= 64 ? 64 : headDim <= 128 ? 128 : 256;
  }

  /// Columns that a kernel of tensor cores is made for.
  static int flashPadded(int headDim) {
    return headDim <= 64 ? 64 : headDim <= 96 ? 96 : headDim <= 128 ? 128 : 256;
  }

  /// What read-outs need on the device; all zero when there are none.
  private record Reads(
      long queries, int count, long top, long weight, long logSumExp, long tops, long sums) {

    static Reads of(Gpu gpu, @Nullable AttentionReadout readout, int heads) {
      if (readout == null || readout.queries().length == 0) {
        return new Reads(0, 0, 0, 0, 0, 0, 0);
      }
      int count = readout.queries().length;
      return new Reads(
          gpu.upload(readout.queries()),
          count,
          Launch.address(readout.topPosition()),
          Launch.address(readout.topWeight()),
          Launch.address(readout.logSumExp()),
          gpu.scratch((long) count * heads * Float.BYTES),
          gpu.scratch((long) count * heads * Float.BYTES));
    }

    Launch pass(Launch launch) {
      return launch
          .address(queries)
          .integer(count)
          .address(top)
          .address(weight)
          .address(logSumExp)
          .address(tops)
          .address(sums);
    }
  }

  /// Sums of spans, `[slots,H,spans]`; without values when spans are not split.
  private record Partials(int slots, int spans, long tops, long sums, long keys, long values) {
    static final Partials NONE = new Partials(0, 1, 0, 0, 0, 0);

    static Partials of(Call call, int slots, int spans) {
      long count = (long) slots * call.heads() * spans;
      Gpu gpu = call.gpu;
      return new Partials(
          slots,
          spans,
          gpu.scratch(count * Float.BYTES),
          gpu.scratch(count * Float.BYTES),
          gpu.scratch(count * Integer.BYTES),
          gpu.scratch(bytes(call, slots, spans)));
    }

    static long bytes(Call call, int slots, int spans) {
      return (long) slots * call.heads() * spans * call.headDim() * Float.BYTES;
    }

    Launch pass(Launch launch) {
      return launch.address(tops).address(sums).address(keys).address(values);
    }
  }

  private record Call(
      Gpu gpu,
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      LayoutImage rows,
      PlanImage plan,
      AttentionSpec spec,
      Reads reads) {

    int heads() {
      return (int) q.dim(1);
    }

    int kvHeads() {
      return (int) k.dim(1);
    }

    int headDim() {
      return (int) q.dim(2);
    }

    /// Rows with more than `few` tokens.
    void many(int few, int spans) {
      if (q.dtype() == DType.BF16) {
        flash(few);
      } else {
        tiles(few, spans);
      }
    }

    private void flash(int few) {
      int padded = flashPadded(headDim());
      int queries = reads.count > 0 || padded > 128 ? 64 : 128;
      Launch launch =
          gpu.launch(FLASH, "flash_attention_d" + padded + (reads.count > 0 ? "_reads" : ""))
              .tensor(z)
              .tensor(lse)
              .tensor(q)
              .tensor(k)
              .tensor(v)
              .address(rows.rows())
              .address(plan.heads())
              .address(plan.means())
              .address(gpu.tiles(layout, queries))
              .integer(kvHeads())
              .integer(headDim())
              .integer(spec.window())
              .real(spec.scale())
              .integer(few);
      reads
          .pass(launch)
          .run(
              heads(),
              Gpu.tileCount(layout, queries),
              1,
              FLASH_THREADS,
              (queries + 2 * FLASH_KEYS) * (padded + 8) * Short.BYTES);
    }

    private void tiles(int few, int spans) {
      int padded = padded(headDim());
      int queries = padded <= 128 ? 64 : 32;
      int keys = padded <= 128 ? 64 : 32;
      int tiles = Gpu.tileCount(layout, queries);
      int tokens = layout.tokens();
      boolean split =
          spans > 1
              && (long) tiles * heads() < 2L * gpu.multiprocessors()
              && Partials.bytes(this, tokens, spans) <= MOST_PARTIAL_BYTES;
      Partials partials = split ? Partials.of(this, tokens, spans) : Partials.NONE;
      int stride = tileStride(headDim());
      int floats =
          queries * stride
              + Math.max(keys * stride, queries * (keys + 4))
              + keys * padded
              + 3 * queries;
      Launch launch =
          gpu.launch(STEM, "attention_f32_d" + padded)
              .tensor(z)
              .tensor(lse)
              .tensor(q)
              .tensor(k)
              .tensor(v)
              .address(rows.rows())
              .address(plan.heads())
              .address(plan.means())
              .address(gpu.tiles(layout, queries))
              .integer(kvHeads())
              .integer(headDim())
              .integer(spec.window())
              .real(spec.scale())
              .integer(few);
      reads
          .pass(partials.pass(launch))
          .run(heads(), tiles, partials.spans, TILE_THREADS, floats * Float.BYTES);
      if (split) {
        merge(partials, few, 0);
      }
    }

    /// Rows of at most `few` tokens.
    ///
    /// @param slots tokens of the longest
    void few(int few, int slots, int spans) {
      int most = slots * heads() / kvHeads();
      Partials partials = Partials.of(this, layout.rows() * slots, spans);
      String kernel;
      int lanes;
      int threads;
      int shared;
      if (q.dtype() == DType.BF16) {
        int padded = flashPadded(headDim());
        kernel = "flash_decoding_d" + padded;
        lanes = 16;
        threads = FLASH_THREADS;
        int ring = 2 * (padded <= 128 ? 32 : 16); // rows of a warp
        shared = lanes * (28 + 4 * 12) + (lanes + 4 * ring) * (padded + 8) * Short.BYTES;
      } else {
        boolean wide = headDim() > 128;
        int blocks = SPAN / (wide ? 32 : 64);
        lanes = most <= 4 ? 4 : 8;
        kernel = "attention_few_f32_" + lanes + (wide ? "_wide" : "");
        threads = SPAN;
        int floats = 2 * SPAN * 36 + lanes * tileStride(headDim()) + lanes * SPAN;
        shared = (lanes * (24 + 24 * blocks) + 15 & -16) + floats * Float.BYTES;
      }
      Launch launch =
          gpu.launch(q.dtype() == DType.BF16 ? DECODING : STEM, kernel)
              .tensor(q)
              .tensor(k)
              .tensor(v)
              .address(rows.rows())
              .address(plan.heads())
              .integer(heads())
              .integer(kvHeads())
              .integer(headDim())
              .integer(spec.window())
              .real(spec.scale())
              .integer(few)
              .integer(slots);
      partials
          .pass(launch)
          .run((long) kvHeads() * Math.ceilDiv(most, lanes), spans, layout.rows(), threads, shared);
      merge(partials, few, slots);
    }

    /// @param slots of a row; 0 when every token is one
    private void merge(Partials partials, int few, int slots) {
      Launch launch =
          gpu.launch(STEM, "attention_merge" + Gpu.suffix(q))
              .tensor(z)
              .tensor(lse)
              .address(rows.rows())
              .address(rows.rowOf())
              .address(plan.heads())
              .address(plan.means())
              .integer(headDim())
              .integer(spec.window())
              .integer(few)
              .integer(slots)
              .integer(partials.spans);
      reads
          .pass(partials.pass(launch))
          .run(
              partials.slots,
              heads(),
              Math.ceilDiv(headDim(), 32),
              TILE_THREADS,
              TILE_THREADS * (32 + 3) * Float.BYTES);
    }

    void masses(AttentionReadout readout) {
      int count = readout.queries().length;
      int perQuery = count == 0 ? 0 : readout.spans()[0].length;
      if (perQuery == 0) {
        return;
      }
      int[] ranges = new int[2 * count * perQuery];
      int at = 0;
      for (int[][] ofQuery : readout.spans()) {
        for (int[] range : ofQuery) {
          ranges[at++] = range[0];
          ranges[at++] = range[1];
        }
      }
      gpu.launch(STEM, "attention_mass" + Gpu.suffix(q))
          .tensor(readout.spanMass())
          .address(reads.tops)
          .address(reads.sums)
          .address(reads.queries)
          .address(gpu.upload(ranges))
          .tensor(q)
          .tensor(k)
          .address(rows.rows())
          .address(rows.rowOf())
          .address(plan.heads())
          .integer(perQuery)
          .integer(kvHeads())
          .integer(headDim())
          .integer(spec.window())
          .real(spec.scale())
          .run(count, heads(), 1, MASS_THREADS, (MASS_THREADS + headDim()) * Float.BYTES);
    }
  }
}
