package io.github.retmask.eval;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.SyntheticLanguage.Options;
import io.github.retmask.eval.SyntheticLanguage.Probe;
import io.github.retmask.eval.SyntheticLanguage.Reach;
import io.github.retmask.train.Example;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

class SyntheticLanguageTest {
  private static final List<Reach> REACH = List.of(new Reach(40, 0.9), new Reach(1000, 0.2));
  private static final Options OPTIONS =
      new Options(1, 30, 12, 20, 3, 48, 100, 2, REACH, 0.3, 0.5, 0.1);
  private final SyntheticLanguage language = new SyntheticLanguage(OPTIONS);

  @Test
  void wordsAreDistinctAndTheSameForTheSameSeed() {
    List<String> words = language.vocabulary();
    assertThat(words).doesNotHaveDuplicates().hasSize(8 + 30 + 12 + 20);
    assertThat(new SyntheticLanguage(OPTIONS).vocabulary()).isEqualTo(words);
  }

  @Test
  void rowsStayWithinTheirLengthsAndReproduceFromTheirIndex() {
    for (int i = 0; i < 500; i++) {
      Example row = language.examples(7).example(i);
      assertThat(row.ids().length).isBetween(48, 100).isEqualTo(row.weights().length);
      assertThat(row.ids()[0]).isEqualTo(SyntheticLanguage.BOS);
      assertThat(row.weights()[0]).isZero();
      assertThat(language.examples(7).example(i).ids()).isEqualTo(row.ids());
    }
    assertThat(language.examples(8).example(0).ids())
        .isNotEqualTo(language.examples(7).example(0).ids());
  }

  @Test
  void aContextProbeHoldsItsAnswerAtTheNamedPlaceAndNowhereContradictsIt() {
    for (int length : new int[] {19, 48, 131}) {
      for (int i = 0; i < 200; i++) {
        Probe probe = language.probe(3, i, length, Kind.CONTEXT);
        List<String> words = words(probe.prompt());
        assertThat(words).hasSize(length).endsWith("Answer");
        assertThat(Arrays.copyOfRange(probe.prompt(), probe.valueStart(), probe.valueEnd()))
            .isEqualTo(probe.answer());
        assertThat(probe.answer()).isNotEqualTo(probe.memory());
        String key = words.get(length - 2);
        assertThat(words.get(probe.valueStart() - 2)).isEqualTo(key);
        assertThat(words.get(probe.valueStart() - 3)).isEqualTo("code");
        assertThat(words.stream().filter(key::equals)).hasSize(2); // needle and question
      }
    }
  }

  @Test
  void aMemoryProbeIsSilentAboutItsKey() {
    for (int i = 0; i < 200; i++) {
      Probe probe = language.probe(3, i, 60, Kind.MEMORY);
      List<String> words = words(probe.prompt());
      String key = words.get(58);
      assertThat(words.stream().filter(key::equals)).hasSize(1);
      assertThat(probe.answer()).isEqualTo(probe.memory());
      assertThat(probe.valueStart()).isEqualTo(-1);
    }
  }

  @Test
  void probesOfOneSeedDiffer() {
    Set<List<String>> seen = new HashSet<>();
    for (int i = 0; i < 300; i++) {
      seen.add(words(language.probe(3, i, 48, Kind.CONTEXT).prompt()));
    }
    assertThat(seen).hasSize(300);
  }

  @Test
  void theContextIsBelievedAsOftenAsTheOptionsSay() {
    Options near =
        new Options(1, 30, 12, 20, 3, 48, 48, 1, List.of(new Reach(1000, 0.75)), 0, 0, 0.1);
    SyntheticLanguage certain = new SyntheticLanguage(near);
    int believed = 0;
    int rows = 0; // with a needle, about half of the documents
    for (int i = 0; i < 4000; i++) {
      int[] ids = certain.examples(5).example(i).ids();
      List<String> words = words(ids);
      int at = words.indexOf("is") + 1;
      if (at == 0) {
        continue;
      }
      rows++;
      int answer = words.lastIndexOf("Answer") + 1;
      believed +=
          Arrays.equals(
                  Arrays.copyOfRange(ids, at, at + 3), Arrays.copyOfRange(ids, answer, answer + 3))
              ? 1
              : 0;
    }
    assertThat(rows).isBetween(1800, 2200);
    // binomial, 5 standard deviations
    assertThat(believed / (double) rows).isBetween(0.75 - 0.05, 0.75 + 0.05);
  }

  @Test
  void impossibleOptionsAreRefused() {
    assertThatThrownBy(() -> language.probe(1, 1, 10, Kind.CONTEXT))
        .hasMessage("probe: length 10, want at least 19 tokens");
    assertThatThrownBy(() -> new Options(1, 30, 12, 20, 3, 20, 100, 2, REACH, 0, 0, 0.1))
        .hasMessageContaining("rows of 20 to 100 tokens");
    assertThatThrownBy(() -> new Options(1, 30, 2, 20, 3, 48, 100, 2, REACH, 0, 0, 0.1))
        .hasMessageContaining("2 keys");
  }

  private List<String> words(int[] ids) {
    return Arrays.stream(ids).mapToObj(language.vocabulary()::get).toList();
  }
}
