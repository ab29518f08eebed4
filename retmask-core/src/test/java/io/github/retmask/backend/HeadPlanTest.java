package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.List;
import org.junit.jupiter.api.Test;

class HeadPlanTest {
  private static final List<HeadId> HEAD = List.of(new HeadId(1, 2));

  private static HeadPlan plan(HeadMask mask, boolean keepGatedOff) {
    return HeadPlan.of(List.of(HeadMask.none(3, 4), mask), 1, 5, keepGatedOff);
  }

  @Test
  void aNeutralMaskMakesANeutralPlan() {
    HeadPlan plan = plan(HeadMask.none(3, 4), false);
    assertThat(plan.isNeutral()).isTrue();
    assertThat(plan.isGated()).isFalse();
    assertThat(plan.rows()).isEqualTo(2);
    assertThat(plan.heads()).isEqualTo(4);
    for (int h = 0; h < 4; h++) {
      assertThat(plan.mode(1, h)).isEqualTo(HeadPlan.Mode.ATTEND);
      assertThat(plan.gate(1, h)).isEqualTo(1);
      assertThat(plan.window(1, h)).isEqualTo(Integer.MAX_VALUE);
      assertThat(plan.sink(1, h)).isZero();
    }
  }

  @Test
  void aMaskOfAnotherLayerLeavesThisOneNeutral() {
    HeadMask other = HeadMask.off(3, 4, List.of(new HeadId(0, 2), new HeadId(2, 2)));
    assertThat(plan(other, false).isNeutral()).isTrue();
  }

  @Test
  void masksOfDifferentShapesAreRefused() {
    for (HeadMask other : List.of(HeadMask.none(3, 5), HeadMask.none(2, 4))) {
      assertThatThrownBy(() -> plan(other, false))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("row 1: mask of " + other.layers() + " layers")
          .hasMessageContaining("row 0 has 3 x 4");
    }
  }

  @Test
  void headsThatAreOffAreSkippedUnlessTheirPatternIsWanted() {
    HeadMask off = HeadMask.off(3, 4, HEAD);
    HeadPlan skipped = plan(off, false);
    assertThat(skipped.mode(1, 2)).isEqualTo(HeadPlan.Mode.SKIP);
    assertThat(skipped.mode(0, 2)).isEqualTo(HeadPlan.Mode.ATTEND);
    assertThat(skipped.mode(1, 1)).isEqualTo(HeadPlan.Mode.ATTEND);
    assertThat(skipped.isNeutral()).isFalse();
    assertThat(skipped.isGated()).as("a skipped head needs no scaling").isFalse();
    HeadPlan kept = plan(off, true);
    assertThat(kept.mode(1, 2)).isEqualTo(HeadPlan.Mode.ATTEND);
    assertThat(kept.gate(1, 2)).isZero();
    assertThat(kept.isGated()).isTrue();
  }

  @Test
  void everyKindBecomesItsMode() {
    HeadMask none = HeadMask.none(3, 4);
    HeadPlan uniform = plan(none.withKind(HEAD, HeadKind.UNIFORM), false);
    assertThat(uniform.mode(1, 2)).isEqualTo(HeadPlan.Mode.UNIFORM);
    assertThat(uniform.isNeutral()).isFalse();
    HeadPlan local = plan(none.withKind(HEAD, new HeadKind.Local(4, 64)), false);
    assertThat(local.mode(1, 2)).isEqualTo(HeadPlan.Mode.ATTEND);
    assertThat(local.sink(1, 2)).isEqualTo(4);
    assertThat(local.window(1, 2)).isEqualTo(64);
    assertThat(local.isNeutral()).isFalse();
    HeadPlan mean =
        plan(none.withKind(HEAD, new HeadKind.Mean(new float[] {1, 2, 3, 4, 5})), false);
    assertThat(mean.mode(1, 2)).isEqualTo(HeadPlan.Mode.MEAN);
    assertThat(mean.mean(1, 2)).containsExactly(1, 2, 3, 4, 5);
    assertThatThrownBy(() -> mean.mean(0, 2))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("head 2 of row 0 has no mean");
    HeadPlan soft = plan(none.withGate(HEAD, 0.3f), false);
    assertThat(soft.gate(1, 2)).isEqualTo(0.3f);
    assertThat(soft.isGated()).isTrue();
    assertThat(soft.isNeutral()).isFalse();
  }

  @Test
  void aMeanOfAnotherLengthIsRefused() {
    HeadMask mask = HeadMask.none(3, 4).withKind(HEAD, new HeadKind.Mean(new float[4]));
    assertThatThrownBy(() -> plan(mask, false))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("mean head 1-2: 4 values, want head dimension 5");
  }
}
