package io.github.retmask.benchmarks.gpu;

import io.github.retmask.backend.Ops;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Random;

/// Tensors of normal values in memory of a backend. Large ones repeat a pattern: what is timed does not
/// depend on it.
final class RandomTensors {
  private static final int PATTERN = 1 << 20; // elements

  private final Ops ops;
  private final float[] pattern = new float[PATTERN];

  RandomTensors(Ops ops) {
    this.ops = ops;
    Random random = new Random(1);
    for (int i = 0; i < PATTERN; i++) {
      pattern[i] = (float) random.nextGaussian();
    }
  }

  /// A new tensor of mean 0 and standard deviation `scale`.
  Tensor normal(TensorArena arena, String name, double scale, DType dtype, long... dims) {
    Tensor tensor = arena.allocate(name, dtype, dims);
    long width = tensor.dim(-1);
    long rows = tensor.size() / width;
    int together = (int) Math.clamp(PATTERN / width, 1, rows);
    Tensor flat = tensor.view(rows, width);
    try (HostArena host = new HostArena()) {
      float[] values = new float[Math.toIntExact(together * width)];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) scale * pattern[i % PATTERN];
      }
      Tensor block = host.floats(name, together, width).copyFrom(values);
      for (long from = 0; from < rows; from += together) {
        long to = Math.min(rows, from + together);
        ops.cast(flat.slice(from, to), block.slice(0, to - from));
      }
    }
    return tensor;
  }
}
