package io.github.retmask.examples.cli;

import io.github.retmask.gguf.GgufExport;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask export`: a model as a GGUF file, for llama.cpp and what is built on it.
@Command(
    name = "export",
    description = "Write a model with its tokenizer as a GGUF file, which llama.cpp runs.",
    footer = {
      "",
      "Without --dtype weights stay in the type they have. q8_0 rounds blocks of 32 weights "
          + "to 255 steps; it leaves matrices as they are whose rows are no multiple of 32. Norms "
          + "become f32.",
      "Head masks have no place in the file: write a masked checkpoint first, with retmask "
          + "mask.",
      "",
      "Examples:",
      "  retmask export bundled:tiny --out tiny.gguf",
      "  retmask export trained --out trained-q8.gguf --dtype q8_0"
    })
final class ExportCommand implements Callable<Integer> {
  private static final long UNIT = 1_000_000;

  private final Console console;

  @Mixin private final ModelOptions model = new ModelOptions();
  @Mixin private final NoQuantizeOption stored = new NoQuantizeOption();

  @Option(names = "--out", paramLabel = "FILE", required = true, description = "File to write.")
  private Path out = Path.of("");

  @Option(
      names = "--dtype",
      paramLabel = "TYPE",
      description = "Type of the matrices: f32, bf16, f16 or q8_0.")
  private @Nullable String dtype;

  @Option(names = "--replace", description = "Replace FILE if it is there.")
  private boolean replace;

  ExportCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    DType type = dtype == null ? null : type(dtype);
    if (Files.isRegularFile(out) && !replace) {
      throw new FormatException(out + ": it is there already; give another name, or --replace");
    }
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      requireOther(opened.folder());
      GgufExport export =
          new GgufExport(
              opened.files(), opened.hasTokenizer() ? opened.tokenizer() : null, opened.eosIds());
      long millions = opened.weights().tensors().stream().mapToLong(t -> t.size()).sum() / UNIT;
      try (ProgressMeter meter =
          new ProgressMeter(console, "export", "million weights", 0, millions)) {
        export.writeTo(out, type, (done, _) -> meter.at(done / UNIT, ""));
      }
      String problem = export.whyNoText();
      if (problem != null) {
        console.note("retmask export: %s; llama.cpp will take token ids only".formatted(problem));
      }
      console.line("%s: %s".formatted(out, Units.bytes(Files.size(out))));
    }
    return ExitCode.OK;
  }

  private void requireOther(Path source) throws IOException {
    if (Files.exists(out) && Files.isSameFile(out, source)) {
      throw new FormatException(out + ": not written: it is the model that is being read");
    }
  }

  private static DType type(String name) {
    return switch (name) {
      case "f32" -> DType.F32;
      case "bf16" -> DType.BF16;
      case "f16" -> DType.F16;
      case "q8_0" -> DType.Q8_0;
      default ->
          throw new UsageException("--dtype \"%s\": want f32, bf16, f16 or q8_0".formatted(name));
    };
  }
}
