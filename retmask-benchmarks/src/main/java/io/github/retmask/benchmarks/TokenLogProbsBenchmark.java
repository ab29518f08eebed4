package io.github.retmask.benchmarks;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// LM head with the log-probability of a target: 2 M C V flops forward, 6 M C V backward (with the
/// logits computed again), 6 M C V both at once.
public class TokenLogProbsBenchmark extends OpBenchmark {
  /// M x C x V.
  @Param({"3072x128x300", "512x512x8192"})
  public String size = "";

  private Tensor logps;
  private Tensor lse;
  private Tensor hidden;
  private Tensor lmHead;
  private Tensor targets;
  private Tensor dHidden;
  private Tensor dLmHead;
  private Tensor dLogps;

  @Override
  void prepare() {
    int[] n = numbers(size);
    hidden = normal("hidden", n[0], n[1]);
    lmHead = normal("lmHead", n[2], n[1]);
    for (long i = 0; i < lmHead.size(); i++) {
      lmHead.set(i, lmHead.get(i) / (float) Math.sqrt(n[1]));
    }
    targets = below("targets", n[2], n[0]);
    dLogps = normal("dLogps", n[0]);
    logps = zeros("logps", n[0]);
    lse = zeros("lse", n[0]);
    dHidden = zeros("dHidden", n[0], n[1]);
    dLmHead = zeros("dLmHead", n[2], n[1]);
  }

  @Override
  void prove(Kernels reference) {
    int[] n = numbers(size);
    Tensor wantLogps = zeros("logps", n[0]);
    Tensor wantLse = zeros("lse", n[0]);
    Tensor wantDHidden = zeros("dHidden", n[0], n[1]);
    Tensor wantDLmHead = zeros("dLmHead", n[2], n[1]);
    reference.tokenLogProbs(wantLogps, wantLse, hidden, lmHead, targets);
    reference.tokenLogProbsBackward(
        wantDHidden, wantDLmHead, dLogps, hidden, lmHead, targets, wantLse);
    kernels.tokenLogProbs(logps, lse, hidden, lmHead, targets);
    kernels.tokenLogProbsBackward(dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
    close(logps, wantLogps, n[1]);
    close(lse, wantLse, n[1]);
    close(dHidden, wantDHidden, n[2]);
    close(dLmHead, wantDLmHead, n[0]);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.tokenLogProbs(logps, lse, hidden, lmHead, targets);
    rate.gflop += 2e-9 * hidden.size() * lmHead.dim(0);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.tokenLogProbsBackward(dHidden, dLmHead, dLogps, hidden, lmHead, targets, lse);
    rate.gflop += 6e-9 * hidden.size() * lmHead.dim(0);
  }

  @Benchmark
  public void bothAtOnce(Rate rate) {
    kernels.tokenLogProbsAndGradients(
        logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
    rate.gflop += 6e-9 * hidden.size() * lmHead.dim(0);
  }
}
