package io.github.retmask.benchmarks.gpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.benchmarks.Roofline;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.kernels.cuda.PtxCompiler;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/// What can be said of the CUDA kernels without a GPU, as Markdown: what each takes of a multiprocessor,
/// what each op of [GpuBenchmark] has to do and the least time for it by published figures, and the
/// memory of a training step.
///
/// `KernelReport [FILE.md]` runs on the stand-in driver, which computes nothing here but checks and notes
/// every launch, so blocks and memory are those that the backend asks for:
///
/// ```
/// RETMASK_EMULATED_IDLE=131 RETMASK_EMULATED_LAUNCHES=target/launches dev/emulated-gpu java ... KernelReport FILE.md
/// ```
public final class KernelReport {
  private static final Path PTX = Path.of("retmask-kernels", "src", "main", "cuda", "ptx");
  private static final int MULTIPROCESSORS = 132; // of H100 SXM and H200
  private static final int LOGITS = 1 << 27; // that the loss holds at once

  /// A GPU's least times.
  private record Card(String name, Roofline.Roof bf16, Roofline.Roof f32) {
    Card(String name, double terabytes) {
      this(
          name,
          new Roofline.Roof(989e3, terabytes * 1e3), // dense
          new Roofline.Roof(67e3, terabytes * 1e3));
    }

    double seconds(GpuOps.Row row, DType type) {
      return (type == DType.BF16 ? bf16 : f32).seconds(row.flop() * 1e-9, row.bytes() * 1e-9);
    }
  }

  /// NVIDIA H200 Tensor Core GPU and NVIDIA H100 Tensor Core GPU (SXM), data sheets.
  private static final List<Card> CARDS = List.of(new Card("H200", 4.8), new Card("H100", 3.35));

  private final StringBuilder text = new StringBuilder();
  private final Ops ops;
  private final LaunchLog log;
  private final Map<String, Map<String, PtxCompiler.Usage>> usage = new TreeMap<>(); // by target
  private final Map<String, String> stems = new LinkedHashMap<>(); // by kernel
  private final Map<String, Set<LaunchLog.Entry>> launches = new TreeMap<>(); // by kernel

  private KernelReport(Ops ops, LaunchLog log) {
    this.ops = ops;
    this.log = log;
  }

  static void main(String[] args) throws IOException {
    String launches = System.getenv(LaunchLog.VARIABLE);
    if (args.length > 1 || launches == null || System.getenv("RETMASK_EMULATED_IDLE") == null) {
      System.err.println(
          "kernel report: usage: RETMASK_EMULATED_IDLE=131 %s=FILE dev/emulated-gpu java ... KernelReport [FILE.md]"
              .formatted(LaunchLog.VARIABLE));
      System.exit(2);
    }
    Files.deleteIfExists(Path.of(launches));
    try (Kernels kernels = Backends.open("cuda", 1);
        LaunchLog log = new LaunchLog(Files.createFile(Path.of(launches)))) {
      KernelReport report = new KernelReport(new Ops(kernels), log);
      report.write();
      if (args.length == 0) {
        System.out.print(report.text);
      } else {
        AtomicFiles.write(Path.of(args[0]), report.text.toString());
      }
    }
  }

  private void write() throws IOException {
    compile();
    say(
        """
        # CUDA kernels, counted

        No GPU ran anything here, and no time is measured. Registers are those of the PTX compiler of CUDA 12.0; a driver's own may differ. Blocks, shared memory and bytes are what the backend asks for of a stand-in driver with the size of an H200 (132 multiprocessors and 131 GiB, which is 141 GB), with our own products in the place of cuBLAS. Made by

        ```sh
        RETMASK_EMULATED_IDLE=131 RETMASK_EMULATED_LAUNCHES=target/launches dev/emulated-gpu \\
          java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \\
          -cp retmask-benchmarks/target/retmask-benchmarks.jar io.github.retmask.benchmarks.gpu.KernelReport FILE.md
        ```

        ## Ops

        One layer of Llama 3 8B: T 8192, 32 heads of 128, 8 of keys and values, C 4096, F 14336, V 128256; decoding over 32768 keys; AdamW of 268M parameters. Bytes that must move, additions and multiplications, and the least time by NVIDIA's data sheets: H200 4.8 TB/s, H100 SXM 3.35 TB/s, both 989 TFLOP/s in dense BF16 and 67 in F32. The goal is a share of what is named.
        """);
    ops(GpuShape.LLAMA_8B, DType.BF16, true);
    ops(GpuShape.LLAMA_8B, DType.F32, true);
    for (int headDim : new int[] {32, 64, 96, 256}) {
      GpuShape shape = new GpuShape(1024, 4096, 4096, 32, 8, headDim, 1024, 1024, 1 << 20);
      ops(shape, DType.BF16, false);
      ops(shape, DType.F32, false);
    }
    others();
    kernels();
    memory();
  }

  private void say(String what, Object... values) {
    text.append(values.length == 0 ? what : what.formatted(values)).append('\n');
  }

  // --- ops ------------------------------------------------------------------------------------

  /// @param said whether the report shows them, or takes note of their launches alone
  private void ops(GpuShape shape, DType type, boolean said) {
    StringBuilder queued = new StringBuilder();
    if (said) {
      say("### In %s", type);
      say("");
      say("| op | MB | GFLOP | FLOP per byte | H200 us | H100 us | limited by | goal |");
      say("|---|---|---|---|---|---|---|---|");
    }
    GpuOps all =
        new GpuOps(
            ops,
            shape,
            type,
            log,
            row -> {
              noteLaunches();
              if (said) {
                say(row, type);
                log.latest().forEach((entry, times) -> queued.append(queued(row, entry, times)));
              }
            });
    all.run();
    if (!all.failures().isEmpty()) {
      throw new IllegalStateException("the stand-in driver refuses ops: " + all.failures());
    }
    if (said) {
      say("");
      say("What they queue, and how often blocks fill all multiprocessors of an H200:");
      say("");
      say("| op | kernel | times | grid | threads | shared | blocks at a time | waves |");
      say("|---|---|---|---|---|---|---|---|");
      say(queued.toString());
    }
  }

  private void say(GpuOps.Row row, DType type) {
    double perByte = row.flop() / row.bytes();
    boolean arithmetic = CARDS.getFirst().seconds(row, type) > row.bytes() / 4.8e12 * (1 + 1e-9);
    say(
        "| `%s` | %.1f | %s | %s | %.1f | %.1f | %s | %s |",
        row.op(),
        row.bytes() * 1e-6,
        row.flop() == 0 ? "" : number(row.flop() * 1e-9),
        row.flop() == 0 ? "" : number(perByte),
        CARDS.get(0).seconds(row, type) * 1e6,
        CARDS.get(1).seconds(row, type) * 1e6,
        arithmetic ? "arithmetic" : "memory",
        goal(row.op(), type));
  }

  private static String number(double value) {
    return String.format(Locale.ROOT, value < 10 ? "%.2f" : "%.0f", value);
  }

  /// On an H200.
  private static String goal(String op, DType type) {
    if (op.matches("decode_attention.*|matmul_\\d+_rows")) {
      return "0.85 of copy";
    }
    if (op.matches("(add_)?rms_norm.*|rope.*|norm_rope|swiglu.*|add|head_gate")) {
      return "0.88 of copy";
    }
    if (op.startsWith("adamw")) {
      return "0.92 of copy";
    }
    if (type == DType.F32) {
      return "";
    }
    return switch (op) {
      case "matmul", "matmul_backward_input", "matmul_backward_weight" -> "0.95 of cuBLAS";
      case "attention", "attention_half_off", "attention_window" -> "350 TFLOP/s, 0.35 of roof";
      case "attention_backward" -> "250 TFLOP/s, 0.25 of roof";
      default -> "";
    };
  }

  private String queued(GpuOps.Row row, LaunchLog.Entry entry, int times) {
    int together = together(entry, Multiprocessor.ALL.getLast());
    return "| `%s` | `%s` | %d | %d x %d x %d | %d | %d | %d | %.1f |%n"
        .formatted(
            row.op(),
            entry.kernel(),
            times,
            entry.gridX(),
            entry.gridY(),
            entry.gridZ(),
            entry.threads(),
            entry.sharedBytes(),
            together,
            (double) entry.blocks() / (together * MULTIPROCESSORS));
  }

  private int together(LaunchLog.Entry entry, Multiprocessor on) {
    return on.blocksOf(of(entry.kernel(), on), entry.threads(), entry.sharedBytes());
  }

  private PtxCompiler.Usage of(String kernel, Multiprocessor on) {
    PtxCompiler.Usage used = usage.getOrDefault(on.target(), Map.of()).get(kernel);
    if (used == null) {
      throw new IllegalStateException("no kernel %s for %s".formatted(kernel, on.target()));
    }
    return used;
  }

  private void noteLaunches() {
    for (LaunchLog.Entry entry : log.latest().keySet()) {
      launches.computeIfAbsent(entry.kernel(), _ -> new LinkedHashSet<>()).add(entry);
    }
  }

  /// Launches kernels that no op of the benchmark needs: weights of other types, products of few rows
  /// and of rows too short for chains, read-outs of a prompt, two new tokens at a time, rows that are
  /// gathered and scattered.
  private void others() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.STEP)) {
      log.seconds(() -> others(arena));
      noteLaunches();
    }
  }

  private void others(TensorArena arena) {
    int c = 4096;
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int width : new int[] {c, 32}) {
        for (DType weights : DType.values()) {
          if (!weights.isFloat() || width % weights.blockSize() != 0) {
            continue;
          }
          for (int outs : new int[] {c, 14_336}) {
            Tensor weight = arena.allocate("weight", weights, outs, width);
            for (int rows : new int[] {1, 4, 8, 40, 512, c}) {
              Tensor x = arena.allocate("x", type, rows, width);
              Tensor out = arena.allocate("out", type, rows, outs);
              ops.matmul(out, x, weight, null);
              ops.matmulBackwardInput(x, out, weight, Accumulate.ADD);
            }
          }
        }
      }
      for (int outs : new int[] {256, 1024, c}) {
        Tensor dOut = arena.allocate("d_out", type, 1024, outs);
        Tensor x = arena.allocate("x", type, 1024, outs);
        ops.matmulBackwardWeight(arena.floats("dw", outs, outs), null, dOut, x);
      }
      Tensor x = arena.allocate("x", type, 1024, c);
      Tensor bias = arena.allocate("bias", type, c);
      ops.matmul(x, x, arena.allocate("weight", type, c, c), bias);
      ops.matmulBackwardWeight(arena.floats("dw", c, c), arena.floats("db", c), x, x);
      Tensor odd = arena.allocate("x", type, 1, c + 1);
      ops.matmul(x.slice(0, 1), odd, arena.allocate("weight", type, c, c + 1), null);
      Tensor rows = arena.ints("rows", IntStream.range(0, 1024).toArray());
      ops.gatherRows(arena.allocate("out", type, 1024, c), x, rows);
      ops.scatterRows(arena.allocate("out", type, 1024, c), x, rows);
      for (int headDim : new int[] {32, 64, 96, 128, 256}) {
        readOut(arena, type, headDim);
      }
    }
  }

  private void readOut(TensorArena arena, DType type, int headDim) {
    int t = 1024;
    Tensor q = arena.allocate("q", type, t, 32, headDim);
    Tensor k = arena.allocate("k", type, t, 8, headDim);
    BatchLayout layout = BatchLayout.packed(t);
    HeadPlan plan = HeadPlan.neutral(1, 32);
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, 0.1f);
    AttentionReadout wanted =
        AttentionReadout.of(arena, 32, new int[] {t - 1}, new int[][][] {{{0, 9}}});
    ops.attention(q, arena.floats("lse", t, 32), q, k, k, layout, plan, spec, wanted);
    Tensor two = arena.allocate("two", type, 2, 32, headDim);
    BatchLayout cached = BatchLayout.cached(new int[] {2}, new int[] {t - 2}, new int[] {0});
    ops.attention(two, arena.floats("lse", 2, 32), two, k, k, cached, plan, spec, null);
    Tensor z = arena.allocate("z", type, t, 32, headDim);
    ops.headGateBackward(z, arena.floats("d_gates", 1, 32), z, z, layout, plan);
  }

  // --- kernels --------------------------------------------------------------------------------

  private void compile() throws IOException {
    try (Stream<Path> files = Files.list(PTX)) {
      for (Path file : files.sorted().toList()) {
        String ptx = Files.readString(file, StandardCharsets.ISO_8859_1);
        String stem = String.valueOf(file.getFileName()).replace(".ptx", "");
        for (Multiprocessor on : Multiprocessor.ALL) {
          Map<String, PtxCompiler.Usage> used = PtxCompiler.usage(ptx, on.target());
          used.keySet().forEach(kernel -> stems.put(kernel, stem));
          usage.computeIfAbsent(on.target(), _ -> new TreeMap<>()).putAll(used);
        }
      }
    }
  }

  private void kernels() {
    say(
        """
        ## Kernels

        Registers of a thread, and warps that are resident on a multiprocessor, on sm_80, sm_89 and sm_90, of 64, 48 and 64; 0 where the block needs more shared memory than that device has, for which the backend then asks less. Threads and shared memory, the most of it, are those of the launches above and of others, among them short rows, 32 to 256 elements of a head and weights of every type; in brackets the largest block of a kernel that none of them used. No kernel has static shared memory, a stack or spilled registers, except where a line says so.

        | kernel | threads | shared | registers | warps | occupancy on sm_90 |
        |---|---|---|---|---|---|""");
    String stem = "";
    for (Map.Entry<String, String> kernel : stems.entrySet()) {
      if (!kernel.getValue().equals(stem)) {
        stem = kernel.getValue();
        say("| **%s.cu** | | | | | |", stem);
      }
      Set<LaunchLog.Entry> used = launches.get(kernel.getKey());
      if (used == null) {
        PtxCompiler.Usage any = of(kernel.getKey(), Multiprocessor.ALL.getLast());
        kernel(kernel.getKey(), any.mostThreads(), 0, "[%d]".formatted(any.mostThreads()));
        continue;
      }
      Map<Integer, Integer> most = new TreeMap<>(); // shared bytes by threads
      used.forEach(entry -> most.merge(entry.threads(), entry.sharedBytes(), Math::max));
      most.forEach((threads, shared) -> kernel(kernel.getKey(), threads, shared, "" + threads));
    }
    say("");
  }

  private void kernel(String name, int threads, int dynamicBytes, String said) {
    List<String> registers = new ArrayList<>();
    List<String> warps = new ArrayList<>();
    Set<String> remarks = new LinkedHashSet<>();
    double occupancy = 0;
    for (Multiprocessor on : Multiprocessor.ALL) {
      PtxCompiler.Usage used = of(name, on);
      int resident = on.blocksOf(used, threads, dynamicBytes) * Math.ceilDiv(threads, 32);
      registers.add("" + used.registers());
      warps.add("" + resident);
      occupancy = (double) resident / on.warps();
      if (used.sharedBytes() + used.stackBytes() + used.spilledBytes() > 0) {
        remarks.add(
            "static %d, stack %d, spilled %d"
                .formatted(used.sharedBytes(), used.stackBytes(), used.spilledBytes()));
      }
    }
    say(
        "| `%s`%s | %s | %d | %s | %s | %.0f %% |",
        name,
        remarks.isEmpty() ? "" : " " + remarks,
        said,
        dynamicBytes,
        String.join(", ", registers),
        String.join(", ", warps),
        100 * occupancy);
  }

  // --- memory ---------------------------------------------------------------------------------

  private void memory() throws IOException {
    say(
        """
        ## Memory of a DPO step

        Llama 3 8B, all weights trained in BF16 with F32 masters and gradient checkpointing, one pair of rows of so many tokens with the last half of each labelled; GB that the backend had taken of the device after three steps. The copies of the matrices in BF16 are kept where they take at most half of what masters, gradients and moments leave.

        | tokens | masters | gradients | both moments | BF16 copies | inputs of layers | one chunk of logits and its gradient, at most | the layer at hand, other working memory | all | fits 141 GB | fits 80 GB |
        |---|---|---|---|---|---|---|---|---|---|---|""");
    for (int tokens : new int[] {2048, 8192}) {
      GpuModel model = GpuModel.LLAMA_8B.withTrained(tokens);
      Map<String, Double> taken;
      try {
        taken = model.train(ops, DType.BF16, ops.freeBytes());
      } catch (OutOfMemoryError e) {
        say("| 2 x %d | | | | | | | | %s | no | no |", tokens, e.getMessage());
        continue;
      }
      double masters = Float.BYTES * taken.get("training_parameters");
      double copies = taken.get("training_copies");
      double inputs = 2.0 * tokens * model.layers() * DType.BF16.bytes(model.hidden());
      double logits = LOGITS * (Float.BYTES + (double) DType.BF16.bytes());
      double all = taken.get("training_bytes");
      say(
          "| 2 x %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |",
          tokens,
          gigabytes(masters),
          gigabytes(masters),
          gigabytes(2 * masters),
          gigabytes(copies),
          gigabytes(inputs),
          gigabytes(logits),
          gigabytes(all - 4 * masters - copies - inputs - logits),
          gigabytes(all),
          all <= 141e9 ? "yes" : "no",
          all <= 80e9 ? "yes" : "no");
    }
  }

  private static String gigabytes(double bytes) {
    return String.format(Locale.ROOT, "%.2f", bytes * 1e-9);
  }
}
