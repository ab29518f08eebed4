package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.tokenizer.Detokenizer;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import org.junit.jupiter.api.Test;

class ContinuationTextTest {
  private static final Tokenizer LLAMA = tokenizer();

  private static Tokenizer tokenizer() {
    try {
      return Tokenizer.load(TestModels.folder("llama"));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// Streams a continuation and checks every piece against the text of all tokens.
  private static void check(int[] ids, List<String> stopTexts) {
    String wanted = wanted(ids, stopTexts);
    ContinuationText stream = new ContinuationText(LLAMA, stopTexts);
    StringBuilder printed = new StringBuilder();
    for (int id : ids) {
      String piece = stream.add(id);
      printed.append(piece);
      assertThat(wanted).startsWith(printed.toString());
      boolean half =
          !piece.isEmpty() && Character.isHighSurrogate(piece.charAt(piece.length() - 1));
      assertThat(half).as("half of an emoji in " + piece).isFalse();
    }
    assertThat(printed + stream.finish()).isEqualTo(wanted);
    assertThat(stream.add(ids.length == 0 ? 5 : ids[0])).as("after the end").isEmpty();
    assertThat(ContinuationText.of(LLAMA, ids, stopTexts)).isEqualTo(wanted);
  }

  /// The text up to the stop text that is complete first, as tokens come; of several that a token
  /// completes, the one that begins first.
  private static String wanted(int[] ids, List<String> stopTexts) {
    Detokenizer detokenizer = LLAMA.detokenizer(true);
    StringBuilder text = new StringBuilder();
    for (int t = 0; t <= ids.length; t++) {
      text.append(t < ids.length ? detokenizer.add(ids[t]) : detokenizer.finish());
      OptionalInt stop = stopTexts.stream().mapToInt(text::indexOf).filter(at -> at >= 0).min();
      if (stop.isPresent()) {
        return text.substring(0, stop.getAsInt());
      }
    }
    assertThat(text.toString()).isEqualTo(LLAMA.decode(ids, true));
    return text.toString();
  }

  @Test
  void theStopTextThatIsCompleteFirstEndsTheTextThoughAnotherBeganBeforeIt() {
    int[] ids = LLAMA.encode("aaab!bb", false);
    check(ids, List.of("aab!bb", "b!"));
    assertThat(ContinuationText.of(LLAMA, ids, List.of("aab!bb", "b!"))).isEqualTo("aaa");
  }

  @Property
  void whatIsPrintedIsTheTextBeforeTheFirstStopTextAndNeverTakenBack(
      @ForAll @Size(max = 40) List<@IntRange(max = 319) Integer> ids,
      @ForAll @Size(max = 3) List<@IntRange(max = 60) Integer> cuts,
      @ForAll @IntRange(min = 1, max = 6) int length) {
    int[] all = ids.stream().mapToInt(Integer::intValue).toArray();
    String whole = LLAMA.decode(all, true);
    List<String> stops = // pieces of the text itself, so that they occur
        cuts.stream()
            .filter(cut -> cut < whole.length())
            .map(cut -> whole.substring(cut, Math.min(whole.length(), cut + length)))
            .toList();
    check(all, stops);
  }

  @Property
  void partsOfAStopTextThatGoesOnDifferentlyAreGivenOutAgain(@ForAll("ab") String text) {
    check(LLAMA.encode(text, false), List.of("abab!", "bb!", "aab"));
  }

  @Provide
  Arbitrary<String> ab() {
    return Arbitraries.strings().withChars('a', 'b', '!').ofMaxLength(30);
  }

  @Test
  void aStopTextMaySpanTokensAndEmojiStayWhole() {
    String text = "the \ud83d\udc4d\ud83c\udffd rain </answer> more";
    int[] ids = LLAMA.encode(text, true);
    assertThat(ids.length).isGreaterThan(text.length() / 2);
    check(ids, List.of("</answer>"));
    check(ids, List.of("\ud83c\udffd"));
    assertThat(ContinuationText.of(LLAMA, ids, List.of("</answer>")))
        .isEqualTo("the \ud83d\udc4d\ud83c\udffd rain ");
  }

  @Test
  void generationEndsWhereTheTextDoes() {
    int[] ids = LLAMA.encode("On the roofs the rain makes one sound", false);
    StopRule rule = StopRule.atTexts(LLAMA, "the ra", "sou");
    int end = 1;
    while (!rule.stops(ids, end)) {
      end++;
    }
    assertThat(ContinuationText.of(LLAMA, Arrays.copyOf(ids, end), List.of("the ra", "sou")))
        .isEqualTo("On the roofs ");
  }

  @Test
  void idsBeyondTheTokenizerAddNothing() {
    assertThat(ContinuationText.of(LLAMA, new int[] {320, LLAMA.idOf("a"), 100_000}, List.of()))
        .isEqualTo("a");
  }
}
