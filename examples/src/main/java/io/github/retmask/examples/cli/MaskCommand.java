package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.IfPresent;
import io.github.retmask.pretrained.MaskedCheckpoint;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask mask`: a checkpoint with heads switched off for good, for programs without head masks.
@Command(
    name = "mask",
    description = "Write a copy of a checkpoint whose masked heads are off for good.",
    footer = {
      "",
      "A head's columns of o_proj.weight become zero, or are scaled with --mask-kind "
          + "scale=FACTOR; every other byte stays, an o_proj bias too.",
      "",
      "Example:",
      "  retmask mask MODEL --mask @heads.json --out masked-model"
    })
final class MaskCommand implements Callable<Integer> {
  private final Console console;

  @Mixin private final ModelOptions model = new ModelOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final NoQuantizeOption stored = new NoQuantizeOption();

  @Option(names = "--out", paramLabel = "DIR", required = true, description = "Folder to write.")
  private Path out = Path.of("");

  @Option(names = "--replace", description = "Replace a checkpoint that lies in DIR.")
  private boolean replace;

  MaskCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (!mask.isGiven()) {
      throw new UsageException("--mask is missing: name the heads, such as --mask 3-1,3-4");
    }
    if (!(mask.kind().kind() instanceof HeadKind.Full)) {
      throw new UsageException(
          "--mask-kind %s: a checkpoint can hold only zero and scale=FACTOR; other kinds change how a head attends, which weights cannot say"
              .formatted(mask.kind().text()));
    }
    try (Session session = model.open(console)) {
      HeadMask heads = mask.on(session.model().transformer().noMask());
      MaskedCheckpoint.save(
          session.model(), heads, out, replace ? IfPresent.REPLACE : IfPresent.REFUSE);
      int count = heads.touched().size();
      console.line("%s: %d %s masked".formatted(out, count, count == 1 ? "head" : "heads"));
    }
    return ExitCode.OK;
  }
}
