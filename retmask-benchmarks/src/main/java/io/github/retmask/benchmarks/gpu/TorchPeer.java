package io.github.retmask.benchmarks.gpu;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.tensor.DType;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/// A python with torch and a GPU that does the same work.
///
/// @param python the interpreter
record TorchPeer(String python) {
  private static final JsonMapper JSON = new JsonMapper();
  private static final int MINUTES = 5;

  /// The first interpreter with torch and a GPU, or null.
  ///
  /// @param named the only one to try, or null for the usual names
  static @Nullable TorchPeer find(@Nullable String named) {
    for (String python : named != null ? List.of(named) : List.of("python3", "python")) {
      TorchPeer peer = new TorchPeer(python);
      try {
        if (peer.run("import torch; print(int(torch.cuda.is_available()))").strip().equals("1")) {
          return peer;
        }
      } catch (IOException _) {
        // this one has none
      }
    }
    return null;
  }

  /// Seconds of the ops; a failure is an object with member `error`.
  JsonNode ops(GpuShape shape, DType type) throws IOException {
    return ask("torch_ops.py", JSON.writeValueAsString(shape.json()), type);
  }

  /// Seconds of a whole model.
  JsonNode model(GpuModel shape, DType type) throws IOException {
    return ask("torch_model.py", JSON.writeValueAsString(shape.json()), type);
  }

  private JsonNode ask(String program, String shape, DType type) throws IOException {
    try (InputStream in = TorchPeer.class.getResourceAsStream(program)) {
      String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      String answer = run(text, shape, type.name().toLowerCase(Locale.ROOT));
      return JSON.readTree(answer.strip().lines().reduce("{}", (_, last) -> last));
    } catch (IOException e) {
      return JSON.createObjectNode().put("error", e.getMessage());
    }
  }

  private String run(String program, String... arguments) throws IOException {
    List<String> command = new ArrayList<>(List.of(python, "-c", program));
    command.addAll(List.of(arguments));
    Path out = Files.createTempFile("retmask-torch-", ".json");
    Path errors = Files.createTempFile("retmask-torch-", ".txt");
    try {
      Process process =
          new ProcessBuilder(command)
              .redirectOutput(out.toFile())
              .redirectError(errors.toFile())
              .start();
      try {
        if (!process.waitFor(MINUTES, TimeUnit.MINUTES)) {
          throw new IOException(python + ": not done after " + MINUTES + " minutes");
        }
      } finally {
        process.destroyForcibly();
      }
      if (process.exitValue() != 0) {
        throw new IOException(python + ": " + lastLine(errors));
      }
      return Files.readString(out);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    } finally {
      Files.delete(out);
      Files.delete(errors);
    }
  }

  /// Of a text that may hold what is no UTF-8.
  private static String lastLine(Path file) throws IOException {
    String text = new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
    return text.strip().lines().reduce("no word why", (_, last) -> last);
  }
}
