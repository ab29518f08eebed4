package io.github.retmask.benchmarks.peers;

import java.util.Random;

/// Asked for `MxKxN CALLS`; answers the seconds of one call, then [#PROBES] elements of the product.
final class SgemmEngine implements Engine {
  static final int PROBES = 16;

  private final Sgemm sgemm;
  private String loaded = ""; // size

  SgemmEngine(Sgemm sgemm) {
    this.sgemm = sgemm;
  }

  /// Operands of a size, M x K and N x K values from -1 to 1.
  static float[] operand(long seed, int count) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = 2 * random.nextFloat() - 1;
    }
    return values;
  }

  /// Row and column of the elements that are compared, of all parts of the product.
  static int[] probe(int index, int m, int n) {
    Random random = new Random(index);
    return new int[] {random.nextInt(m), random.nextInt(n)};
  }

  @Override
  public String answer(String[] request) {
    int[] size = PeerOptions.numbers(request[0]);
    if (!loaded.equals(request[0])) {
      float[] x = operand(1, Math.multiplyExact(size[0], size[1]));
      float[] w = operand(2, Math.multiplyExact(size[2], size[1]));
      sgemm.load(x, w, size[0], size[1], size[2]);
      loaded = request[0];
    }
    int calls = Integer.parseInt(request[1]);
    long begin = System.nanoTime();
    for (int call = 0; call < calls; call++) {
      sgemm.multiply();
    }
    StringBuilder said = new StringBuilder();
    said.append((System.nanoTime() - begin) / 1e9 / calls);
    for (int i = 0; i < PROBES; i++) {
      int[] at = probe(i, size[0], size[2]);
      said.append(' ').append(sgemm.at(at[0], at[1]));
    }
    return said.toString();
  }
}
