package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The three products of a linear layer, all as `C[m,n] (+)= sum_k A[m,k] B[k,n]`:
///
/// | op              | C         | A      | B    | k runs over |
/// |-----------------|-----------|--------|------|-------------|
/// | matmul          | out [N,O] | x      | W^T  | inputs      |
/// | backward input  | dx [N,I]  | dOut   | W    | outputs     |
/// | backward weight | dW [O,I]  | dOut^T | x    | tokens      |
///
/// [PackedProduct] bounds them by the multiply-adds, [FewRows] a forward product of few rows or few
/// outputs by reading the weight, or x, once.
final class VectorMatmul {
  private VectorMatmul() {}

  static void matmul(WorkerPool pool, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    matmuls(pool, x, List.of(new Projection(out, weight, bias)));
  }

  /// Products of one x, which is read once for all that are packed, and for few rows of x with weights
  /// of one form.
  static void matmuls(WorkerPool pool, Tensor x, List<Projection> projections) {
    if (FewRows.suits(x, projections)) {
      FewRows.multiply(pool, x, projections);
      return;
    }
    List<PackedProduct> packed = new ArrayList<>();
    for (Projection one : projections) {
      if (FewRows.suits(x, one.weight())) {
        FewRows.multiply(pool, x, List.of(one));
      } else {
        packed.add(packed(x, one));
      }
    }
    if (!packed.isEmpty()) {
      PackedProduct.run(pool, packed);
    }
  }

  private static PackedProduct packed(Tensor x, Projection one) {
    int inner = (int) x.dim(1);
    return new PackedProduct(
        new Operand(x, true),
        new Operand(one.weight(), true),
        one.out().segment(),
        x.dim(0),
        (int) one.weight().dim(0),
        ChainLayout.of(inner, Kernels.chains(inner)),
        false,
        one.bias() == null ? null : one.bias().toFloats());
  }

  static void backwardInput(
      WorkerPool pool, Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    int outs = (int) weight.dim(0);
    int inner = (int) weight.dim(1);
    new PackedProduct(
            new Operand(dOut, true),
            new Operand(weight, false),
            dx.segment(),
            dOut.dim(0),
            inner,
            ChainLayout.of(outs, 1),
            intoDx == Accumulate.ADD,
            null)
        .run(pool);
  }

  /// The chains start from the former content of dWeight and dBias, so that rows given in several
  /// calls add up to the same bits as in one.
  static void backwardWeight(
      WorkerPool pool, Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    int outs = (int) dWeight.dim(0);
    int inner = (int) dWeight.dim(1);
    new PackedProduct(
            new Operand(dOut, false),
            new Operand(x, false),
            dWeight.segment(),
            outs,
            inner,
            ChainLayout.of((int) x.dim(0), 1),
            true,
            null)
        .run(pool);
    if (dBias != null) {
      addRows(dBias, dOut);
    }
  }

  /// `sum[j] += rows[n][j]`, n ascending.
  private static void addRows(Tensor sum, Tensor rows) {
    float[] total = sum.toFloats();
    MemorySegment from = rows.segment();
    for (long n = 0; n < rows.dim(0); n++) {
      long row = n * total.length * 4;
      for (int j = 0; j < total.length; j++) {
        total[j] += Lanes.get(from, row + j * 4L);
      }
    }
    sum.copyFrom(total);
  }
}
