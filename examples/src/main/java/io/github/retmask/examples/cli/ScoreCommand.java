package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.ScoreReport;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.io.FinishedOptions;
import io.github.retmask.io.HeadScoreFile;
import io.github.retmask.io.ScoreReportFile;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.RetrievalHeadScorer;
import io.github.retmask.scoring.ScoredTrials;
import io.github.retmask.scoring.Thinking;
import io.github.retmask.scoring.WuMethod;
import io.github.retmask.tokenizer.ChatTemplate;
import io.github.retmask.tokenizer.ThinkTags;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask score`: how much of a needle each head copies.
@Command(
    name = "score",
    description = "Score every head by what it copies while the model answers needle prompts.",
    footer = {
      "",
      "Trials come from --needles, from --trials, or, for a model of a synthetic language, "
          + "from that language. A trial counts when the response repeats more than half of the "
          + "answer, by ROUGE-1 recall; where a trial has no answer text or the model no tokenizer, "
          + "by tokens.",
      "Method wu stops at the end of the sequence and scores distinct needle positions; "
          + "wu-compat does what the published script does, with all its oddities.",
      "Writes SCORES in the published layout. Options, trials, and per head a mean with its "
          + "95 %% interval go into a file beside it, for x.json x.meta.json. Run again, it goes on "
          + "where it was.",
      "",
      "Examples:",
      "  retmask score bundled:tiny --out scores.json",
      "  retmask score MODEL --needles niah --lengths 1000:8000:8 --out scores.json",
      "  retmask score MODEL --trials trials.jsonl --out scores.json"
    })
final class ScoreCommand implements Callable<Integer> {
  private static final int SHOWN_HEADS = 10;

  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();
  @Mixin private final TrialOptions source = new TrialOptions();
  @Mixin private final ResumeOptions resume = new ResumeOptions();
  @Mixin private final MemoryOption memory = new MemoryOption();

  @Option(names = "--out", paramLabel = "SCORES", required = true, description = "File to write.")
  private Path out = Path.of("");

  @Option(
      names = "--method",
      paramLabel = "METHOD",
      defaultValue = "wu",
      description = "wu (the default) or wu-compat.")
  private String method = "wu";

  @Option(
      names = "--think-tokens",
      paramLabel = "N",
      description =
          "Let the model think for up to N tokens before it answers, and score the answer alone;"
              + " without it, a template that knows enable_thinking gets false.")
  private @Nullable Integer thinkTokens;

  ScoreCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    WuMethod wu = method();
    requireThinkable(wu);
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      TrialOptions.Made made = source.make(opened, wu, thinkTokens != null, console);
      SortedMap<String, String> options = new TreeMap<>(made.options());
      options.put("method", wu.label());
      model.describe(options);
      if (thinkTokens != null) {
        options.put("think-tokens", String.valueOf(thinkTokens));
      }
      options.put("eos", IdList.text(opened.eosIds()));
      options.put("backend", opened.transformer().ops().backend());
      String fingerprint =
          CheckpointFingerprint.of(opened.files(), CheckpointFingerprint.Coverage.SAMPLED).text();
      ScoreReport report = finished(fingerprint, options);
      if (report == null) {
        report = score(opened, made, fingerprint, options);
      } else {
        console.note("retmask score: " + out + " is finished already; --restart scores anew");
      }
      print(report);
    }
    return ExitCode.OK;
  }

  private void requireThinkable(WuMethod wu) {
    if (thinkTokens != null && wu == WuMethod.COMPAT) {
      throw new UsageException(
          "--think-tokens: method wu-compat scores whatever the model generates");
    }
    if (thinkTokens != null && thinkTokens < 1) {
      throw new UsageException("--think-tokens " + thinkTokens + ": want at least 1");
    }
  }

  /// How the model thinks, as its own chat template says.
  private static Thinking thinking(PretrainedModel model, int maxTokens) throws IOException {
    ChatTemplate template = model.hasTokenizer() ? model.tokenizer().chatTemplate() : null;
    ThinkTags tags = template == null ? null : ThinkTags.of(template);
    if (tags == null) {
      throw new UsageException(
          "--think-tokens: the model has no chat template that knows a think block, such as <think>");
    }
    return new Thinking(model.tokenizer(), tags, maxTokens);
  }

  private WuMethod method() {
    try {
      return WuMethod.parse(method);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--" + e.getMessage());
    }
  }

  /// The report of an earlier run that ended, or null.
  ///
  /// @throws io.github.retmask.io.FormatException naming the options that differ from that run's
  private @Nullable ScoreReport finished(String fingerprint, SortedMap<String, String> options)
      throws IOException {
    Path beside = ScoreReportFile.beside(out);
    if (resume.isRestart()
        || !Files.exists(out)
        || !Files.exists(beside)
        || Files.exists(WorkJournal.path(out))) {
      return null;
    }
    ScoreReport report = ScoreReportFile.read(beside);
    SortedMap<String, String> before = new TreeMap<>(report.options());
    before.put("model", report.model());
    SortedMap<String, String> now = new TreeMap<>(options);
    now.put("model", fingerprint);
    FinishedOptions.requireEqual(out, before, now);
    return report;
  }

  private ScoreReport score(
      PretrainedModel opened,
      TrialOptions.Made made,
      String fingerprint,
      SortedMap<String, String> options)
      throws IOException {
    RetrievalHeadScorer scorer =
        new RetrievalHeadScorer(
            opened.transformer(),
            opened.hasTokenizer() ? opened.tokenizer() : null,
            method(),
            opened.eosIds());
    if (thinkTokens != null) {
      scorer = scorer.skipping(thinking(opened, thinkTokens));
    }
    SortedMap<String, String> journalOptions = new TreeMap<>(options);
    journalOptions.put("model", fingerprint);
    try (WorkJournal journal = WorkJournal.open(out, journalOptions, resume.journal());
        ProgressMeter meter =
            new ProgressMeter(console, "score", "trials", journal.size(), made.trials().size());
        Interruption _ =
            Interruption.guard(
                console,
                "retmask score: interrupted; finished trials are kept, the same command goes on",
                Interruption.Stop.AT_ONCE)) {
      ScoredTrials scored =
          scorer.score(
              made.trials(),
              journal,
              memory.limits(opened.transformer()),
              (done, _) -> meter.at(done, ""));
      ScoreReport report = scored.report(fingerprint, method(), options);
      journal.finish(
          () -> {
            HeadScoreFile.write(out, scored.scores());
            ScoreReportFile.write(ScoreReportFile.beside(out), report);
          });
      return report;
    }
  }

  private void print(ScoreReport report) {
    console.line(
        "trials  %d tried, %d kept%s; %d distinct, worth %.1f"
            .formatted(
                report.tried(),
                report.kept(),
                report.failed().isEmpty() ? "" : " " + report.failed(),
                report.distinct(),
                report.effective()));
    console.line(
        String.format(
            Locale.ROOT,
            "heads   %d of %d at 0.1 or more, %d at 0.05 or more",
            atLeast(report, 0.1),
            report.heads().size(),
            atLeast(report, 0.05)));
    console.line(
        String.format(
            Locale.ROOT,
            "spread  Gini %.3f; the best 5 %% of the heads hold %.1f %% of all score",
            report.gini(),
            100 * report.top5Share()));
    List<HeadEstimate> best = report.heads();
    for (HeadEstimate head : best.subList(0, Math.min(SHOWN_HEADS, best.size()))) {
      console.line(
          String.format(
              Locale.ROOT,
              "%-7s %.4f [%.4f, %.4f]",
              head.id(),
              head.mean(),
              head.ci95().low(),
              head.ci95().high()));
    }
  }

  private static long atLeast(ScoreReport report, double threshold) {
    return report.heads().stream().filter(head -> head.mean() >= threshold).count();
  }
}
