package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

class StopTextsTest {
  @Test
  void stopTextEndsWithTheTokenThatCompletesIt() throws IOException {
    Tokenizer tokenizer = Tokenizer.load(TestModels.folder("llama"));
    StopRule rule = StopRule.atTexts(tokenizer, "the ra", "nowhere");
    int[] ids = tokenizer.encode("On the roofs the rain makes one sound", false);
    int end = 1;
    while (!tokenizer.decode(Arrays.copyOf(ids, end), true).contains("the ra")) {
      assertThat(rule.stops(ids, end)).isFalse();
      end++;
    }
    assertThat(end).isLessThan(ids.length);
    assertThat(rule.stops(ids, end)).isTrue();
    int[] spread = new int[60]; // special tokens, which have no text, in between
    Arrays.fill(spread, 313);
    System.arraycopy(ids, 0, spread, 0, end - 1);
    spread[59] = ids[end - 1];
    assertThat(rule.stops(spread, 59)).isFalse();
    assertThat(rule.stops(spread, 60)).isTrue();
    assertThatThrownBy(() -> StopRule.atTexts(tokenizer, "")).hasMessageContaining("none empty");
  }
}
