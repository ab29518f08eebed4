package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.ChatTemplate;
import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class ThinkBlocksTest {
  private static final ThinkTags THINK = new ThinkTags("<think>", "</think>");
  private static Tokenizer llama; // spells the tags in pieces
  private static Tokenizer qwen3; // has a token for each

  @BeforeAll
  static void load() throws IOException {
    llama = Tokenizer.load(TestModels.folder("llama"));
    qwen3 = Tokenizer.load(TestModels.folder("qwen3"));
  }

  /// The text of the tokens that answer, and of all of them up to each.
  private static String answer(Tokenizer tokenizer, int[] ids, boolean open) {
    ThinkBlocks blocks = new ThinkBlocks(tokenizer, THINK, open);
    for (int id : ids) {
      blocks.add(id);
    }
    int[] answer = new int[ids.length];
    int count = 0;
    for (int t = 0; t < ids.length; t++) {
      if (!blocks.thinks(t)) {
        answer[count++] = ids[t];
      }
    }
    assertThat(blocks.answerTokens()).isEqualTo(count);
    assertThat(blocks.thinkingTokens()).isEqualTo(ids.length - count);
    return tokenizer.decode(Arrays.copyOf(answer, count), false);
  }

  @Test
  void theAnswerIsWhatStandsOutsideOfTheBlocks() {
    for (Tokenizer tokenizer : List.of(llama, qwen3)) {
      String text = "Well <think> the \ud83d\ude00 rain </think> roofs <think>a</think>.";
      int[] ids = tokenizer.encode(text, false);
      assertThat(answer(tokenizer, ids, false)).startsWith("Well").contains("roofs").endsWith(".");
      assertThat(answer(tokenizer, ids, false)).doesNotContain("rain", "think", "a<", "\ud83d");
      assertThat(answer(tokenizer, tokenizer.encode("no block", false), false))
          .isEqualTo("no block");
      assertThat(answer(tokenizer, tokenizer.encode("mm </think> yes", false), true))
          .isEqualTo(" yes");
      assertThat(answer(tokenizer, tokenizer.encode("<think>on and on", false), false)).isEmpty();
      assertThat(answer(tokenizer, tokenizer.encode("a </think> b", false), false))
          .isEqualTo("a </think> b");
    }
    assertThat(llama.encode("<think>", false).length).isGreaterThan(1);
    assertThat(qwen3.encode("<think>", false)).hasSize(1);
  }

  @Test
  void thinkingAndAnswerHaveTheirOwnLimits() {
    int[] ids = qwen3.encode("<think>the rain</think> on the roofs of the town", false);
    int thinking = 0;
    while (ids[thinking] != qwen3.idOf("</think>")) {
      thinking++;
    }
    StopRule roomy = StopRule.afterThinking(qwen3, THINK, false, thinking + 1, 3);
    assertThat(ends(roomy, ids)).isEqualTo(thinking + 1 + 3);
    assertThat(ends(roomy, ids)).as("asked for another sequence").isEqualTo(thinking + 1 + 3);
    assertThat(ends(StopRule.afterThinking(qwen3, THINK, false, thinking, 3), ids))
        .isEqualTo(thinking);
    assertThat(ends(StopRule.afterThinking(qwen3, THINK, true, 2, 3), ids)).isEqualTo(2);
    assertThat(
            ends(StopRule.afterThinking(qwen3, THINK, false, 9, 2), qwen3.encode("a b c", false)))
        .isEqualTo(2);
  }

  private static int ends(StopRule rule, int[] ids) {
    int count = 1;
    while (!rule.stops(ids, count)) {
      count++;
    }
    return count;
  }

  @Test
  void tagsAndVariablesAreThoseOfTheTemplate() {
    ChatTemplate known = qwen3.chatTemplate();
    assertThat(ThinkTags.of(known)).isEqualTo(THINK);
    assertThat(known.reads("enable_thinking")).isTrue();
    assertThat(known.reads("thinking")).isFalse();
    assertThat(known.reads("content")).as("only an attribute").isFalse();
    ChatTemplate other = llama.chatTemplate();
    assertThat(ThinkTags.of(other)).isNull();
    assertThat(other.reads("enable_thinking")).isFalse();
    ChatTemplate magistral = ChatTemplate.parse("{{ m.split('[/THINK]') }}", "t");
    assertThat(ThinkTags.of(magistral)).isEqualTo(new ThinkTags("[THINK]", "[/THINK]"));
    ChatTemplate text = ChatTemplate.parse("enable_thinking {# enable_thinking #}", "t");
    assertThat(text.reads("enable_thinking")).isFalse();
    assertThatThrownBy(() -> new ThinkTags("a", "a")).hasMessageContaining("two different");
  }

  @Test
  void aPromptMayLeaveItsBlockOpen() {
    List<ChatMessage> asked = List.of(ChatMessage.of("user", "why <think>?"));
    int[] closed = qwen3.encodeChat(asked, true, Map.of("enable_thinking", false));
    assertThat(THINK.isLeftOpen(qwen3, closed)).isFalse();
    assertThat(THINK.isLeftOpen(qwen3, qwen3.encodeChat(asked, true, Map.of()))).isFalse();
    String prompt = qwen3.renderChat(asked, true, Map.of());
    assertThat(THINK.isLeftOpen(qwen3, qwen3.encode(prompt + "<think>\n", false))).isTrue();
    assertThat(THINK.isLeftOpen(llama, llama.encode("a <think>\n\n", true))).isTrue();
    assertThat(THINK.isLeftOpen(llama, llama.encode("think>", true))).isFalse();
    assertThat(THINK.isLeftOpen(llama, new int[] {5})).isFalse();
  }
}
