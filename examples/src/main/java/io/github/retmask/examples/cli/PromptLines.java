package io.github.retmask.examples.cli;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.generate.ChatEncoder;
import io.github.retmask.generate.DropReason;
import io.github.retmask.generate.Prompt;
import io.github.retmask.generate.PromptRecord;
import io.github.retmask.generate.PromptRecords;
import io.github.retmask.generate.Sampling;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tokenizer.TemplateException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.TypeConversionException;

/// Reads the prompts of `generate --prompts`: the lines of [PromptRecords], which may say for
/// themselves what the command line says for all:
///
/// | key | meaning |
/// |---|---|
/// | `mask` | heads, `"3-1,3-4"`, `"@FILE"` or `[[3, 1], [3, 4]]`; empty for none |
/// | `mask_kind`, `mask_phase` | as `--mask-kind` and `--mask-phase`; belong to a `mask` of the line |
/// | `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty`, `seed` | as the options |
/// | `max_new_tokens`, `n`, `ignore_eos` | as the options |
/// | `stop` | a text or a list of texts, in place of all `--stop` |
///
/// Everything else in a line is left alone.
final class PromptLines {
  private final PretrainedModel model;
  private final @Nullable ChatEncoder encoder; // null without a tokenizer

  PromptLines(PretrainedModel model, Map<String, ?> templateVariables) throws IOException {
    this.model = model;
    this.encoder =
        model.hasTokenizer() ? new ChatEncoder(model.tokenizer(), templateVariables) : null;
  }

  /// Every line of a file.
  ///
  /// @param otherwise what holds where a line says nothing; its prompt does not matter
  /// @throws FormatException naming file, line and key
  List<Asked> read(Path file, Asked otherwise, Console notes) throws IOException {
    List<Asked> asked = new ArrayList<>();
    try (PromptRecords records = PromptRecords.open(file)) {
      for (PromptRecord record = records.next(); record != null; record = records.next()) {
        asked.add(asked(record, records.fields(), otherwise));
      }
      if (!records.dropped().isEmpty()) {
        List<String> reasons = new ArrayList<>();
        records.dropped().forEach((DropReason why, Long n) -> reasons.add(why.text() + " " + n));
        notes.note(
            "retmask generate: %s: records passed over: %s"
                .formatted(file, String.join(", ", reasons.stream().sorted().toList())));
      }
    }
    if (asked.isEmpty()) {
      throw new FormatException(file + ": no prompts in the file");
    }
    return asked;
  }

  private Asked asked(PromptRecord record, ConfigReader line, Asked otherwise) throws IOException {
    int[] prompt = prompt(record.prompt(), line);
    boolean endless = line.flag("ignore_eos", otherwise.ignoreEos());
    Integer most =
        line.has("max_new_tokens")
            ? Integer.valueOf(line.integer("max_new_tokens", 1))
            : otherwise.maxNewTokens();
    Asked asked =
        new Asked(
            record.id(),
            prompt,
            mask(line, otherwise.mask()),
            sampling(line, otherwise.sampling()),
            most,
            line.has("stop") ? stops(line) : otherwise.stopTexts(),
            endless,
            line.has("n")
                ? line.integerBetween("n", 1, GenerateCommand.MAX_SAMPLES)
                : otherwise.samples());
    int positions = model.config().maxPositions();
    if (prompt.length + (long) asked.newTokens(positions) > positions) {
      throw line.error(
          "max_new_tokens",
          "and a prompt of %d tokens: %d positions, the model has %d"
              .formatted(
                  prompt.length, prompt.length + (long) asked.newTokens(positions), positions));
    }
    return asked;
  }

  private int[] prompt(Prompt prompt, ConfigReader line) {
    if (prompt instanceof Prompt.Ids given) {
      int vocabulary = model.config().vocabSize();
      for (int id : given.ids()) {
        if (id >= vocabulary) {
          throw line.error("prompt_ids", "hold %d, want ids below %d".formatted(id, vocabulary));
        }
      }
      return given.ids();
    }
    ChatEncoder text = encoder;
    if (text == null) {
      throw line.error("prompt_ids", "is missing: the model has no tokenizer.json for texts");
    }
    int[] ids;
    try {
      ids = text.encode(prompt);
    } catch (IllegalStateException | TemplateException e) {
      throw line.error("messages", "cannot be rendered: " + e.getMessage());
    }
    if (ids.length == 0) {
      throw line.error("prompt", "has no tokens");
    }
    return ids;
  }

  private HeadMask mask(ConfigReader line, HeadMask otherwise) throws IOException {
    if (!line.has("mask")) {
      for (String key : List.of("mask_kind", "mask_phase")) {
        if (line.has(key)) {
          throw line.error(key, "without mask: name the heads in the same line");
        }
      }
      return otherwise;
    }
    HeadMask none = model.transformer().noMask();
    try {
      List<HeadId> heads = heads(line);
      HeadSwitch kind =
          new HeadSwitch.Converter().convert(line.text("mask_kind", HeadSwitch.ZERO.text()));
      MaskPhase phase = MaskPhaseOption.parse(line.text("mask_phase", MaskPhaseOption.EVERYWHERE));
      return kind.on(none, heads).during(phase);
    } catch (IllegalArgumentException | TypeConversionException | UsageException e) {
      throw line.error("mask", "cannot be used: " + e.getMessage());
    }
  }

  private static List<HeadId> heads(ConfigReader line) throws IOException {
    JsonNode given = line.json().get("mask");
    if (given.isTextual()) {
      String text = given.textValue();
      return text.isBlank() ? List.of() : new HeadList.Converter().convert(text).heads();
    }
    List<HeadId> heads = new ArrayList<>();
    for (JsonNode head : given) {
      if (head.size() != 2 || !head.get(0).isInt() || !head.get(1).isInt()) {
        throw new IllegalArgumentException("entry " + head + ", want [layer, head]");
      }
      heads.add(new HeadId(head.get(0).intValue(), head.get(1).intValue()));
    }
    if (!given.isArray() || heads.stream().distinct().count() < heads.size()) {
      throw new IllegalArgumentException(given + ", want [[layer, head], ...], each head once");
    }
    return heads;
  }

  private static Sampling sampling(ConfigReader line, Sampling otherwise) {
    Sampling sampling;
    try {
      sampling =
          new Sampling(
              line.number("temperature", otherwise.temperature()),
              line.integer("top_k", 0, otherwise.topK()),
              line.number("top_p", otherwise.topP()),
              line.number("min_p", otherwise.minP()),
              line.number("repetition_penalty", otherwise.repetitionPenalty()),
              line.has("seed") ? seed(line) : otherwise.seed());
    } catch (IllegalArgumentException e) {
      throw line.error("sampling", "is not possible: " + e.getMessage());
    }
    for (String key : List.of("top_k", "top_p", "min_p")) {
      if (sampling.isGreedy() && line.has(key)) {
        throw line.error(key, "has no effect at temperature 0; give temperature");
      }
    }
    return sampling;
  }

  private static long seed(ConfigReader line) {
    JsonNode seed = line.json().get("seed");
    if (!seed.isIntegralNumber() || !seed.canConvertToLong()) {
      throw line.error("seed", "is " + seed + ", want an integer");
    }
    return seed.longValue();
  }

  private static List<String> stops(ConfigReader line) {
    JsonNode given = line.json().get("stop");
    List<String> stops = new ArrayList<>();
    for (JsonNode stop : given.isArray() ? given : List.of(given)) {
      if (!stop.isTextual() || stop.textValue().isEmpty()) {
        throw line.error("stop", "is " + given + ", want a text or a list of texts, none empty");
      }
      stops.add(stop.textValue());
    }
    return stops;
  }
}
