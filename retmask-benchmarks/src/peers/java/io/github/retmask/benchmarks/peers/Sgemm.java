package io.github.retmask.benchmarks.peers;

/// `out = x w^T` in F32, with w as a checkpoint stores it.
interface Sgemm {
  String WORK = "sgemm";

  /// Takes the operands of what follows.
  ///
  /// @param x `[M,K]`
  /// @param w `[N,K]`
  void load(float[] x, float[] w, int m, int k, int n);

  /// The product.
  void multiply();

  /// An element of the product.
  float at(int row, int column);
}
