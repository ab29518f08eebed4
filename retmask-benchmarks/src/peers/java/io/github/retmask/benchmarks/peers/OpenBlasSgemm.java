package io.github.retmask.benchmarks.peers;

import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.openblas.global.openblas;

/// OpenBLAS as bytedeco packs it.
final class OpenBlasSgemm implements Sgemm {
  private FloatPointer x = new FloatPointer();
  private FloatPointer w = new FloatPointer();
  private FloatPointer out = new FloatPointer();
  private int rows;
  private int inner;
  private int columns;

  OpenBlasSgemm(int threads) {
    openblas.blas_set_num_threads(threads);
  }

  @Override
  public void load(float[] xs, float[] ws, int m, int k, int n) {
    x.close();
    w.close();
    out.close();
    x = new FloatPointer(xs);
    w = new FloatPointer(ws);
    out = new FloatPointer((long) m * n);
    rows = m;
    inner = k;
    columns = n;
  }

  @Override
  public void multiply() {
    openblas.cblas_sgemm(
        openblas.CblasRowMajor,
        openblas.CblasNoTrans,
        openblas.CblasTrans,
        rows,
        columns,
        inner,
        1f,
        x,
        inner,
        w,
        inner,
        0f,
        out,
        columns);
  }

  @Override
  public float at(int row, int column) {
    return out.get((long) row * columns + column);
  }
}
