package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import org.junit.jupiter.api.Test;

class LrScheduleTest {

  @Test
  void cosineMatchesTheGoldenSchedule() throws IOException {
    for (JsonNode golden : golden().get("cases")) {
      LrSchedule schedule =
          new LrSchedule.Cosine(
              golden.get("lr").doubleValue(),
              golden.get("min_lr").doubleValue(),
              golden.get("num_warmup_steps").longValue(),
              golden.get("num_training_steps").longValue());
      for (int step = 0; step < golden.get("values").size(); step++) {
        double wanted = golden.get("values").get(step).doubleValue();
        assertThat(Math.abs(schedule.at(step) - wanted) <= 1e-12 * wanted)
            .as("%s at step %d: %s, want %s", schedule, step, schedule.at(step), wanted)
            .isTrue();
      }
    }
  }

  @Test
  void warmupIsAShareOfTheStepsRoundedUp() throws IOException {
    for (JsonNode golden : golden().get("warmup_steps")) {
      long steps = golden.get("num_training_steps").longValue();
      double ratio = golden.get("warmup_ratio").doubleValue();
      LrSchedule schedule = new LrPlan(LrPlan.Shape.CONSTANT, 1, 0, ratio).over(steps);
      assertThat(schedule)
          .isEqualTo(new LrSchedule.Constant(1, golden.get("num_warmup_steps").longValue()));
    }
  }

  @Test
  void theFloorHoldsBeyondTheLastStep() {
    LrSchedule schedule = new LrSchedule.Cosine(3, 0.5, 2, 10);
    assertThat(schedule.at(10)).isEqualTo(0.5);
    assertThat(schedule.at(15)).isEqualTo(0.5);
  }

  @Test
  void linearFallsToZero() {
    LrSchedule schedule = new LrSchedule.Linear(8, 4, 12);
    assertThat(schedule.at(0)).isEqualTo(0);
    assertThat(schedule.at(3)).isEqualTo(6);
    assertThat(schedule.at(4)).isEqualTo(8);
    assertThat(schedule.at(8)).isEqualTo(4);
    assertThat(schedule.at(12)).isEqualTo(0);
    assertThat(schedule.at(13)).isEqualTo(0);
  }

  @Test
  void constantStaysAtThePeak() {
    LrSchedule schedule = new LrSchedule.Constant(8, 2);
    assertThat(schedule.at(0)).isEqualTo(0);
    assertThat(schedule.at(1)).isEqualTo(4);
    assertThat(schedule.at(2)).isEqualTo(8);
    assertThat(schedule.at(1000)).isEqualTo(8);
  }

  @Test
  void plansGiveTheirShape() {
    assertThat(LrPlan.RETMASK.over(95)).isEqualTo(new LrSchedule.Cosine(5e-7, 5e-8, 10, 95));
    assertThat(new LrPlan(LrPlan.Shape.LINEAR, 1, 0, 0).over(7))
        .isEqualTo(new LrSchedule.Linear(1, 0, 7));
  }

  @Test
  void impossibleRatesAreRefused() {
    assertThatThrownBy(() -> new LrSchedule.Constant(Double.NaN, 0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("learning rate: peak NaN");
    assertThatThrownBy(() -> new LrSchedule.Linear(1, -1, 5))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> new LrSchedule.Cosine(1, 2, 0, 5))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("learning rate: floor 2.0, want from 0 to the peak 1.0");
    assertThatThrownBy(() -> new LrPlan(LrPlan.Shape.LINEAR, 1, 0, 1.5))
        .isInstanceOf(IllegalArgumentException.class);
  }

  private static JsonNode golden() throws IOException {
    return JsonFiles.read(GoldenFiles.path("/goldens/optim/schedule.json"));
  }
}
