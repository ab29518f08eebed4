package io.github.retmask.benchmarks.gpu;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Times every op and whole models on the GPU, beside torch on the same machine and the same work when
/// there is a python with it.
///
/// `GpuBenchmark [--out FILE.json] [--python PATH] [--type bf16|f32] [--tiny] [--no-models]` prints one
/// table. A row's roof is the least time that the copy bandwidth and torch's matrix rate, both measured
/// in the same run, allow for its bytes and operations.
public final class GpuBenchmark {
  private static final JsonMapper JSON = new JsonMapper();

  private final Map<String, String> options;
  private final List<GpuOps.Row> rows = new ArrayList<>();
  private @Nullable JsonNode torch;

  private GpuBenchmark(Map<String, String> options) {
    this.options = options;
  }

  static void main(String[] args) throws IOException {
    Map<String, String> options = new LinkedHashMap<>(Map.of("--type", "bf16"));
    for (int i = 0; i < args.length; i++) {
      switch (args[i]) {
        case "--tiny", "--no-models" -> options.put(args[i], "");
        case "--out", "--python", "--type" -> {
          if (i + 1 == args.length) {
            usage(args[i] + " wants a value");
          }
          options.put(args[i], args[++i]);
        }
        default -> usage("unknown option " + args[i]);
      }
    }
    String type = options.get("--type");
    if (!List.of("bf16", "f32").contains(type)) {
      usage("--type " + type + ": want bf16 or f32");
    }
    new GpuBenchmark(options).run();
  }

  private static void usage(String what) {
    System.err.println(
        "gpu benchmark: "
            + what
            + "; usage: GpuBenchmark [--out FILE.json] [--python PATH] [--type bf16|f32] [--tiny] [--no-models]");
    System.exit(2);
  }

  private void run() throws IOException {
    for (Backend backend : Backends.all()) {
      String why = backend.name().equals("cuda") ? backend.whyUnavailable() : null;
      if (why != null) {
        System.err.println("gpu benchmark: " + why);
        System.exit(1);
      }
    }
    boolean tiny = options.containsKey("--tiny");
    GpuShape shape = tiny ? GpuShape.TINY : GpuShape.LLAMA_8B;
    DType type = options.get("--type").equals("bf16") ? DType.BF16 : DType.F32;
    String python = options.get("--python");
    TorchPeer peer = TorchPeer.find(python);
    if (peer == null && python != null) {
      usage("--python " + python + ": want a python with torch that sees a GPU");
    }
    ObjectNode result = JSON.createObjectNode();
    try (Kernels kernels = open()) {
      Ops ops = new Ops(kernels);
      System.out.println("device: " + kernels.device() + ", activations and matrices " + type);
      torch = peer == null ? null : peer.ops(shape, type);
      if (torch == null) {
        System.out.println("torch: none here");
      } else {
        told("torch", torch);
      }
      try (TensorArena arena = ops.arena(TensorArena.Lifetime.STEP)) {
        Stopwatch watch = new Stopwatch(arena.floats("fence", 1), tiny ? 0 : 0.05, tiny ? 1 : 5);
        header();
        GpuOps all = new GpuOps(ops, shape, type, watch, this::report);
        all.run();
        all.failures().forEach((op, why) -> System.out.println(op + " failed: " + why));
        result.set("failed", JSON.valueToTree(all.failures()));
      }
      result.put("device", kernels.device());
      result.put("type", type.name());
      result.set("shape", JSON.valueToTree(shape.json()));
      result.set("ops", JSON.valueToTree(rows));
      result.set("torch", torch);
      write(result); // whatever becomes of the models
    }
    if (!options.containsKey("--no-models")) {
      models(type, tiny, peer, result);
    }
    if (!result.path("failed").isEmpty()) {
      System.exit(1);
    }
  }

  /// Prints what torch is and what it could not do.
  private static void told(String what, JsonNode torch) {
    if (torch.has("error")) {
      System.out.println(what + " failed: " + torch.path("error").asText());
      return;
    }
    System.out.println(what + ": " + torch.path("torch").asText());
    if (!torch.path("failed").isEmpty()) {
      System.out.println(what + " could not do: " + torch.path("failed"));
    }
  }

  private static Kernels open() {
    return Backends.open("cuda", Runtime.getRuntime().availableProcessors());
  }

  private void write(ObjectNode result) throws IOException {
    String out = options.get("--out");
    if (out != null) {
      AtomicFiles.write(Path.of(out), result.toPrettyString() + "\n");
    }
  }

  private void header() {
    System.out.printf(
        "%-30s %11s %9s %9s %7s %11s %8s%n",
        "op", "us", "GB/s", "TFLOP/s", "% roof", "torch us", "ratio");
  }

  private void report(GpuOps.Row row) {
    rows.add(row);
    double peer =
        torch == null ? Double.NaN : torch.path("seconds").path(row.op()).asDouble(Double.NaN);
    System.out.printf(
        Locale.ROOT,
        "%-30s %11.1f %9.1f %9.2f %7s %11s %8s%n",
        row.op(),
        row.seconds() * 1e6,
        row.bytes() / row.seconds() * 1e-9,
        row.flop() / row.seconds() * 1e-12,
        percentOfRoof(row),
        Double.isNaN(peer) ? "-" : String.format(Locale.ROOT, "%.1f", peer * 1e6),
        Double.isNaN(peer) ? "-" : String.format(Locale.ROOT, "%.2f", peer / row.seconds()));
  }

  /// Of the better of both copies and, where torch has one, its matrix product.
  private String percentOfRoof(GpuOps.Row row) {
    GpuOps.Row copy = rows.getFirst();
    double seconds = copy.seconds();
    double rate = 0;
    if (torch != null) {
      seconds = Math.min(seconds, torch.path("seconds").path("copy").asDouble(seconds));
      double matmul = torch.path("seconds").path("matmul").asDouble(0);
      rate = matmul == 0 ? 0 : matmulFlop() / matmul;
    }
    double least = row.bytes() / (copy.bytes() / seconds);
    if (rate > 0) {
      least = Math.max(least, row.flop() / rate);
    } else if (row.flop() / Math.max(1, row.bytes()) > 100) {
      return "-"; // limited by arithmetic, whose roof is not known
    }
    return String.format(Locale.ROOT, "%.0f", 100 * least / row.seconds());
  }

  /// Operations per second of the faster matrix product, ours or torch's.
  private double matmulRate() {
    double best = 0;
    for (GpuOps.Row row : rows) {
      best = row.op().equals("matmul") ? Math.max(best, row.flop() / row.seconds()) : best;
    }
    double theirs = torch == null ? 0 : torch.path("seconds").path("matmul").asDouble(0);
    return theirs == 0 ? best : Math.max(best, matmulFlop() / theirs);
  }

  private double matmulFlop() {
    GpuShape s = options.containsKey("--tiny") ? GpuShape.TINY : GpuShape.LLAMA_8B;
    return 2.0 * s.tokens() * s.hidden() * s.intermediate();
  }

  private void models(DType type, boolean tiny, @Nullable TorchPeer peer, ObjectNode result)
      throws IOException {
    List<GpuModel> shapes =
        tiny ? List.of(GpuModel.TINY) : List.of(GpuModel.LLAMA_1B, GpuModel.LLAMA_8B);
    for (GpuModel shape : shapes) {
      Map<String, Double> seconds = new LinkedHashMap<>();
      Map<String, Double> training = Map.of();
      try (Kernels kernels = open()) { // which leaves all memory to torch when it ends
        Ops ops = new Ops(kernels);
        long free = ops.freeBytes();
        seconds.putAll(shape.generate(ops, type));
        training = shape.train(ops, type, free);
      } catch (OutOfMemoryError e) {
        System.out.println(shape.name() + ": does not fit: " + e.getMessage());
      }
      JsonNode other = peer == null ? null : peer.model(shape, type);
      if (other != null) {
        told(shape.name() + " in torch", other);
      }
      result.set(shape.name(), JSON.valueToTree(seconds));
      result.set(shape.name() + "-training", JSON.valueToTree(training));
      result.set(shape.name() + "-torch", other);
      write(result);
      if (!training.isEmpty()) {
        double step = training.get("training_step");
        seconds.put("training_step", step);
        System.out.printf(
            Locale.ROOT,
            "%-30s %.0f tokens, %.1f GB of memory, %.1f TFLOP/s, %.0f %% of the matrix product%n",
            shape.name() + " training",
            training.get("training_tokens"),
            training.get("training_bytes") * 1e-9,
            training.get("training_flop") / step * 1e-12,
            100 * training.get("training_flop") / step / matmulRate());
      }
      for (Map.Entry<String, Double> one : seconds.entrySet()) {
        double theirs =
            other == null
                ? Double.NaN
                : other.path("seconds").path(one.getKey()).asDouble(Double.NaN);
        System.out.printf(
            Locale.ROOT,
            "%-30s %11.2f ms %s%n",
            shape.name() + " " + one.getKey(),
            one.getValue() * 1e3,
            Double.isNaN(theirs)
                ? ""
                : String.format(
                    Locale.ROOT,
                    "torch %.2f ms, ratio %.2f",
                    theirs * 1e3,
                    theirs / one.getValue()));
      }
    }
  }
}
