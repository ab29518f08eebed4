package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask logits`: what the model predicts after every token of a text, as tensors in a file.
@Command(
    name = "logits",
    description = "Write the logits of a text, and where every head looks, to a safetensors file.",
    footer = {
      "",
      "Tensors: logits F32 [T,V]; with --argmax also argmax I32 and argmax_weight F32, both "
          + "[L,H,T]: position and weight of the largest attention weight of every query; with "
          + "--logprobs also logprobs F32 [T-1]: log-probability of each token but the first, given "
          + "those before it.",
      "Heads that a mask turned off still report where they look.",
      "",
      "Examples:",
      "  retmask logits bundled:tiny --text \"code mira is 12\" --out l.safetensors",
      "  retmask logits MODEL --ids 1,2,3 --mask 3-1,3-4 --argmax --out l.safetensors"
    })
final class LogitsCommand implements Callable<Integer> {
  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();

  @ArgGroup(multiplicity = "1")
  private TextOrIds input = new TextOrIds();

  @Option(names = "--out", paramLabel = "FILE", required = true, description = "File to write.")
  private Path out = Path.of("");

  @Option(names = "--argmax", description = "Also write where every head looks.")
  private boolean argmax;

  @Option(names = "--logprobs", description = "Also write the log-probabilities of the tokens.")
  private boolean logprobs;

  LogitsCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      int[] ids = input.tokens(opened);
      HeadMask heads = mask.on(opened.transformer().noMask());
      try (ForwardPass pass =
          new ForwardPass(opened.transformer(), ids, heads, argmax, logprobs, ForwardPass.PIECE)) {
        SafeTensorsWriter file = new SafeTensorsWriter(Map.of());
        pass.addTo(file);
        file.writeTo(out);
      }
    }
    return ExitCode.OK;
  }
}
