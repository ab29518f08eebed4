package io.github.retmask.examples.cli;

import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `retmask decode`: token ids as text.
@Command(
    name = "decode",
    description = "Print the text of token ids.",
    footer = {"", "Example:", "  retmask decode bundled:tiny --ids 4,70,5,120"})
final class DecodeCommand implements Callable<Integer> {
  private final Console console;

  @Parameters(
      index = "0",
      paramLabel = "MODEL",
      description = "Folder with tokenizer.json, a .gguf file, or bundled:tiny.")
  private String model = "";

  @Option(
      names = "--ids",
      paramLabel = "IDS",
      required = true,
      converter = IdList.Converter.class,
      description = "Token ids: 1,2,3 or @FILE.")
  private IdList ids = new IdList(new int[0], null);

  @Option(names = "--skip-special", description = "Leave special tokens out.")
  private boolean skipSpecial;

  DecodeCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    Tokenizer tokenizer = PretrainedModel.tokenizer(ModelOptions.existing(model));
    int[] given = ids.ids(tokenizer.vocabSize());
    String text;
    try {
      text = tokenizer.decode(given, skipSpecial);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--ids: " + e.getMessage());
    }
    console.line(text);
    return ExitCode.OK;
  }
}
