package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class HaystackTest {
  private static List<String> sentences(String text) {
    Haystack haystack = Haystack.of(text);
    List<String> sentences = new ArrayList<>();
    int start = 0;
    for (int i = 1; i <= text.length(); i++) {
      if (haystack.nearestBreak(i, text.length()) == i) {
        sentences.add(text.substring(start, i));
        start = i;
      }
    }
    return sentences;
  }

  @Test
  void sentencesEndAtPunctuationBeforeWhiteSpaceAndAtBlankLines() {
    assertThat(
            sentences(
                "One. Two!  Three?\nFour, 3.5 and e.g.this \"five.\" Six.) Heading\n \nSeven"))
        .containsExactly(
            "One. ",
            "Two!  ",
            "Three?\n",
            "Four, 3.5 and e.g.this \"five.\" ",
            "Six.) ",
            "Heading\n \n",
            "Seven");
    assertThat(sentences("a b . c d . e")).containsExactly("a b . ", "c d . ", "e");
    assertThat(sentences("no end")).containsExactly("no end");
  }

  @Test
  void noBreakIsNearerThanTheOneChosen() {
    String text = "Aa bb. Cc. Dddd dddd ddd! Ee\n\nFf ff ff. Gg";
    Haystack haystack = Haystack.of(text);
    List<Integer> starts = List.of(0, 7, 11, 26, 30, 40);
    for (int end = 0; end <= text.length(); end++) {
      for (int target = 0; target <= end; target++) {
        int got = haystack.nearestBreak(target, end);
        int distance = Math.abs(got - target);
        assertThat(got == end || starts.contains(got)).isTrue();
        assertThat(got).isLessThanOrEqualTo(end);
        assertThat(distance).isLessThanOrEqualTo(end - target);
        for (int start : starts) {
          assertThat(start >= end || Math.abs(start - target) >= distance).isTrue();
        }
      }
    }
  }

  @Test
  void cutsFallAfterWholeWords() {
    Haystack haystack = Haystack.of("one  two\nthree");
    int[] want = {0, 0, 0, 3, 3, 3, 3, 3, 8, 8, 8, 8, 8, 8, 14, 14};
    for (int length = 0; length < want.length; length++) {
      assertThat(haystack.wordEnd(length)).as("within %d", length).isEqualTo(want[length]);
    }
  }

  @Test
  void shortTextsAreRepeatedWithABlankLineBetween() {
    Haystack haystack = Haystack.of("One. Two.");
    assertThat(haystack.repeatedTo(9)).isSameAs(haystack);
    assertThat(haystack.repeatedTo(10).text()).isEqualTo("One. Two.\n\nOne. Two.");
    assertThat(haystack.repeatedTo(10).nearestBreak(10, 20)).isEqualTo(11);
  }

  @Test
  void viewerDumpsStandForTheirProse() {
    String dump =
        "{\"features\":[{\"feature_idx\":0}],\"rows\":["
            + "{\"row_idx\":0,\"row\":{\"text\":\"He said: \\\"no\\\".\\nSum\",\"prompt\":\"He said: \\\"no\\\".\"},\"x\":[]},"
            + "{\"row_idx\":1,\"row\":{\"text\":\"Only text. \\u00e9\"},\"x\":[]},"
            + "{\"row_idx\":2,\"row\":{\"text\":\"Cut here\\n\\u00e9 \\\\ end\"";
    String whole = "He said: \"no\".\n\nOnly text. é\n\n";
    for (String[] cut :
        new String[][] {
          {"", "Cut here\né \\ end"},
          {"nd\"", "Cut here\né \\ e"},
          {"\\ end\"", "Cut here\né "},
          {"9 \\\\ end\"", "Cut here\n"},
          {"\\u00e9 \\\\ end\"", "Cut here\n"},
          {"n\\u00e9 \\\\ end\"", "Cut here"},
          {"ut here\\n\\u00e9 \\\\ end\"", "C"},
        }) {
      assertThat(dump).endsWith(cut[0]);
      String content = dump.substring(0, dump.length() - cut[0].length());
      assertThat(Haystack.of(content).text()).isEqualTo(whole + cut[1]);
    }
    assertThat(Haystack.of("plain {\"row_idx\":0}").text()).isEqualTo("plain {\"row_idx\":0}");
  }
}
