package io.github.retmask.examples.quickstart;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

class TextTableTest {
  @Test
  void linesAreAsciiAndFit() {
    for (Results results :
        List.of(
            FakeResults.full(),
            FakeResults.empty(),
            FakeResults.named("\u00e9\u001b[31m" + "long ".repeat(60)),
            FakeResults.named("unbroken".repeat(60)))) {
      assertThat(TextTable.of(results)).matches("[ -~\n]*");
      assertThat(TextTable.of(results).lines()).allMatch(line -> line.length() <= TextTable.WIDTH);
    }
  }

  @Test
  void columnsAreAligned() {
    List<String> lines = TextTable.accuracy(FakeResults.full()).lines().toList();
    int rule = lines.indexOf(lines.stream().filter(l -> l.startsWith("---")).findFirst().get());
    String header = lines.get(rule - 1);
    assertThat(header).matches("arm +48 +96 +128 +>160 +>224 +memory");
    for (String arm : Results.ARMS) {
      String row = lines.get(rule + 1 + Results.ARMS.indexOf(arm));
      assertThat(row).startsWith(arm + " ").hasSize(header.length());
      for (String column : List.of("48", "96", "128", ">160", ">224", "memory")) {
        int end = header.indexOf(" " + column) + 1 + column.length();
        assertThat(row.charAt(end - 1)).isNotEqualTo(' ');
        assertThat(row.substring(end)).matches("|  .*");
      }
    }
  }

  @Test
  void valuesArePointsWithHalfTheirInterval() {
    assertThat(TextTable.accuracy(FakeResults.full()))
        .containsPattern("base +84\\.0 \\+-1\\.9 +55\\.4 \\+-1\\.9 ");
    assertThat(TextTable.cell("%+.1f", -0.0004, null)).isEqualTo("+0.0");
    assertThat(TextTable.cell("%+.1f", -0.123, new Interval(-0.14, -0.1))).isEqualTo("-12.3 +-2.0");
  }

  @Test
  void aMissingValueIsADash() {
    assertThat(TextTable.accuracy(FakeResults.full()).lines())
        .anyMatch(line -> line.startsWith(Results.DPO_RANDOM) && line.endsWith(" -"));
  }

  @Test
  void columnsThatDoNotFitGoBelowWithTheirRowNames() {
    List<String> header = new ArrayList<>(List.of("arm"));
    List<String> row = new ArrayList<>(List.of("base"));
    for (int i = 0; i < 9; i++) {
      header.add("c" + i);
      row.add("100.0 +-10.0" + i);
    }
    String table = TextTable.table(header, List.of(row));
    assertThat(table.lines().filter(line -> line.startsWith("base"))).hasSize(2);
    assertThat(table.lines()).allMatch(line -> line.length() <= TextTable.WIDTH);
    for (int i = 0; i < 9; i++) {
      assertThat(table).containsOnlyOnce("+-10.0" + i).containsOnlyOnce("c" + i);
    }
  }

  @Test
  void theVerdictFollowsFromTheIntervals() {
    assertThat(sentence(new Interval(0.001, 0.2))).isEqualTo("a against b: higher at 48.");
    assertThat(sentence(new Interval(-0.2, -0.001))).isEqualTo("a against b: lower at 48.");
    assertThat(sentence(new Interval(-0.1, 0.3)))
        .isEqualTo("a against b: no clear difference at 48.");
    assertThat(sentence(new Interval(0, 0.3))).isEqualTo("a against b: no clear difference at 48.");
    assertThat(sentence(null)).isEqualTo("a against b: not measured at 48.");
  }

  @Test
  void oneSentenceNamesEveryPlace() {
    assertThat(Verdict.sentence(FakeResults.full(), new Results.Comparison("retmask", "base")))
        .isEqualTo(
            "retmask against base: higher at 48, 96, 128, 160 and 224; no clear difference at"
                + " memory.");
    assertThat(Verdict.sentence(FakeResults.full(), new Results.Comparison("dpo-random", "base")))
        .isEqualTo(
            "dpo-random against base: no clear difference at 48, 96, 128, 160 and 224; not measured"
                + " at memory.");
  }

  private static String sentence(@Nullable Interval ci95) {
    Results.Difference difference =
        new Results.Difference("a", "b", 48, Results.CONTEXT_EXACT, 0.1, ci95);
    Results empty = FakeResults.empty();
    Results results =
        new Results(
            empty.model(),
            empty.seeds(),
            0,
            null,
            0,
            0,
            0,
            Collections.emptyList(),
            Collections.emptyList(),
            Collections.emptyList(),
            List.of(difference),
            Collections.emptyList(),
            Collections.emptyList(),
            Collections.emptyList(),
            empty.options(),
            empty.environment());
    return Verdict.sentence(results, new Results.Comparison("a", "b"));
  }
}
