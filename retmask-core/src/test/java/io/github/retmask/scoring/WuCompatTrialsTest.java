package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.SharedData;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

class WuCompatTrialsTest {
  /// Prompts and spans from a line-by-line port of the script to Python over the same tokenizers:
  /// with and without BOS, chat and plain, periods found and not found, contexts cut from the front
  /// and from the end, a needle found early.
  @Test
  void promptsAndSpansAreThoseOfTheScript() throws IOException {
    JsonNode golden;
    try (InputStream in = WuCompatTrialsTest.class.getResourceAsStream("wu_compat.json")) {
      golden = new ObjectMapper().readTree(in);
    }
    List<NeedleTask> tasks = new ArrayList<>();
    for (JsonNode task : golden.get("tasks")) {
      tasks.add(
          new NeedleTask(
              Integer.toString(tasks.size() + 1),
              task.get("needle").asText(),
              task.get("question").asText(),
              task.get("real_needle").asText(),
              golden.get("haystack").asText()));
    }
    int compared = 0;
    for (JsonNode c : golden.get("cases")) {
      Map<String, Object> variables = new TreeMap<>();
      c.get("variables")
          .properties()
          .forEach(e -> variables.put(e.getKey(), e.getValue().asBoolean()));
      NeedleTrials built =
          new WuCompatTrials(
                  TestTokenizers.of(c.get("family").asText()),
                  PromptForm.valueOf(c.get("form").asText()),
                  WuCompatTrials.Provider.valueOf(c.get("provider").asText()),
                  variables)
              .build(tasks, new NeedleGrid(ints(c.get("lengths")), ints(c.get("depths"))));
      assertThat(built.trials()).hasSize(c.get("trials").size());
      for (int i = 0; i < built.trials().size(); i++) {
        Trial got = built.trials().get(i);
        JsonNode want = c.get("trials").get(i);
        String name = c.get("family").asText() + " " + c.get("form") + " " + got.id();
        assertThat(got.labels())
            .isEqualTo(
                Map.of(
                    "needle", want.get("needle").asText(),
                    "length", want.get("length").asText(),
                    "depth", want.get("depth").asText()));
        assertThat(got.prompt())
            .as(name)
            .isEqualTo(
                Arrays.stream(want.get("prompt").asText().split(" "))
                    .mapToInt(Integer::parseInt)
                    .toArray());
        assertThat(List.of(got.needleStart(), got.needleEnd()))
            .as(name)
            .isEqualTo(ints(want.get("span")));
        compared++;
      }
    }
    assertThat(compared).isEqualTo(48);
  }

  private static List<Integer> ints(JsonNode list) {
    List<Integer> values = new ArrayList<>();
    list.forEach(value -> values.add(value.asInt()));
    return values;
  }

  @Test
  void theGridIsTheOneOfThePaper() {
    NeedleGrid grid = NeedleGrid.retMask();
    assertThat(grid.depths()).containsExactly(0, 11, 22, 33, 44, 56, 67, 78, 89, 100);
    assertThat(grid.lengths())
        .hasSize(20)
        .startsWith(0, 263, 526, 789, 1053, 1316, 1579, 1842, 2105, 2368, 2632)
        .endsWith(4474, 4737, 5000);
    assertThat(NeedleGrid.evenly(7, 7, 1)).containsExactly(7);
    assertThat(NeedleGrid.evenly(0, 1, 3)).containsExactly(0, 0, 1); // 0.5 to the even one
    assertThatIllegalArgumentException().isThrownBy(() -> NeedleGrid.evenly(0, 9, 1));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new NeedleGrid(List.of(10), List.of(101)))
        .withMessage("needle grid: depth 101 %, want 0 to 100");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new NeedleGrid(List.of(-1), List.of(0)))
        .withMessage("needle grid: length -1, want 0 or more");
    assertThatIllegalArgumentException().isThrownBy(() -> new NeedleGrid(List.of(), List.of(0)));
  }

  /// The published contexts of three models show the same: nine of ten depths have the needle at the
  /// very start, and at length 0 there is nothing else.
  @Test
  void withoutAPeriodNineDepthsAreOneTrial() throws IOException {
    List<NeedleTask> tasks = NeedleTask.readFolder(SharedData.path("data/niah"));
    Tokenizer tokenizer = TestTokenizers.of("llama");
    NeedleTrials built =
        new WuCompatTrials(tokenizer, PromptForm.CHAT, WuCompatTrials.Provider.LLAMA, Map.of())
            .build(tasks, new NeedleGrid(List.of(0, 789), NeedleGrid.evenly(0, 100, 10)));
    assertThat(built.trials()).hasSize(60);
    assertThat(built.repeats()).hasSize(3 * (9 + 8));
    String first = tokenizer.decode(built.trials().get(10).prompt(), false);
    assertThat(first).contains("<book>" + tasks.getFirst().needle() + "{\"features\":[{");
    String last = tokenizer.decode(built.trials().get(19).prompt(), false);
    assertThat(last).contains("<book>{\"features\":[{");
    assertThat(last).contains(tasks.getFirst().needle() + "</book>\nBased on the content");
    assertThat(tokenizer.decode(built.trials().getFirst().prompt(), false))
        .contains("<book>" + tasks.getFirst().needle() + "</book>");
  }

  @Test
  void chatModelsAreThoseOnTheScriptsList() {
    assertThat(PromptForm.ofScript("Qwen3-8B")).isEqualTo(PromptForm.CHAT);
    assertThat(PromptForm.ofScript("qwen3-8b")).isEqualTo(PromptForm.PLAIN);
    assertThat(PromptForm.ofScript("Llama-2-7b-hf")).isEqualTo(PromptForm.PLAIN);
  }

  @Test
  void aHaystackWithoutWordsIsRefused() throws IOException {
    Tokenizer tokenizer = TestTokenizers.of("llama");
    NeedleTask empty = new NeedleTask("4", "A needle.", "What ?", "needle", " \n");
    assertThatIllegalArgumentException()
        .isThrownBy(
            () ->
                new WuCompatTrials(
                        tokenizer, PromptForm.PLAIN, WuCompatTrials.Provider.LLAMA, Map.of())
                    .build(List.of(empty), new NeedleGrid(List.of(9), List.of(0))))
        .withMessage("needle 4: its haystack has no words");
  }
}
