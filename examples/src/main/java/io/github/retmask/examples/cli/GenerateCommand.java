package io.github.retmask.examples.cli;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.ContinuationText;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.TokenListener;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask generate`: continues prompts.
@Command(
    name = "generate",
    description = "Continue prompts and stream the text.",
    footer = {
      "",
      "Without sampling options, the model's generation_config.json decides; greedy without "
          + "one.",
      "Order of the options: repetition penalty, temperature, top-k, top-p, min-p.",
      "The same seed gives the same samples on every machine and backend whose logits agree.",
      "",
      "--prompts reads JSON lines, .gz too: id, and one of prompt_ids, prompt, messages, "
          + "conversation.",
      "A line may have its own mask, mask_kind, mask_phase, temperature, top_k, top_p, min_p, "
          + "repetition_penalty, seed, max_new_tokens, n, stop and ignore_eos in place of the "
          + "options. All lines run in one batch, as far as memory allows. Each continuation is "
          + "printed as a JSON line: id, sample, prompt_tokens, ids, text, finish_reason.",
      "",
      "Examples:",
      "  retmask generate bundled:tiny --prompt \"Question code mira Answer\"",
      "  retmask generate MODEL --chat \"What is the capital of Peru?\" --mask @heads",
      "  retmask generate MODEL --ids 1,2,3 --temperature 0.8 --n 4 --print-ids",
      "  retmask generate MODEL --prompts prompts.jsonl --stop \"\\n\\n\" > answers.jsonl"
    })
final class GenerateCommand implements Callable<Integer> {
  /// Samples of a prompt: each is a request that waits for its turn.
  static final int MAX_SAMPLES = 100_000;

  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final MaskPhaseOption phase = new MaskPhaseOption();
  @Mixin private final SamplingOptions sampling = new SamplingOptions();
  @Mixin private final ChatOptions template = new ChatOptions();
  @Mixin private final MemoryOption memory = new MemoryOption();

  @ArgGroup(multiplicity = "1")
  private Input input = new Input();

  @Option(
      names = "--system",
      paramLabel = "TEXT",
      description = "What the system says before --chat.")
  private @Nullable String system;

  @Option(
      names = "--max-new-tokens",
      paramLabel = "N",
      description = "Stop after so many tokens (default: 256, or what the context leaves).")
  private @Nullable Integer maxNewTokens;

  @Option(
      names = "--stop",
      paramLabel = "TEXT",
      description =
          "Stop before this text; \\\\n is a line break, \\\\t a tab; repeatable. Special tokens have"
              + " no text.")
  private List<String> stops = new ArrayList<>();

  @Option(
      names = "--n",
      paramLabel = "N",
      defaultValue = "1",
      description = "Samples of each prompt (default: ${DEFAULT-VALUE}).")
  private int samples;

  @Option(names = "--ignore-eos", description = "Do not stop at end-of-sequence tokens.")
  private boolean ignoreEos;

  @Option(
      names = "--print-ids",
      description = "Print the new token ids instead, a line a sample, separated by commas.")
  private boolean printIds;

  /// What is continued.
  private static final class Input {
    @Option(
        names = "--prompt",
        paramLabel = "TEXT",
        required = true,
        description = "A text; repeatable.")
    private @Nullable List<String> prompts;

    @Option(
        names = "--chat",
        paramLabel = "TEXT",
        required = true,
        description = "What the user says, put into the model's chat template; repeatable.")
    private @Nullable List<String> chats;

    @Option(
        names = "--ids",
        paramLabel = "IDS",
        required = true,
        converter = IdList.Converter.class,
        description = "Token ids: 1,2,3 or @FILE; repeatable.")
    private @Nullable List<IdList> ids;

    @Option(
        names = "--prompts",
        paramLabel = "FILE",
        required = true,
        description = "Many prompts as JSON lines, .gz too; see below.")
    private @Nullable Path file;
  }

  /// A continuation asked for: number `sample` of a prompt.
  private record Part(Asked asked, int sample) {}

  GenerateCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    requireFitting();
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      List<Part> parts = new ArrayList<>();
      List<GenerationRequest> requests = new ArrayList<>();
      List<Asked> asked = asked(opened);
      for (Asked one : asked) {
        for (GenerationRequest request : one.requests(opened)) {
          parts.add(new Part(one, (int) request.record()));
          requests.add(request);
        }
      }
      try (Generator generator =
          new Generator(opened.transformer(), memory.limits(opened.transformer()))) {
        if (requests.size() == 1 && input.file == null && !printIds) {
          stream(generator, requests.getFirst(), opened.tokenizer(), asked.getFirst().stopTexts());
        } else {
          boolean idsOnly = printIds || (input.file != null && !opened.hasTokenizer());
          Tokenizer tokenizer = idsOnly ? null : opened.tokenizer();
          generator.generate(
              requests,
              Generator.Order.REQUESTED,
              TokenListener.NONE,
              completion -> print(completion, parts.get(completion.index()), asked, tokenizer));
        }
      }
    }
    return ExitCode.OK;
  }

  private void requireFitting() {
    if (samples < 1 || samples > MAX_SAMPLES) {
      throw new UsageException("--n %d: want 1 to %d".formatted(samples, MAX_SAMPLES));
    }
    if (maxNewTokens != null && maxNewTokens < 1) {
      throw new UsageException("--max-new-tokens " + maxNewTokens + ": want at least 1");
    }
    if (stops.contains("")) {
      throw new UsageException("--stop: want a text that is not empty");
    }
    if (input.chats == null && input.file == null && !template.variables().isEmpty()) {
      throw new UsageException("--template-var belongs to --chat and --prompts");
    }
    if (input.chats == null && system != null) {
      throw new UsageException("--system belongs to --chat");
    }
  }

  /// All prompts, with the options that hold for each.
  private List<Asked> asked(PretrainedModel model) throws IOException {
    List<String> notFollowed = model.generation().notFollowed();
    if (!notFollowed.isEmpty()) {
      console.note(
          "retmask generate: generation_config.json asks for %s, which is not followed"
              .formatted(String.join(", ", notFollowed)));
    }
    Asked common =
        new Asked(
            "",
            new int[0],
            mask.on(model.transformer().noMask()).during(phase.phase(mask)),
            sampling.sampling(model.generation().sampling(0)),
            maxNewTokens,
            stops.stream().map(GenerateCommand::unescaped).toList(),
            ignoreEos,
            samples);
    if (input.file != null) {
      return new PromptLines(model, template.variables()).read(input.file, common, console);
    }
    List<Asked> asked = new ArrayList<>();
    for (int[] prompt : prompts(model)) {
      asked.add(common.with(String.valueOf(asked.size() + 1), prompt));
    }
    return asked;
  }

  private List<int[]> prompts(PretrainedModel model) throws IOException {
    List<int[]> prompts = new ArrayList<>();
    if (input.ids != null) {
      for (IdList ids : input.ids) {
        prompts.add(ids.ids(model.config().vocabSize()));
      }
    } else if (input.chats != null) {
      for (String chat : input.chats) {
        List<ChatMessage> turns = new ArrayList<>();
        if (system != null) {
          turns.add(ChatMessage.of("system", system));
        }
        turns.add(ChatMessage.of("user", chat));
        prompts.add(model.tokenizer().encodeChat(turns, true, template.variables()));
      }
    } else if (input.prompts != null) {
      for (String prompt : input.prompts) {
        prompts.add(model.tokenizer().encode(prompt, true));
      }
    }
    if (prompts.stream().anyMatch(ids -> ids.length == 0)) {
      throw new UsageException("--prompt: the text has no tokens");
    }
    return prompts;
  }

  /// A shell passes a backslash and an n where a line break is meant.
  private static String unescaped(String text) {
    return text.replace("\\n", "\n").replace("\\t", "\t");
  }

  private void stream(
      Generator generator, GenerationRequest request, Tokenizer tokenizer, List<String> stopTexts) {
    ContinuationText text = new ContinuationText(tokenizer, stopTexts);
    Completion _ = generator.generate(request, (_, _, id) -> console.stream(text.add(id)));
    console.line(text.finish());
  }

  private void print(
      Completion completion, Part part, List<Asked> asked, @Nullable Tokenizer tokenizer) {
    if (printIds) {
      console.line(IdList.text(completion.ids()));
      return;
    }
    String text =
        tokenizer == null
            ? null
            : ContinuationText.of(tokenizer, completion.ids(), part.asked().stopTexts());
    if (input.file == null) {
      String sample = "sample " + (part.sample() + 1);
      String prompt = "prompt " + part.asked().id();
      console.line(
          "--- " + (asked.size() == 1 ? sample : samples == 1 ? prompt : prompt + ", " + sample));
      console.line(String.valueOf(text));
      return;
    }
    ObjectNode line = JsonNodeFactory.instance.objectNode();
    line.put("id", part.asked().id()).put("sample", part.sample());
    line.put("prompt_tokens", part.asked().prompt().length);
    ArrayNode ids = line.putArray("ids");
    Arrays.stream(completion.ids()).forEach(ids::add);
    if (text != null) {
      line.put("text", text);
    }
    line.put("finish_reason", completion.finish().text());
    console.stream(line + "\n");
  }
}
