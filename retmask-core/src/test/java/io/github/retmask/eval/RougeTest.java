package io.github.retmask.eval;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class RougeTest {
  /// Words made of 75 roots and 75 suffixes, drawn at random, and examples from Porter's article, with
  /// the stems that NLTK 3.10.3 gives them.
  @Test
  void stemsAreThoseOfNltk() throws IOException {
    int words = 0;
    try (BufferedReader lines =
        new BufferedReader(
            new InputStreamReader(
                RougeTest.class.getResourceAsStream("stems.tsv"), StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine(), words++) {
        String[] pair = line.split("\t");
        assertThat(PorterStemmer.stem(pair[0])).as(pair[0]).isEqualTo(pair[1]);
      }
    }
    assertThat(words).isEqualTo(992);
  }

  @Test
  void recallMatchesTheGoldenCases() throws IOException {
    try (InputStream in = RougeTest.class.getResourceAsStream("/goldens/retrieval/trace.json")) {
      JsonNode golden = new ObjectMapper().readTree(in);
      assertThat(golden.get("rouge1").size()).isPositive();
      for (JsonNode c : golden.get("rouge1")) {
        double recall =
            Rouge.rouge1(c.get("reference").asText(), c.get("candidate").asText()).recall();
        assertThat(recall).as(c.toString()).isCloseTo(c.get("recall").asDouble(), within(1e-15));
      }
      for (JsonNode t : golden.get("trials")) {
        String needle = t.get("needle_text").asText();
        String response = t.get("response_text").asText();
        assertThat(Rouge.rouge1(needle, response).recall())
            .isCloseTo(t.get("rouge1_recall").asDouble(), within(1e-15));
        assertThat(RetrievalScore.isSuccess(needle, response))
            .isEqualTo(t.get("success").asBoolean());
      }
    }
  }

  @Test
  void wordsAreLoweredSplitAndStemmedBeyondThreeLetters() {
    assertThat(Rouge.words("It's 3.5 km -- NEWS of the Cities' dying_was"))
        .isEqualTo(List.of("it", "s", "3", "5", "km", "news", "of", "the", "citi", "die", "was"));
    assertThat(Rouge.words("...")).isEmpty();
    // One character of three letters when lowered in Unicode: the Kelvin sign is a k.
    assertThat(Rouge.words("\u212Aelvin")).isEqualTo(List.of("kelvin"));
  }

  @Test
  void scoreCountsWordsAsOftenAsBothTextsHaveThem() {
    Rouge.Score score = Rouge.rouge1("the cat and the dog", "the the the cat");
    assertThat(score.recall()).isCloseTo(3 / 5.0, within(1e-15));
    assertThat(score.precision()).isCloseTo(3 / 4.0, within(1e-15));
    assertThat(score.f1()).isCloseTo(2 / 3.0, within(1e-15));
    assertThat(Rouge.rouge1("walking home", "he walked").recall()).isEqualTo(0.5);
    assertThat(Rouge.rouge1("", "a")).isEqualTo(new Rouge.Score(0, 0, 0));
    assertThat(Rouge.rouge1("a", "")).isEqualTo(new Rouge.Score(0, 0, 0));
  }

  @Test
  void halfOfTheWordsIsNotEnough() {
    assertThat(RetrievalScore.isSuccess("one two three four", "one two")).isFalse();
    assertThat(RetrievalScore.isSuccess("one two three four", "one two THREES")).isTrue();
  }
}
