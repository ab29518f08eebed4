package io.github.retmask.generate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.generate.PairFilter.Answer;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.FinishedOptions;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.model.Transformer;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tokenizer.ChatMessage;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// Samples preference pairs: every prompt is answered by the model as it is (chosen) and by the
/// model with heads switched off (rejected), as two rows over one copy of the weights. Both face the
/// same noise, so they part only where the mask makes them.
///
/// The noise belongs to the record's id, so a record gets the same pair wherever it stands in the
/// file and whatever runs beside it. A killed run goes on where it was and yields the same bytes.
public final class ContrastiveSampler {
  private final Transformer model;
  private final ChatEncoder encoder;
  private final Options options;

  /// What determines the pairs.
  ///
  /// @param modelName names the weights, such as their fingerprint; a resumed run refuses another
  /// @param mask of the rejected side
  /// @param sampling of both sides
  /// @param maxNewTokens length limit of an answer
  /// @param stopIds tokens that end an answer; none to run to the length limit
  /// @param maxPromptTokens longer prompts are dropped and counted, as are those that leave no room
  ///   for an answer in the model's context
  /// @param filter which pairs are dropped beyond identical ones
  public record Options(
      String modelName,
      HeadMask mask,
      Sampling sampling,
      int maxNewTokens,
      int[] stopIds,
      int maxPromptTokens,
      PairFilter filter) {

    public Options {
      if (maxNewTokens < 1 || maxPromptTokens < 1) {
        throw new IllegalArgumentException(
            "pairs: at most %d new and %d prompt tokens, want both at least 1"
                .formatted(maxNewTokens, maxPromptTokens));
      }
    }
  }

  /// Hears how far the work is.
  @FunctionalInterface
  public interface Progress {
    /// Hears nothing.
    Progress NONE = (_, _) -> {};

    /// Called after each pair, and once at the start.
    void done(long pairs, long of);
  }

  /// A sampler of pairs from a model that outlives it.
  public ContrastiveSampler(Transformer model, ChatEncoder encoder, Options options) {
    this.model = model;
    this.encoder = encoder;
    this.options = options;
  }

  /// Samples a pair for every usable record of a prompt file ([PromptRecords]) and writes them in the
  /// file's order, in the published layout with token ids beside the texts. Work in progress is kept
  /// in a [WorkJournal] beside `out`, options and counts of the finished work in a [PairReportFile];
  /// a run that is finished is not repeated.
  ///
  /// @param generator what may run at a time; changes no byte
  /// @param existing what to do with an unfinished run of the same name
  /// @throws IOException when a file cannot be read or written
  /// @throws io.github.retmask.io.FormatException when a prompt line has no known form or a token id
  ///   that the model lacks, there are no lines, or the earlier run had other options
  /// @throws IllegalArgumentException when memory does not hold one request
  public PairReport sample(
      Path prompts,
      Path out,
      Generator.Options generator,
      WorkJournal.Existing existing,
      Progress progress)
      throws IOException {
    if (Files.exists(out) && Files.isSameFile(prompts, out)) {
      throw new IOException(out + ": not written: the prompts are read from it");
    }
    Map<String, String> description = description(prompts);
    Path meta = PairReportFile.beside(out);
    if (existing == WorkJournal.Existing.RESUME
        && Files.exists(out)
        && Files.exists(meta)
        && !Files.exists(WorkJournal.path(out))) {
      PairReportFile.Finished finished = PairReportFile.read(meta);
      FinishedOptions.requireEqual(out, finished.options(), description);
      progress.done(finished.report().records(), finished.report().records());
      return finished.report();
    }
    Survey survey = survey(prompts);
    try (WorkJournal journal = WorkJournal.open(out, description, existing)) {
      int[] itemOf = new int[survey.records()]; // journal item of each record, -1 for none
      Arrays.fill(itemOf, -1);
      for (int i = 0; i < journal.size(); i++) {
        itemOf[journal.item(i).path("record").intValue()] = i;
      }
      progress.done(journal.size(), survey.records());
      if (journal.size() < survey.records()) {
        generate(prompts, survey, journal, itemOf, generator, progress);
      }
      PairReport[] report = new PairReport[1];
      journal.finish(
          () -> {
            report[0] = publish(prompts, out, journal, itemOf);
            PairReportFile.write(meta, new PairReportFile.Finished(description, report[0]));
          });
      return report[0];
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
  }

  /// What the prompt file holds.
  private record Survey(int records, int maxPositions) {}

  private Survey survey(Path prompts) throws IOException {
    try (Prompts in = new Prompts(prompts)) {
      int longest = 0;
      int records = 0;
      while (in.advance()) {
        records++;
        longest = Math.max(longest, in.ids().length);
      }
      if (in.read() == 0) {
        throw new FormatException(prompts + ": no prompts in this file");
      }
      return new Survey(records, longest + options.maxNewTokens());
    }
  }

  private void generate(
      Path prompts,
      Survey survey,
      WorkJournal journal,
      int[] itemOf,
      Generator.Options limits,
      Progress progress)
      throws IOException {
    Map<Integer, Completion> waiting = new HashMap<>(); // first twins that are ready, by pair
    try (Prompts in = new Prompts(prompts);
        Generator generator = new Generator(model, limits)) {
      Twins twins = new Twins(in, itemOf);
      generator.generate(
          twins,
          survey.maxPositions(),
          Generator.Order.READY,
          TokenListener.NONE,
          completion -> {
            int pair = completion.index() / 2;
            Completion other = waiting.remove(pair);
            if (other == null) {
              waiting.put(pair, completion);
              return;
            }
            boolean intact = completion.index() % 2 == 0;
            int record = twins.recordOf(pair);
            append(
                journal, record, intact ? completion : other, intact ? other : completion, itemOf);
            progress.done(journal.size(), survey.records());
          });
    }
  }

  private static void append(
      WorkJournal journal, int record, Completion chosen, Completion rejected, int[] itemOf) {
    ObjectNode item = JsonNodeFactory.instance.objectNode();
    item.put("record", record);
    putIds(item, "chosen_ids", chosen.ids());
    putIds(item, "rejected_ids", rejected.ids());
    item.put("chosen_finish", chosen.finish().name());
    item.put("rejected_finish", rejected.finish().name());
    try {
      journal.append(item);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    itemOf[record] = journal.size() - 1;
  }

  private PairReport publish(Path prompts, Path out, WorkJournal journal, int[] itemOf)
      throws IOException {
    Map<DropReason, Long> dropped = new EnumMap<>(DropReason.class);
    long[] written = new long[3]; // pairs, chosen tokens, rejected tokens
    try (Prompts in = new Prompts(prompts)) {
      JsonLines.write(
          out,
          sink -> {
            while (in.advance()) {
              ObjectNode item = journal.item(itemOf[in.number()]);
              Answer chosen = answer(item, "chosen");
              Answer rejected = answer(item, "rejected");
              DropReason reason = options.filter().reason(chosen, rejected);
              if (reason != null) {
                dropped.merge(reason, 1L, Long::sum);
                continue;
              }
              sink.write(line(in.record(), in.ids(), chosen, rejected));
              written[0]++;
              written[1] += chosen.ids().length;
              written[2] += rejected.ids().length;
            }
          });
      in.dropped().forEach((reason, count) -> dropped.merge(reason, count, Long::sum));
      return new PairReport(in.read(), written[0], dropped, written[1], written[2]);
    }
  }

  private Answer answer(ObjectNode item, String side) {
    JsonNode array = item.path(side + "_ids");
    int[] ids = new int[array.size()];
    Arrays.setAll(ids, i -> array.get(i).intValue());
    FinishReason finish = FinishReason.valueOf(item.path(side + "_finish").asText());
    return new Answer(ids, encoder.text(ids), finish);
  }

  private ObjectNode line(PromptRecord record, int[] prompt, Answer chosen, Answer rejected) {
    List<ChatMessage> asked = encoder.turns(record.prompt());
    ObjectNode line = PairFile.line(record.id(), asked, chosen.text(), rejected.text());
    putIds(line, "prompt_ids", prompt);
    putIds(line, "chosen_ids", chosen.ids());
    putIds(line, "rejected_ids", rejected.ids());
    line.putObject("finish_reasons")
        .put("chosen", chosen.finish().text())
        .put("rejected", rejected.finish().text());
    line.put("first_divergence", firstDivergence(chosen.ids(), rejected.ids()));
    return line;
  }

  /// Number of the first token in which two answers differ; the length of the shorter one when it
  /// begins the longer one.
  static int firstDivergence(int[] a, int[] b) {
    int at = Arrays.mismatch(a, b);
    return at < 0 ? a.length : at;
  }

  private static void putIds(ObjectNode object, String name, int[] ids) {
    ArrayNode array = object.putArray(name);
    for (int id : ids) {
      array.add(id);
    }
  }

  /// Everything that determines the bytes of the pair file.
  private Map<String, String> description(Path prompts) throws IOException {
    Sampling s = options.sampling();
    PairFilter f = options.filter();
    Map<String, String> all = new TreeMap<>();
    all.put("model", options.modelName());
    all.put("backend", model.ops().backend());
    all.put("prompts", sha256(prompts));
    all.put("mask", text(options.mask()));
    all.put("temperature", String.valueOf(s.temperature()));
    all.put("top-k", String.valueOf(s.topK()));
    all.put("top-p", String.valueOf(s.topP()));
    all.put("min-p", String.valueOf(s.minP()));
    all.put("repetition-penalty", String.valueOf(s.repetitionPenalty()));
    all.put("seed", String.valueOf(s.seed()));
    all.put("max-new-tokens", String.valueOf(options.maxNewTokens()));
    all.put("max-prompt-tokens", String.valueOf(options.maxPromptTokens()));
    all.put("stop-ids", Arrays.toString(options.stopIds()));
    all.put("template-vars", encoder.variables().toString());
    all.put("finished-only", String.valueOf(f.finishedOnly()));
    all.put("max-answer-tokens", String.valueOf(f.maxTokens()));
    all.put("max-length-ratio", String.valueOf(f.maxLengthRatio()));
    all.put("no-loops", String.valueOf(f.noLoops()));
    return all;
  }

  /// A mask in full: its own text leaves out the constants of mean heads.
  private static String text(HeadMask mask) {
    StringBuilder text = new StringBuilder(mask.toString());
    for (HeadId id : mask.touched()) {
      if (mask.kind(id.layer(), id.head()) instanceof HeadKind.Mean mean) {
        long sum = SplitMix64.key(Arrays.toString(mean.z()));
        text.append(" %s:%016x".formatted(id, sum));
      }
    }
    return text.toString();
  }

  private static String sha256(Path file) throws IOException {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest)) {
        in.transferTo(OutputStream.nullOutputStream());
      }
      return HexFormat.of().formatHex(digest.digest());
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /// The records of a prompt file that fit the model, numbered from 0. Every pass over a file numbers
  /// them alike.
  private final class Prompts implements AutoCloseable {
    private final PromptRecords records;
    private final Map<DropReason, Long> unfit = new EnumMap<>(DropReason.class);
    private @Nullable PromptRecord record;
    private int[] ids = new int[0];
    private int number = -1;

    Prompts(Path file) throws IOException {
      records = PromptRecords.open(file);
    }

    /// Goes on to the next record; false at the end.
    boolean advance() throws IOException {
      for (PromptRecord next = records.next(); next != null; next = records.next()) {
        int[] encoded = encoder.encode(next.prompt());
        requireKnown(encoded);
        if (encoded.length == 0) {
          unfit.merge(DropReason.EMPTY_PROMPT, 1L, Long::sum);
        } else if (encoded.length > options.maxPromptTokens()
            || (long) encoded.length + options.maxNewTokens() > model.config().maxPositions()) {
          unfit.merge(DropReason.LONG_PROMPT, 1L, Long::sum);
        } else {
          record = next;
          ids = encoded;
          number++;
          return true;
        }
      }
      return false;
    }

    /// Only ids that were given as such can be none of the model's.
    private void requireKnown(int[] encoded) {
      int vocabulary = model.config().vocabSize();
      for (int t = 0; t < encoded.length; t++) {
        if (encoded[t] >= vocabulary) {
          throw records
              .fields()
              .error(
                  "prompt_ids",
                  "holds token id %d at %d, want 0 to %d".formatted(encoded[t], t, vocabulary - 1));
        }
      }
    }

    PromptRecord record() {
      PromptRecord current = record;
      if (current == null) {
        throw new NoSuchElementException("no record before the first advance");
      }
      return current;
    }

    int[] ids() {
      return ids;
    }

    int number() {
      return number;
    }

    long read() {
      return records.read();
    }

    Map<DropReason, Long> dropped() {
      Map<DropReason, Long> all = new EnumMap<>(unfit);
      records.dropped().forEach((reason, count) -> all.merge(reason, count, Long::sum));
      return all;
    }

    @Override
    public void close() throws IOException {
      records.close();
    }
  }

  /// Two requests for every record that has no pair yet: intact, then masked.
  private final class Twins implements Iterator<GenerationRequest> {
    private final Prompts prompts;
    private final int[] itemOf;
    private final Map<Integer, Integer> records = new HashMap<>(); // by pair, until asked for
    private final StopRule stop = StopRule.at(options.stopIds());
    private int pairs;
    private @Nullable GenerationRequest intact; // next, when the pair is new
    private @Nullable GenerationRequest masked; // next, when its twin is out

    Twins(Prompts prompts, int[] itemOf) {
      this.prompts = prompts;
      this.itemOf = itemOf;
    }

    @Override
    public boolean hasNext() {
      if (intact != null || masked != null) {
        return true;
      }
      try {
        while (prompts.advance()) {
          if (itemOf[prompts.number()] < 0) {
            records.put(pairs++, prompts.number());
            intact =
                new GenerationRequest(
                    prompts.ids(),
                    model.noMask(),
                    options.sampling(),
                    SplitMix64.key(prompts.record().id()),
                    options.maxNewTokens(),
                    stop,
                    false);
            return true;
          }
        }
        return false;
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }

    @Override
    public GenerationRequest next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      GenerationRequest first = intact;
      if (first != null) {
        masked = first.withMask(options.mask());
        intact = null;
        return first;
      }
      GenerationRequest second = masked;
      masked = null;
      if (second == null) {
        throw new NoSuchElementException();
      }
      return second;
    }

    /// Number of the record of a pair, counted in the order of the requests; asked once.
    int recordOf(int pair) {
      Integer record = records.remove(pair);
      if (record == null) {
        throw new IllegalStateException("pair " + pair + " was not asked for");
      }
      return record;
    }
  }
}
