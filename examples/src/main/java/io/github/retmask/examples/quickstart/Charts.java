package io.github.retmask.examples.quickstart;

import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;
import org.jspecify.annotations.Nullable;

/// The figures of a [Report] as inline SVG. Colours come from the page's style sheet: `s0` to `s7`
/// for arms in the order of [Results#ARMS] (the Okabe-Ito set, told apart with every common kind of
/// colour vision), and each arm has its own dash pattern or place as well.
final class Charts {
  private static final double LEFT = 52;
  private static final double TOP = 14;
  private static final double WIDTH = 560;
  private static final double HEIGHT = 260;

  private Charts() {}

  /// Class of an arm's colour.
  static String colour(Results results, String arm) {
    int known = Results.ARMS.indexOf(arm);
    int index = known >= 0 ? known : results.arms().indexOf(arm);
    return "s" + Math.floorMod(index, 8);
  }

  /// Scores, layer by head; selected heads are outlined.
  static void heatMap(Markup page, Results results) {
    int layers = results.layers();
    int width = results.headsPerLayer();
    for (HeadEstimate head : results.heads()) {
      layers = Math.max(layers, head.id().layer() + 1);
      width = Math.max(width, head.id().head() + 1);
    }
    double cell = Math.clamp(620.0 / Math.max(1, width), 9, 44);
    double tall = Math.min(cell, 30);
    double bottom = TOP + layers * tall;
    open(page, "Head scores", LEFT + width * cell + 20, bottom + 78);
    for (int layer = 0; layer < layers; layer++) {
      if (layer % Math.max(1, (int) Math.ceil(12 / tall)) == 0) {
        label(page, "end", LEFT - 8, TOP + (layer + 0.5) * tall + 4, Integer.toString(layer));
      }
    }
    for (int head = 0; head < width; head++) {
      if (head % Math.max(1, (int) Math.ceil(20 / cell)) == 0) {
        label(page, "middle", LEFT + (head + 0.5) * cell, bottom + 16, Integer.toString(head));
      }
    }
    for (HeadEstimate head : results.heads()) {
      String title =
          String.format(
              Locale.ROOT,
              "head %s: %.3f, 95 %% interval %.3f to %.3f",
              head.id(),
              head.mean(),
              head.ci95().low(),
              head.ci95().high());
      page.titled(
          "rect",
          title,
          "class",
          results.selected().contains(head.id()) ? "heat picked" : "heat",
          "x",
          LEFT + head.id().head() * cell + 1.5,
          "y",
          TOP + head.id().layer() * tall + 1.5,
          "width",
          cell - 3,
          "height",
          tall - 3,
          "fill-opacity",
          0.06 + 0.94 * Math.clamp(head.mean(), 0, 1));
    }
    label(page, "middle", LEFT + width * cell / 2, bottom + 34, "head");
    label(page, "start", 2, TOP - 3, "layer");
    for (int step = 0; step <= 4; step++) {
      double x = LEFT + step * 34;
      page.shape(
          "rect",
          "class",
          "heat",
          "x",
          x,
          "y",
          bottom + 46,
          "width",
          30,
          "height",
          10,
          "fill-opacity",
          0.06 + 0.94 * step / 4);
      label(page, "middle", x + 15, bottom + 70, String.format(Locale.ROOT, "%.2f", step / 4.0));
    }
    page.shape(
        "rect",
        "class",
        "heat picked",
        "x",
        LEFT + 190,
        "y",
        bottom + 46,
        "width",
        16,
        "height",
        10,
        "fill-opacity",
        0.06);
    label(page, "start", LEFT + 212, bottom + 56, "masked");
    page.close();
  }

  /// Shares by length, a line an arm, with 95 % whiskers; the trained lengths are shaded.
  static void byLength(Markup page, Results results, String metric, List<String> arms) {
    List<Results.Column> columns =
        results.columns().stream().filter(c -> c.metric().equals(metric)).toList();
    int least = columns.stream().mapToInt(Results.Column::length).min().orElse(0);
    int most = columns.stream().mapToInt(Results.Column::length).max().orElse(1);
    double from = least - 0.06 * Math.max(1, most - least);
    double to = most + 0.06 * Math.max(1, most - least);
    open(page, "Exact answers by length", LEFT + WIDTH + 180, TOP + HEIGHT + 44);
    Results.Lengths trained = results.trained();
    if (trained != null && trained.min() < to && trained.max() > from) {
      double a = x(Math.max(from, trained.min()), from, to);
      double b = x(Math.min(to, trained.max()), from, to);
      page.titled(
          "rect",
          "trained on lengths " + trained.min() + " to " + trained.max(),
          "class",
          "trained",
          "x",
          a,
          "y",
          TOP,
          "width",
          b - a,
          "height",
          HEIGHT);
      label(page, "start", a, TOP - 3, "trained lengths"); // above the curves
    }
    axis(page, 0, 1, 100, "%");
    for (Results.Column column : columns) {
      double at = x(column.length(), from, to);
      label(page, "middle", at, TOP + HEIGHT + 18, Integer.toString(column.length()));
    }
    label(page, "middle", LEFT + WIDTH / 2, TOP + HEIGHT + 36, "prompt length in tokens");
    for (int a = 0; a < arms.size(); a++) {
      String arm = arms.get(a);
      String colour = colour(results, arm);
      double shift = (a - (arms.size() - 1) / 2.0) * 5;
      List<double[]> points = new ArrayList<>();
      for (Results.Column column : columns) {
        Results.Evaluation e = results.find(arm, column);
        if (e != null && Double.isFinite(e.value())) {
          double at = x(column.length(), from, to) + shift;
          points.add(new double[] {at, y(e.value(), 0, 1)});
          whisker(page, colour, at, e.ci95());
          page.titled(
              "circle",
              arm + " at " + column.length() + ": " + TextTable.cell("%.1f", e.value(), e.ci95()),
              "class",
              colour + " dot",
              "cx",
              at,
              "cy",
              y(e.value(), 0, 1),
              "r",
              3.5);
        }
      }
      line(page, colour, a, points);
    }
    legend(page, results, arms);
    page.close();
  }

  /// One metric of every arm at one length, as bars with 95 % whiskers.
  static void bars(Markup page, Results results, List<Results.Column> columns, List<String> arms) {
    double rowHeight = 22;
    double name = 170;
    double full = 420;
    double height = columns.size() * (arms.size() * rowHeight + 26) + 24;
    open(page, "Exact answers by arm", name + full + 110, height);
    double top = 4;
    for (Results.Column column : columns) {
      label(page, "start", name, top + 14, Verdict.label(column, columns));
      top += 22;
      for (String arm : arms) {
        Results.Evaluation e = results.find(arm, column);
        label(page, "end", name - 8, top + 14, shortened(arm));
        if (e == null || !Double.isFinite(e.value())) {
          label(page, "start", name + 4, top + 14, "not measured");
        } else {
          page.shape(
              "rect",
              "class",
              colour(results, arm) + " bar",
              "x",
              name,
              "y",
              top + 3,
              "width",
              Math.clamp(e.value(), 0, 1) * full,
              "height",
              rowHeight - 8);
          double end = e.value();
          if (e.ci95() != null) {
            end = Math.max(end, e.ci95().high());
            double middle = top + 3 + (rowHeight - 8) / 2;
            page.shape(
                "line",
                "class",
                "whisker",
                "x1",
                name + e.ci95().low() * full,
                "x2",
                name + e.ci95().high() * full,
                "y1",
                middle,
                "y2",
                middle);
          }
          label(
              page,
              "start",
              name + end * full + 6,
              top + 14,
              TextTable.cell("%.1f", e.value(), e.ci95()).replace("+-", "\u00b1"));
        }
        top += rowHeight;
      }
      top += 4;
    }
    page.shape("line", "class", "axis", "x1", name, "x2", name, "y1", 20, "y2", top);
    page.close();
  }

  /// One quantity of the training log over steps, a line for every arm and seed.
  static void curve(
      Markup page, Results results, String name, ToDoubleFunction<Results.CurvePoint> quantity) {
    Map<String, Map<Long, List<Results.CurvePoint>>> runs = new TreeMap<>();
    double low = Double.POSITIVE_INFINITY;
    double high = Double.NEGATIVE_INFINITY;
    int last = 1;
    for (Results.CurvePoint point : results.curves()) {
      double value = quantity.applyAsDouble(point);
      if (Double.isFinite(value)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
        last = Math.max(last, point.step());
        runs.computeIfAbsent(point.arm(), a -> new TreeMap<>())
            .computeIfAbsent(point.seed(), s -> new ArrayList<>())
            .add(point);
      }
    }
    if (runs.isEmpty()) {
      page.element("p", name + ": not logged.");
      return;
    }
    if (high - low < 1e-9) {
      low -= 0.5;
      high += 0.5;
    }
    open(page, name, LEFT + WIDTH + 180, TOP + HEIGHT + 44);
    axis(page, low, high, 1, "");
    for (int i = 0; i <= 4; i++) {
      double at = last * i / 4.0;
      label(page, "middle", x(at, 0, last), TOP + HEIGHT + 18, Long.toString(Math.round(at)));
    }
    label(page, "middle", LEFT + WIDTH / 2, TOP + HEIGHT + 36, "step");
    List<String> arms = new ArrayList<>(runs.keySet());
    arms.sort((a, b) -> Integer.compare(order(a), order(b)));
    for (int a = 0; a < arms.size(); a++) {
      for (List<Results.CurvePoint> run : runs.get(arms.get(a)).values()) {
        List<double[]> points = new ArrayList<>();
        for (Results.CurvePoint point : run) {
          points.add(
              new double[] {x(point.step(), 0, last), y(quantity.applyAsDouble(point), low, high)});
        }
        line(page, colour(results, arms.get(a)), a, points);
      }
    }
    legend(page, results, arms);
    page.close();
  }

  private static int order(String arm) {
    int index = Results.ARMS.indexOf(arm);
    return index < 0 ? Results.ARMS.size() : index;
  }

  private static void open(Markup page, String name, double width, double height) {
    page.open(
        "svg",
        "role",
        "img",
        "aria-label",
        name,
        "viewBox",
        String.format(Locale.ROOT, "0 0 %.0f %.0f", width, height),
        "style",
        String.format(Locale.ROOT, "max-width:%.0fpx", width));
  }

  private static void axis(Markup page, double low, double high, double scale, String unit) {
    for (int i = 0; i <= 4; i++) {
      double value = low + (high - low) * i / 4;
      double at = y(value, low, high);
      page.shape(
          "line",
          "class",
          i == 0 ? "axis" : "grid",
          "x1",
          LEFT,
          "x2",
          LEFT + WIDTH,
          "y1",
          at,
          "y2",
          at);
      String format = scale == 1 ? "%.2f%s" : "%.0f%s";
      label(page, "end", LEFT - 6, at + 4, String.format(Locale.ROOT, format, value * scale, unit));
    }
  }

  private static void whisker(Markup page, String colour, double at, @Nullable Interval ci95) {
    if (ci95 != null) {
      page.shape(
          "line",
          "class",
          colour + " line",
          "x1",
          at,
          "x2",
          at,
          "y1",
          y(ci95.low(), 0, 1),
          "y2",
          y(ci95.high(), 0, 1));
    }
  }

  private static void line(Markup page, String colour, int index, List<double[]> points) {
    StringBuilder path = new StringBuilder();
    for (double[] point : points) {
      path.append(String.format(Locale.ROOT, "%.1f,%.1f ", point[0], point[1]));
    }
    page.shape(
        "polyline", "class", colour + " line d" + index % 4, "points", path.toString().strip());
  }

  private static void legend(Markup page, Results results, List<String> arms) {
    for (int a = 0; a < arms.size(); a++) {
      double at = TOP + 10 + a * 20;
      String colour = colour(results, arms.get(a));
      page.shape(
          "line",
          "class",
          colour + " line d" + a % 4,
          "x1",
          LEFT + WIDTH + 10,
          "x2",
          LEFT + WIDTH + 34,
          "y1",
          at,
          "y2",
          at);
      label(page, "start", LEFT + WIDTH + 40, at + 4, shortened(arms.get(a)));
    }
  }

  private static void label(Markup page, String anchor, double x, double y, String text) {
    page.element("text", text, "x", x, "y", y, "text-anchor", anchor);
  }

  private static String shortened(String text) {
    return text.length() <= 24 ? text : text.substring(0, 22) + "..";
  }

  private static double x(double value, double from, double to) {
    return LEFT + (value - from) / (to - from) * WIDTH;
  }

  private static double y(double value, double low, double high) {
    return TOP + HEIGHT - (value - low) / (high - low) * HEIGHT;
  }
}
