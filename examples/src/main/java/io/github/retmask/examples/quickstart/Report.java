package io.github.retmask.examples.quickstart;

import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadId;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.stats.Interval;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/// [Results] as one HTML page that needs nothing else: no script, no network, light or dark as the
/// reader's system is.
public final class Report {
  private static final String STYLE =
      """
      :root{color-scheme:light dark;--bg:#fff;--fg:#1c1f24;--soft:#5b6470;--rule:#d9dde3;
      --shade:#0072b214;--heat:#0072b2;--s0:#4d4d4d}
      @media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e8eb;--soft:#9aa4b0;
      --rule:#333a43;--shade:#56b4e91f;--heat:#56b4e9;--s0:#c8c8c8}}
      body{background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif;
      max-width:62rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}
      h1{font-size:1.6rem}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}p{margin:.4rem 0}
      .soft{color:var(--soft)}svg{display:block;width:100%;height:auto}
      svg text{fill:var(--fg);font:12px system-ui,sans-serif}
      .wide{overflow-x:auto}table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}
      th,td{padding:.2rem .7rem .2rem 0;border-bottom:1px solid var(--rule);text-align:right;
      font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left}
      .words td,.words th{text-align:left}summary{cursor:pointer}
      .heat{fill:var(--heat);stroke:var(--rule)}.picked{stroke:var(--fg);stroke-width:2.5}
      .trained{fill:var(--shade)}.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}
      .whisker{stroke:var(--fg);stroke-width:1.5}
      .line{fill:none;stroke:var(--c);stroke-width:2}.dot,.bar{fill:var(--c)}
      .d1{stroke-dasharray:7 3}.d2{stroke-dasharray:2 3}.d3{stroke-dasharray:9 3 2 3}
      .s0{--c:var(--s0)}.s1{--c:#d55e00}.s2{--c:#e69f00}.s3{--c:#b0a000}.s4{--c:#cc79a7}
      .s5{--c:#0072b2}.s6{--c:#56b4e9}.s7{--c:#009e73}
      @media(prefers-color-scheme:dark){.s5{--c:#4aa3ff}.s3{--c:#f0e442}}
      """;

  private Report() {}

  /// Writes the page, whole or not at all.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, Results results) throws IOException {
    AtomicFiles.write(file, html(results));
  }

  /// The page.
  public static String html(Results results) {
    Markup page = new Markup();
    page.open("html", "lang", "en").open("head");
    page.shape("meta", "charset", "utf-8");
    page.shape("meta", "name", "viewport", "content", "width=device-width,initial-scale=1");
    page.element("title", "retmask: " + results.model()).open("style");
    page.text(STYLE).close().close().open("body");
    page.element("h1", "Retrieval heads of " + results.model());
    page.element("p", summary(results), "class", "soft");
    findings(page, results);
    heads(page, results);
    accuracy(page, results);
    ablations(page, results);
    memory(page, results);
    training(page, results);
    tables(page, results);
    return "<!doctype html>\n" + page.close().close().finish() + "\n";
  }

  private static String summary(Results results) {
    return "Seeds "
        + results.seeds().stream().map(String::valueOf).collect(Collectors.joining(", "))
        + "; "
        + number("%.0f s", results.wallSeconds())
        + "; "
        + TextTable.trials(results);
  }

  private static void findings(Markup page, Results results) {
    if (results.comparisons().isEmpty()) {
      return;
    }
    page.element("h2", "What the intervals say").open("ul");
    for (Results.Comparison comparison : results.comparisons()) {
      page.element("li", Verdict.sentence(results, comparison));
    }
    page.close();
    page.element(
        "p",
        "Paired differences on the same prompts. Higher and lower mean that the 95 % interval of"
            + " that one difference lies on one side of zero.",
        "class",
        "soft");
  }

  private static void heads(Markup page, Results results) {
    if (results.heads().isEmpty()) {
      page.element("h2", "Head scores").element("p", "No heads were scored.");
      return;
    }
    long above = results.heads().stream().filter(h -> h.mean() >= results.threshold()).count();
    page.element(
        "h2",
        "%d of %d heads score %s or more; %d were masked"
            .formatted(
                above,
                results.heads().size(),
                number("%.2f", results.threshold()),
                results.selected().size()));
    Charts.heatMap(page, results);
  }

  private static void accuracy(Markup page, Results results) {
    page.element("h2", "Answers from the context, by prompt length");
    chart(page, results, arm -> !arm.startsWith("ablated-"));
  }

  private static void ablations(Markup page, Results results) {
    page.element("h2", "The base with heads masked, without training");
    chart(page, results, arm -> arm.startsWith("ablated-") || arm.equals(Results.BASE));
  }

  private static void chart(Markup page, Results results, Predicate<String> which) {
    List<String> arms = with(results, Results.CONTEXT_EXACT).stream().filter(which).toList();
    if (arms.isEmpty()) {
      page.element("p", "Not measured.");
    } else {
      Charts.byLength(page, results, Results.CONTEXT_EXACT, arms);
      page.element("p", "Whiskers are 95 % intervals.", "class", "soft");
    }
  }

  private static void memory(Markup page, Results results) {
    page.element("h2", "Answers from memory: no needle in the prompt, the default value is right");
    List<String> arms = with(results, Results.MEMORY_EXACT);
    List<Results.Column> columns =
        results.columns().stream().filter(c -> c.metric().equals(Results.MEMORY_EXACT)).toList();
    if (arms.isEmpty()) {
      page.element("p", "Not measured.");
    } else {
      Charts.bars(page, results, columns, arms);
    }
  }

  private static List<String> with(Results results, String metric) {
    return results.arms().stream()
        .filter(
            arm ->
                results.evaluation().stream()
                    .anyMatch(e -> e.arm().equals(arm) && e.metric().equals(metric)))
        .toList();
  }

  private static void training(Markup page, Results results) {
    page.element("h2", "Training on preference pairs");
    if (results.curves().isEmpty()) {
      page.element("p", "No training was logged.");
      return;
    }
    page.element("h3", "Loss");
    Charts.curve(page, results, "Loss", Results.CurvePoint::loss);
    page.element("h3", "Share of pairs whose chosen answer has the higher reward");
    Charts.curve(page, results, "Accuracy", Results.CurvePoint::accuracy);
    page.element("h3", "Reward margin");
    Charts.curve(page, results, "Margin", Results.CurvePoint::margin);
  }

  private static void tables(Markup page, Results results) {
    List<List<String>> values = new ArrayList<>();
    for (Results.Evaluation e : results.evaluation()) {
      values.add(
          List.of(
              e.arm(),
              e.metric(),
              Integer.toString(e.length()),
              percent(e.value()),
              interval(e.ci95(), 100, "%.1f"),
              Long.toString(e.trials())));
    }
    table(
        page,
        "All values in %",
        List.of("arm", "metric", "length", "value", "95 % interval", "trials"),
        values);
    List<List<String>> differences = new ArrayList<>();
    for (Results.Difference d : results.differences()) {
      differences.add(
          List.of(
              d.arm(),
              d.against(),
              d.metric(),
              Integer.toString(d.length()),
              TextTable.cell("%+.1f", d.value(), null),
              interval(d.ci95(), 100, "%+.1f")));
    }
    table(
        page,
        "All differences in points",
        List.of("arm", "against", "metric", "length", "difference", "95 % interval"),
        differences);
    List<List<String>> heads = new ArrayList<>();
    results.heads().stream()
        .sorted(Comparator.comparingDouble(HeadEstimate::mean).reversed())
        .forEach(
            h ->
                heads.add(
                    List.of(
                        h.id().toString(),
                        number("%.3f", h.mean()),
                        interval(h.ci95(), 1, "%.3f"),
                        masked(results, h.id()))));
    table(page, "Heads, best first", List.of("head", "score", "95 % interval", ""), heads);
    List<List<String>> pairs = new ArrayList<>();
    for (Results.Pairs p : results.pairs()) {
      pairs.add(
          List.of(
              p.arm(),
              Long.toString(p.seed()),
              Long.toString(p.prompts()),
              Long.toString(p.kept()),
              Long.toString(p.identical())));
    }
    table(
        page,
        "Preference pairs",
        List.of("arm", "seed", "prompts", "pairs kept", "identical twins dropped"),
        pairs);
    List<List<String>> stages = new ArrayList<>();
    for (Results.Stage stage : results.stages()) {
      stages.add(List.of(stage.name(), number("%.1f", stage.seconds())));
    }
    table(page, "Time", List.of("part", "seconds"), stages);
    table(page, "Options", List.of("option", "value"), rows(results.options()));
    table(page, "Environment", List.of("", ""), rows(results.environment()));
  }

  private static String masked(Results results, HeadId head) {
    return results.selected().contains(head) ? "masked" : "";
  }

  private static List<List<String>> rows(Map<String, String> map) {
    List<List<String>> rows = new ArrayList<>();
    map.forEach((key, value) -> rows.add(List.of(key, value)));
    return rows;
  }

  private static void table(
      Markup page, String title, List<String> header, List<List<String>> rows) {
    page.element("h2", title);
    if (rows.isEmpty()) {
      page.element("p", "None.");
      return;
    }
    page.open("details").element("summary", rows.size() + " rows").open("div", "class", "wide");
    page.open("table").open("thead").open("tr");
    header.forEach(cell -> page.element("th", cell));
    page.close().close().open("tbody");
    for (List<String> row : rows) {
      page.open("tr");
      row.forEach(cell -> page.element("td", cell));
      page.close();
    }
    page.close().close().close().close();
  }

  private static String percent(double value) {
    return TextTable.cell("%.1f", value, null);
  }

  private static String number(String format, double value) {
    return Double.isFinite(value) ? String.format(Locale.ROOT, format, value) : "-";
  }

  private static String interval(@Nullable Interval ci95, double scale, String format) {
    return ci95 == null
        ? "-"
        : String.format(
            Locale.ROOT, format + " to " + format, ci95.low() * scale, ci95.high() * scale);
  }
}
