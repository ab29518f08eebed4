package io.github.retmask.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CompareResultsTest {
  @TempDir private Path dir;

  private static String row(String size, String mode, String score, String unit) {
    return """
        {"benchmark": "a.b.MatmulBenchmark.forward", "mode": "%s", "params": {"size": "%s"},
         "primaryMetric": {"score": %s, "scoreUnit": "%s"}}"""
        .formatted(mode, size, score, unit);
  }

  private Path file(String name, String... rows) throws IOException {
    return Files.writeString(dir.resolve(name), "[" + String.join(",", rows) + "]");
  }

  private static boolean kept(Path before, Path after, StringBuilder said) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    boolean kept =
        CompareResults.compare(
            before, after, 0.1, new PrintStream(out, true, StandardCharsets.UTF_8));
    said.append(out.toString(StandardCharsets.UTF_8));
    return kept;
  }

  @ParameterizedTest
  @CsvSource({
    "thrpt, 200, 181, true",
    "thrpt, 200, 179, false",
    "thrpt, 200, 400, true",
    "avgt, 200, 220, true",
    "avgt, 200, 224, false",
    "avgt, 200, 100, true"
  })
  void aRowMayNotBecomeSlowerThanTheToleranceSays(
      String mode, String before, String after, boolean fine) throws IOException {
    Path old = file("old", row("8x8", mode, before, "u"), row("9x9", mode, "5", "u"));
    Path fresh = file("new", row("9x9", mode, "5", "u"), row("8x8", mode, after, "u"));
    StringBuilder said = new StringBuilder();
    assertThat(kept(old, fresh, said)).isEqualTo(fine);
    assertThat(said.toString().lines().filter(line -> line.endsWith("SLOWER")))
        .hasSize(fine ? 0 : 1)
        .allMatch(line -> line.startsWith("MatmulBenchmark.forward " + mode + " {size=8x8}"));
  }

  @Test
  void aRowThatIsGoneIsNoSuccessAndANewOneIsNoFailure() throws IOException {
    Path one = file("one", row("8x8", "thrpt", "1", "u"));
    Path two = file("two", row("8x8", "thrpt", "1", "u"), row("9x9", "thrpt", "1", "u"));
    StringBuilder said = new StringBuilder();
    assertThat(kept(one, two, said)).isTrue();
    assertThat(said).contains("{size=9x9}").contains("new");
    assertThat(kept(two, one, said)).isFalse();
    assertThat(said).contains("GONE");
  }

  @Test
  void filesThatSayNothingAreRefused() throws IOException {
    Path one = file("one", row("8x8", "thrpt", "1", "u"));
    Path none = file("none");
    Path other = file("other", row("8x8", "thrpt", "1", "v"));
    Path nan = file("nan", row("8x8", "thrpt", "\"NaN\"", "u"));
    Path foreign = Files.writeString(dir.resolve("foreign"), "[{\"a\": 1}]");
    for (Path bad : new Path[] {none, other, nan, foreign}) {
      assertThatThrownBy(() -> kept(one, bad, new StringBuilder()))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }
}
