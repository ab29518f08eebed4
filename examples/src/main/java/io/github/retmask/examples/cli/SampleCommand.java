package io.github.retmask.examples.cli;

import io.github.retmask.generate.ChatEncoder;
import io.github.retmask.generate.ContrastiveSampler;
import io.github.retmask.generate.PairFilter;
import io.github.retmask.generate.PairReport;
import io.github.retmask.generate.Sampling;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask sample`: preference pairs, answered intact and with heads switched off.
@Command(
    name = "sample",
    description = "Answer every prompt intact and masked, and write the two as a preference pair.",
    footer = {
      "",
      "Prompts are JSON lines with id and prompt, prompt_ids, messages or conversation. Both "
          + "answers face the same noise, which belongs to the record's id. Temperature is 0.6 "
          + "unless given; nothing is cut off by top-k, top-p or min-p unless given. Pairs with "
          + "equal texts are dropped.",
      "Run again, it goes on where it was and writes the same bytes.",
      "",
      "Example:",
      "  retmask sample MODEL --mask @heads --prompts prompts.jsonl.gz \\",
      "    --out pairs.jsonl.gz"
    })
final class SampleCommand implements Callable<Integer> {
  /// As the published pairs were sampled.
  private static final Sampling PUBLISHED = Sampling.of(0.6, 0);

  private static final int DEFAULT_NEW_TOKENS = 2048;

  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final MaskPhaseOption phase = new MaskPhaseOption();
  @Mixin private final SamplingOptions sampling = new SamplingOptions();
  @Mixin private final ChatOptions template = new ChatOptions();
  @Mixin private final ResumeOptions resume = new ResumeOptions();
  @Mixin private final MemoryOption memory = new MemoryOption();

  @Option(
      names = "--prompts",
      paramLabel = "FILE",
      required = true,
      description = "Prompts, .gz too.")
  private Path prompts = Path.of("");

  @Option(
      names = "--out",
      paramLabel = "FILE",
      required = true,
      description = "Pairs to write, .gz too.")
  private Path out = Path.of("");

  @Option(
      names = "--max-new-tokens",
      paramLabel = "N",
      description = "Longest answer (default: 2048, or half of the context).")
  private @Nullable Integer maxNewTokens;

  @Option(
      names = "--max-prompt-tokens",
      paramLabel = "N",
      description = "Drop longer prompts (default: what the context leaves).")
  private @Nullable Integer maxPromptTokens;

  @Option(names = "--ignore-eos", description = "Do not stop at end-of-sequence tokens.")
  private boolean ignoreEos;

  @Option(names = "--finished-only", description = "Drop pairs with an answer that was cut off.")
  private boolean finishedOnly;

  @Option(
      names = "--max-answer-tokens",
      paramLabel = "N",
      defaultValue = "0",
      description = "Drop pairs with a longer answer (default: no limit).")
  private int maxAnswerTokens;

  @Option(
      names = "--max-length-ratio",
      paramLabel = "R",
      defaultValue = "0",
      description = "Drop pairs whose answers differ more in length (default: no limit).")
  private double maxLengthRatio;

  @Option(names = "--no-loops", description = "Drop pairs with an answer that ends in a loop.")
  private boolean noLoops;

  SampleCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (!mask.isGiven()) {
      throw new UsageException(
          "--mask is missing: both answers would be the same; name the heads, such as --mask 3-1");
    }
    PairFilter filter = filter();
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      HeadMask heads = mask.on(opened.transformer().noMask()).during(phase.phase(mask));
      ContrastiveSampler sampler =
          new ContrastiveSampler(
              opened.transformer(),
              new ChatEncoder(opened.tokenizer(), template.variables()),
              options(opened, heads, filter));
      try (ProgressMeter.Late meter = new ProgressMeter.Late(console, "sample", "pairs");
          Interruption _ =
              Interruption.guard(
                  console,
                  "retmask sample: interrupted; finished pairs are kept, the same command goes on",
                  Interruption.Stop.AT_ONCE)) {
        PairReport report =
            sampler.sample(
                prompts, out, memory.limits(opened.transformer()), resume.journal(), meter::at);
        console.line(out + ": " + report);
      }
    }
    return ExitCode.OK;
  }

  private PairFilter filter() {
    try {
      return new PairFilter(finishedOnly, maxAnswerTokens, maxLengthRatio, noLoops);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--max-answer-tokens, --max-length-ratio: " + e.getMessage());
    }
  }

  private ContrastiveSampler.Options options(
      PretrainedModel opened, HeadMask heads, PairFilter filter) throws IOException {
    int context = opened.config().maxPositions();
    int newTokens =
        maxNewTokens == null ? Math.clamp(context / 2, 1, DEFAULT_NEW_TOKENS) : maxNewTokens;
    int promptTokens = maxPromptTokens == null ? Math.max(1, context - newTokens) : maxPromptTokens;
    Sampling how = sampling.sampling(PUBLISHED);
    try {
      return new ContrastiveSampler.Options(
          CheckpointFingerprint.of(opened.files(), CheckpointFingerprint.Coverage.SAMPLED).text(),
          heads,
          how,
          newTokens,
          ignoreEos ? new int[0] : opened.eosIds(),
          promptTokens,
          filter);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--max-new-tokens, --max-prompt-tokens: " + e.getMessage());
    }
  }
}
