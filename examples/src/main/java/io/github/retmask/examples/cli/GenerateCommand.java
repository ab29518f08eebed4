package io.github.retmask.examples.cli;

import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.Sampling;
import io.github.retmask.generate.StopRule;
import io.github.retmask.generate.TokenListener;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Detokenizer;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask generate`: continues a prompt.
@Command(
    name = "generate",
    description = "Continue a prompt and stream the text.",
    footer = {
      "",
      "Without sampling options, the model's generation_config.json decides; greedy without one.",
      "The same seed gives the same samples on every machine and backend whose logits agree.",
      "",
      "Examples:",
      "  retmask generate bundled:tiny --prompt \"Question code mira Answer\"",
      "  retmask generate MODEL --chat \"What is the capital of Peru?\" --mask @heads.json",
      "  retmask generate MODEL --ids 1,2,3 --temperature 0.8 --n 4 --print-ids"
    })
final class GenerateCommand implements Callable<Integer> {
  private static final int DEFAULT_NEW_TOKENS = 256;

  private final Console console;

  @Mixin private final ModelOptions model = new ModelOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final MaskPhaseOption phase = new MaskPhaseOption();
  @Mixin private final SamplingOptions sampling = new SamplingOptions();
  @Mixin private final ChatOptions template = new ChatOptions();

  @ArgGroup(multiplicity = "1")
  private Input input = new Input();

  @Option(
      names = "--max-new-tokens",
      paramLabel = "N",
      description = "Stop after so many tokens (default: 256, or what the context leaves).")
  private @Nullable Integer maxNewTokens;

  @Option(
      names = "--n",
      paramLabel = "N",
      defaultValue = "1",
      description = "Samples (default: ${DEFAULT-VALUE}).")
  private int samples;

  @Option(names = "--ignore-eos", description = "Do not stop at end-of-sequence tokens.")
  private boolean ignoreEos;

  @Option(
      names = "--print-ids",
      description = "Print the new token ids instead, a line a sample, separated by commas.")
  private boolean printIds;

  /// What is continued.
  private static final class Input {
    @Option(names = "--prompt", paramLabel = "TEXT", required = true, description = "A text.")
    private @Nullable String prompt;

    @Option(
        names = "--chat",
        paramLabel = "TEXT",
        required = true,
        description = "What the user says, put into the model's chat template.")
    private @Nullable String chat;

    @Option(
        names = "--ids",
        paramLabel = "IDS",
        required = true,
        converter = IdList.Converter.class,
        description = "Token ids: 1,2,3 or @FILE.")
    private @Nullable IdList ids;
  }

  GenerateCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (samples < 1) {
      throw new UsageException("--n " + samples + ": want at least 1");
    }
    if (maxNewTokens != null && maxNewTokens < 1) {
      throw new UsageException("--max-new-tokens " + maxNewTokens + ": want at least 1");
    }
    if (input.chat == null && !template.variables().isEmpty()) {
      throw new UsageException("--template-var belongs to --chat");
    }
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      List<GenerationRequest> requests = requests(opened);
      Generator.Options limits = Generator.Options.defaults().withMaxRows(samples);
      try (Generator generator = new Generator(opened.transformer(), limits)) {
        if (printIds) {
          generator.generate(
              requests,
              Generator.Order.REQUESTED,
              TokenListener.NONE,
              completion -> console.line(IdList.text(completion.ids())));
        } else if (samples == 1) {
          stream(generator, requests.getFirst(), opened.tokenizer().detokenizer(true));
        } else {
          Detokenizer detokenizer = opened.tokenizer().detokenizer(true);
          generator.generate(
              requests,
              Generator.Order.REQUESTED,
              TokenListener.NONE,
              completion -> printText(completion, detokenizer));
        }
      }
    }
    return ExitCode.OK;
  }

  private List<GenerationRequest> requests(PretrainedModel model) throws IOException {
    Sampling how = sampling.sampling(model.generation().sampling(0));
    HeadMask heads = mask.on(model.transformer().noMask()).during(phase.phase(mask));
    int[] prompt = prompt(model);
    StopRule stop = ignoreEos ? StopRule.NEVER : StopRule.at(model.eosIds());
    List<GenerationRequest> requests = new ArrayList<>();
    for (int i = 0; i < samples; i++) {
      requests.add(
          new GenerationRequest(prompt, heads, how, i, newTokens(model, prompt), stop, false));
    }
    return requests;
  }

  private int newTokens(PretrainedModel model, int[] prompt) {
    if (maxNewTokens != null) {
      return maxNewTokens;
    }
    int room = model.config().maxPositions() - prompt.length;
    return Math.clamp(room, 1, DEFAULT_NEW_TOKENS);
  }

  private int[] prompt(PretrainedModel model) throws IOException {
    if (input.ids != null) {
      return input.ids.ids(model.config().vocabSize());
    }
    int[] ids =
        input.chat != null
            ? model
                .tokenizer()
                .encodeChat(List.of(ChatMessage.of("user", input.chat)), true, template.variables())
            : model.tokenizer().encode(input.prompt == null ? "" : input.prompt, true);
    if (ids.length == 0) {
      throw new UsageException("--prompt: the text has no tokens");
    }
    return ids;
  }

  private void stream(Generator generator, GenerationRequest request, Detokenizer detokenizer) {
    Completion _ = generator.generate(request, (_, _, id) -> console.stream(detokenizer.add(id)));
    console.line(detokenizer.finish());
  }

  private void printText(Completion completion, Detokenizer detokenizer) {
    StringBuilder text = new StringBuilder();
    for (int id : completion.ids()) {
      text.append(detokenizer.add(id));
    }
    text.append(detokenizer.finish());
    console.line("--- sample " + (completion.index() + 1));
    console.line(text.toString());
  }
}
