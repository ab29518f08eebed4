package io.github.retmask.examples.quickstart;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ReportTest {
  private static final String HOSTILE = "</style></svg><script>alert('x')</script>\"&\u0000\u001b";
  private static final Set<String> VOID = Set.of("meta", "!doctype");
  private static final Pattern TAG = Pattern.compile("<(/?)([!a-z0-9]+)((?:\"[^\"]*\"|[^>\"])*)>");

  @TempDir private Path dir;

  @Test
  void tagsAreBalanced() {
    for (Results results :
        List.of(FakeResults.full(), FakeResults.empty(), FakeResults.named(HOSTILE))) {
      String html = Report.html(results);
      Deque<String> open = new ArrayDeque<>();
      Matcher tag = TAG.matcher(html);
      while (tag.find()) {
        if (!tag.group(1).isEmpty()) {
          assertThat(open.pop()).isEqualTo(tag.group(2));
        } else if (!tag.group(3).endsWith("/") && !VOID.contains(tag.group(2))) {
          open.push(tag.group(2));
        }
      }
      assertThat(open).isEmpty();
      assertThat(TAG.matcher(html).replaceAll("")).doesNotContain("<", ">");
    }
  }

  @Test
  void namesFromOutsideStayText() {
    String html = Report.html(FakeResults.named(HOSTILE));
    assertThat(html)
        .contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;")
        .doesNotContain("<script", "\u0000", "\u001b");
    assertThat(html.split("</style>", -1)).hasSize(2);
  }

  @Test
  void thePageNeedsNothingElse() {
    assertThat(Report.html(FakeResults.full()))
        .doesNotContain("http", "url(", "@import", "<script", "src=", "<link");
  }

  @Test
  void noFigureHoldsANumberThatIsNone() {
    for (Results results :
        List.of(FakeResults.full(), FakeResults.empty(), FakeResults.named("name"))) {
      assertThat(Report.html(results)).doesNotContain("NaN", "Infinity");
    }
    assertThat(Report.html(FakeResults.full())).contains(">not measured<", ">-<");
    assertThat(Report.html(FakeResults.empty())).contains("No heads were scored.", "None.");
  }

  @Test
  void everyHeadOfTheMapIsThereAndTheMaskedOnesAreOutlined() {
    String html = Report.html(FakeResults.full());
    assertThat(html.split("<title>head ", -1)).hasSize(48 + 1);
    // one more in the legend
    assertThat(html.split("class=\"heat picked\"", -1))
        .hasSize(FakeResults.full().selected().size() + 1 + 1);
  }

  @Test
  void thePageIsWrittenAsItIs() throws IOException {
    Path file = dir.resolve("report.html");
    Report.write(file, FakeResults.full());
    assertThat(Files.readString(file)).isEqualTo(Report.html(FakeResults.full()));
  }

  @Test
  void anElementLeftOpenIsAnError() {
    assertThatIllegalStateException().isThrownBy(() -> new Markup().open("p").finish());
  }
}
