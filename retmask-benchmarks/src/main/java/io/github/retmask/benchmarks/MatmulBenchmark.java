package io.github.retmask.benchmarks;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// The three products of a linear layer: 2 N I O flops each; with few rows, the bytes of the weight.
public class MatmulBenchmark extends OpBenchmark {
  /// N x I x O.
  @Param({
    "3072x128x128",
    "3072x128x256",
    "3072x256x128",
    "512x512x512",
    "1024x1024x1024",
    "1x128x300",
    "1x4096x4096",
    "8x4096x4096"
  })
  public String size = "";

  /// Type of the weight: F32, BF16, F16, or Q8_0 or Q4_0 with I a multiple of 32.
  @Param("F32")
  public DType dtype = DType.F32;

  private Tensor out;
  private Tensor x;
  private Tensor stored;
  private Tensor weight; // where the backend reads it
  private Tensor dx;
  private Tensor dOut;
  private Tensor dWeight;

  @Override
  void prepare() {
    int[] n = numbers(size);
    x = normal("x", n[0], n[1]);
    stored = arena().allocate("weight", dtype, n[2], n[1]);
    if (dtype.isBlock()) {
      fillBlocks(stored);
    } else {
      kernels.cast(stored, normal("weight", n[2], n[1]));
    }
    weight = kernels.place(stored, arena());
    dOut = normal("dOut", n[0], n[2]);
    out = zeros("out", n[0], n[2]);
    dx = zeros("dx", n[0], n[1]);
    dWeight = zeros("dWeight", n[2], n[1]);
  }

  /// Random integers with scales from 2^-8 to 2^-7, which come first in a block.
  private static void fillBlocks(Tensor blocks) {
    byte[] bytes = new byte[Math.toIntExact(blocks.storage().bytes())];
    new Random(1).nextBytes(bytes);
    for (int at = 0; at < bytes.length; at += blocks.dtype().blockBytes()) {
      bytes[at + 1] = (byte) (0x1c | bytes[at + 1] & 3);
    }
    blocks.segment().copyFrom(MemorySegment.ofArray(bytes));
  }

  @Override
  void prove(Kernels reference) {
    int[] n = numbers(size);
    Tensor wantOut = zeros("out", n[0], n[2]);
    Tensor wantDx = zeros("dx", n[0], n[1]);
    Tensor wantDWeight = zeros("dWeight", n[2], n[1]);
    reference.matmul(wantOut, x, stored, null);
    reference.matmulBackwardInput(wantDx, dOut, stored, Accumulate.SET);
    reference.matmulBackwardWeight(wantDWeight, null, dOut, x);
    kernels.matmul(out, x, weight, null);
    kernels.matmulBackwardInput(dx, dOut, weight, Accumulate.SET);
    kernels.matmulBackwardWeight(dWeight, null, dOut, x);
    same(out, wantOut);
    close(dx, wantDx, n[2]);
    close(dWeight, wantDWeight, n[0]);
  }

  private void count(Rate rate, Tensor... moved) {
    rate.gflop += 2e-9 * x.dim(0) * weight.size();
    rate.gbyte += 1e-9 * bytes(moved);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.matmul(out, x, weight, null);
    count(rate, out, x, weight);
  }

  @Benchmark
  public void backwardInput(Rate rate) {
    kernels.matmulBackwardInput(dx, dOut, weight, Accumulate.SET);
    count(rate, dx, dOut, weight);
  }

  @Benchmark
  public void backwardWeight(Rate rate) {
    kernels.matmulBackwardWeight(dWeight, null, dOut, x);
    count(rate, dWeight, dWeight, dOut, x);
  }
}
