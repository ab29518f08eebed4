package io.github.retmask.backend;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/// Base of the contract tests of one op: a backend opened with two threads for every test.
abstract class OpContract {
  private final KernelsContract contract;
  Workbench bench;

  OpContract(KernelsContract contract) {
    this.contract = contract;
  }

  @BeforeEach
  void openBackend() {
    bench = open(2);
  }

  @AfterEach
  void closeBackend() {
    bench.close();
  }

  Workbench open(int threads) {
    return new Workbench(contract, threads);
  }

  /// What a test computes on a backend: some outputs, each an array.
  interface Computation {
    float[][] on(Workbench bench);
  }

  /// The same bits with 1, 2 and 3 threads, and when run again until compiled.
  void assertReproducible(String what, Computation computation) {
    float[][] want = computation.on(bench);
    for (int threads = 1; threads <= 3; threads++) {
      try (Workbench other = open(threads)) {
        assertSameBits(what + " with " + threads + " threads", computation.on(other), want);
      }
    }
    for (int run = 0; run < 200; run++) {
      try (Workbench again = run % 50 == 0 ? open(2) : null) {
        assertSameBits(what + ", run " + run, computation.on(again == null ? bench : again), want);
      }
    }
  }

  static void assertSameBits(String what, float[][] got, float[][] want) {
    for (int i = 0; i < want.length; i++) {
      TensorAssert.assertThat(what + ", output " + i, got[i]).hasBits(want[i]);
    }
  }

  /// Central differences of fourth order: the gradient of a smooth loss, exact to about 1e-10 of
  /// its magnitude.
  static double[] gradient(float[] at, java.util.function.ToDoubleFunction<double[]> loss) {
    double step = 1e-3;
    double[] x = new double[at.length];
    for (int i = 0; i < x.length; i++) {
      x[i] = at[i];
    }
    double[] gradient = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      double[] f = new double[5];
      for (int s = -2; s <= 2; s++) {
        x[i] = at[i] + s * step;
        f[s + 2] = loss.applyAsDouble(x);
      }
      x[i] = at[i];
      gradient[i] = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * step);
    }
    return gradient;
  }
}
