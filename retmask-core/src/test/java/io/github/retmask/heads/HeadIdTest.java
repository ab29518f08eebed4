package io.github.retmask.heads;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class HeadIdTest {

  @Test
  void readsLayerDashHead() {
    assertThat(HeadId.parse("12-7")).isEqualTo(new HeadId(12, 7));
    assertThat(HeadId.parse(" 0-31\n")).isEqualTo(new HeadId(0, 31));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "-",
        "12",
        "12-",
        "-7",
        "a-1",
        "1-b",
        "1.5-2",
        "1 2",
        "12-7-3",
        "99999999999-1",
        "1:2"
      })
  void anythingElseIsRefusedByName(String text) {
    assertThatThrownBy(() -> HeadId.parse(text))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("head \"" + text + "\": want LAYER-HEAD, such as 12-7");
  }

  @Test
  void numbersStartAtZero() {
    assertThatThrownBy(() -> new HeadId(-1, 0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("head -1-0: numbers start at 0");
    assertThatThrownBy(() -> HeadId.parse("1--2")).isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void sortsByLayerThenHead() {
    List<HeadId> ids = List.of(new HeadId(2, 0), new HeadId(0, 10), new HeadId(0, 9));
    assertThat(ids.stream().sorted())
        .containsExactly(new HeadId(0, 9), new HeadId(0, 10), new HeadId(2, 0));
  }

  @Property
  void textIsReadBack(@ForAll @IntRange(min = 0) int layer, @ForAll @IntRange(min = 0) int head) {
    HeadId id = new HeadId(layer, head);
    assertThat(HeadId.parse(id.toString())).isEqualTo(id);
  }
}
