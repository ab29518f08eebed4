package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// One line per op with a hash of the bits that it computed, to compare JVMs that run the same code
/// in different ways.
public final class OpBits {

  private OpBits() {}

  static List<String> of(Workbench on) {
    List<String> lines = new ArrayList<>();
    MatmulContract.Case matmul = new MatmulContract.Case(5, 37, 19, DType.BF16, true);
    RmsNormContract.Case norm = new RmsNormContract.Case(5, 37, DType.F16);
    RopeContract.Case rope = new RopeContract.Case(2, 34, 34, 3, 50, 4);
    TokenLogProbsContract.Case head = new TokenLogProbsContract.Case(5, 13, 37, DType.F32);
    AttentionCase attention = AttentionCase.packed(8, 2, 17, 19, 3).mixed(false).window(11);
    AttentionCase blocks = AttentionCase.packed(4, 2, 20, 150, 70);
    float[] gate = SwigluContract.gates(67);
    float[] z = normal(21, 17 * 8 * 12);
    float[] dz = normal(22, 17 * 8 * 12);
    AdamWStep step = new AdamWStep(7, 0.1, 0.8, 0.99, 1e-5, 0.5, 0.9);
    line(
        lines,
        "rms_norm",
        RmsNormContract.forward(on, norm.x(), norm.weight(), norm.dtype()),
        RmsNormContract.backward(on, norm, norm.x(), normal(23, 5 * 37), 1, Accumulate.ADD));
    line(
        lines,
        "matmul",
        new float[][] {
          MatmulContract.forward(
              on, matmul.x(), matmul.weight(), matmul.bias(), 37, matmul.dtype()),
          MatmulContract.backwardInput(on, matmul, matmul.dOut(), 1, Accumulate.ADD)
        },
        MatmulContract.backwardWeight(on, matmul, matmul.dOut(), matmul.x()));
    line(
        lines,
        "rope",
        new float[][] {
          RopeContract.rotated(on, rope, rope.x(), false, false),
          RopeContract.rotated(on, rope, rope.x(), true, false)
        });
    line(lines, "norm_rope", NormRopeContract.atOnce(on, NormRopeContract.cases().getLast()));
    line(
        lines,
        "attention",
        attention.everything(on, attention.q(), attention.k(), attention.v()),
        AttentionBackwardContract.backward(on, attention));
    line(
        lines,
        "attention of some blocks",
        blocks.everything(on, blocks.q(), blocks.k(), blocks.v()),
        AttentionBackwardContract.backward(on, blocks));
    line(
        lines,
        "head_gate",
        HeadGateContract.backward(on, dz, z, 12, HeadGateContract.plan(12, true), false));
    line(
        lines,
        "swiglu",
        SwigluContract.forward(on, gate, normal(24, 67)),
        SwigluContract.backward(on, normal(25, 67), gate, normal(24, 67)));
    float[][] logps =
        TokenLogProbsContract.forward(
            on, head.hidden(), head.lmHead(), head.targets(), head.dtype());
    line(
        lines,
        "token_log_probs",
        logps,
        TokenLogProbsContract.backward(on, head, head.dLogps(), logps[1]));
    line(lines, "adamw", AdamWContract.update(on, step, 67));
    lines.add("sum_of_squares " + on.ops.sumOfSquares(on.f32("x", normal(26, 1001), 1001)));
    return lines;
  }

  private static void line(List<String> lines, String op, float[][]... outputs) {
    int hash = 0;
    for (float[][] arrays : outputs) {
      for (float[] array : arrays) {
        hash = 31 * hash + Arrays.hashCode(array); // by bits
      }
    }
    lines.add(op + " " + Integer.toHexString(hash));
  }

  /// The lines of a new JVM with more flags.
  public static List<String> inFreshJvm(String backend, String... flags) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    for (String given : ManagementFactory.getRuntimeMXBean().getInputArguments()) {
      if (given.startsWith("--") || given.startsWith("-D" + Backends.REQUIRE_PROPERTY)) {
        command.add(given); // modules and native access; not agents or heap sizes
      }
    }
    command.addAll(List.of(flags));
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(OpBits.class.getName());
    command.add(backend);
    Process process =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    List<String> lines =
        new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)
            .lines()
            .toList();
    if (process.waitFor() != 0) {
      throw new AssertionError(command + " failed: " + lines);
    }
    return lines;
  }

  static void main(String[] args) {
    KernelsContract contract =
        new KernelsContract() {
          @Override
          protected Kernels open(int threads) {
            return Backends.open(args[0], threads);
          }
        };
    try (Workbench bench = new Workbench(contract, 2)) {
      of(bench).forEach(System.out::println);
    }
  }
}
