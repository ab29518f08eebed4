package io.github.retmask.heads;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.EdgeCasesMode;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.PropertyDefaults;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;

@PropertyDefaults(edgeCases = EdgeCasesMode.NONE) // thousands of combinations otherwise
class HeadMaskTest {
  private static final int LAYERS = 5;
  private static final int HEADS = 7;

  private static HeadId id(int layer, int head) {
    return new HeadId(layer, head);
  }

  @Test
  void noneTouchesNothing() {
    HeadMask none = HeadMask.none(2, 3);
    assertThat(none.isNeutral()).isTrue();
    assertThat(none.touched()).isEmpty();
    assertThat(none.firstTouchedLayer()).isEqualTo(2);
    assertThat(none.phase()).isEqualTo(MaskPhase.EVERYWHERE);
    assertThat(none).hasToString("none");
  }

  @Test
  void textSaysWhichHeadsAndHow() {
    HeadMask mask =
        HeadMask.off(4, 5, List.of(id(3, 4), id(3, 1)))
            .withGate(List.of(id(2, 0)), 0.5f)
            .withKind(List.of(id(1, 1)), HeadKind.UNIFORM)
            .withKind(List.of(id(0, 2)), new HeadKind.Local(4, 64))
            .withKind(List.of(id(0, 3)), new HeadKind.Mean(new float[2]))
            .during(MaskPhase.DECODE_ONLY);
    assertThat(mask)
        .hasToString(
            "gate 0.0: 3-1 3-4; gate 0.5: 2-0; local(4,64) x 1.0: 0-2; mean x 1.0: 0-3; "
                + "uniform x 1.0: 1-1 (decode only)");
  }

  @Test
  void aHeadTheModelLacksIsNamed() {
    String wanted = " is not in the model: it has layers 0-4 with heads 0-6";
    assertThatThrownBy(() -> HeadMask.off(LAYERS, HEADS, List.of(id(0, 0), id(5, 0), id(6, 0))))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("head 5-0" + wanted);
    HeadMask none = HeadMask.none(LAYERS, HEADS);
    assertThatThrownBy(() -> none.withGate(List.of(id(0, 7)), 1)).hasMessage("head 0-7" + wanted);
    assertThatThrownBy(() -> none.withKind(List.of(id(0, 7)), HeadKind.UNIFORM))
        .hasMessage("head 0-7" + wanted);
  }

  @Test
  void gatesAreFinite() {
    HeadMask none = HeadMask.none(LAYERS, HEADS);
    for (float gate : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
      assertThatThrownBy(() -> none.withGate(List.of(id(0, 0)), gate))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("gate " + gate + ": want a finite number");
    }
  }

  @Test
  void kindsCheckTheirNumbersAndKeepTheirOwnCopy() {
    assertThatThrownBy(() -> new HeadKind.Local(-1, 4))
        .hasMessage("local head: sink -1 and window 4, want sink >= 0 and window >= 1");
    assertThatThrownBy(() -> new HeadKind.Local(0, 0)).isInstanceOf(IllegalArgumentException.class);
    float[] z = {1, 2};
    HeadKind.Mean mean = new HeadKind.Mean(z);
    z[0] = 9;
    mean.z()[1] = 9;
    assertThat(mean.z()).containsExactly(1, 2);
    assertThat(mean).isEqualTo(new HeadKind.Mean(new float[] {1, 2}));
    assertThat(mean).hasSameHashCodeAs(new HeadKind.Mean(new float[] {1, 2}));
    assertThat(mean).isNotEqualTo(new HeadKind.Mean(new float[] {1, 3}));
  }

  @Test
  void aModelHasLayersAndHeads() {
    assertThatThrownBy(() -> HeadMask.none(0, 4))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("mask of 0 layers x 4 heads");
  }

  // --- properties -----------------------------------------------------------------------------

  @Provide
  Arbitrary<Set<HeadId>> heads() {
    return Combinators.combine(
            Arbitraries.integers().between(0, LAYERS - 1),
            Arbitraries.integers().between(0, HEADS - 1))
        .as(HeadId::new)
        .set();
  }

  @Provide
  Arbitrary<HeadKind> kinds() {
    return Arbitraries.of(
        HeadKind.FULL,
        new HeadKind.Full(),
        HeadKind.UNIFORM,
        new HeadKind.Local(4, 64),
        new HeadKind.Mean(new float[] {1, 2}));
  }

  @Provide
  Arbitrary<Float> gates() {
    return Arbitraries.oneOf(Arbitraries.of(0f, 1f, 0.3f), Arbitraries.floats().between(-2, 2));
  }

  @Property
  void offTouchesExactlyItsHeads(@ForAll("heads") Set<HeadId> off) {
    HeadMask mask = HeadMask.off(LAYERS, HEADS, off);
    assertThat(mask.touched()).containsExactlyElementsOf(new TreeSet<>(off));
    assertThat(mask.isNeutral()).isEqualTo(off.isEmpty());
    assertThat(mask.firstTouchedLayer())
        .isEqualTo(off.stream().mapToInt(HeadId::layer).min().orElse(LAYERS));
    for (int l = 0; l < LAYERS; l++) {
      for (int h = 0; h < HEADS; h++) {
        assertThat(mask.gate(l, h)).isEqualTo(off.contains(id(l, h)) ? 0f : 1f);
        assertThat(mask.kind(l, h)).isEqualTo(HeadKind.FULL);
      }
    }
  }

  @Property
  void orderAndRepetitionOfHeadsDoNotMatter(@ForAll("heads") Set<HeadId> off) {
    List<HeadId> backwards = new ArrayList<>(new TreeSet<>(off).descendingSet());
    backwards.addAll(off);
    HeadMask mask = HeadMask.off(LAYERS, HEADS, off);
    assertThat(HeadMask.off(LAYERS, HEADS, backwards)).isEqualTo(mask).hasSameHashCodeAs(mask);
  }

  @Property
  void switchingBackGivesTheNeutralMask(
      @ForAll("heads") Set<HeadId> ids,
      @ForAll("gates") float gate,
      @ForAll("kinds") HeadKind kind) {
    HeadMask none = HeadMask.none(LAYERS, HEADS);
    HeadMask changed = none.withGate(ids, gate).withKind(ids, kind);
    assertThat(none.isNeutral()).as("the first mask stays as it was").isTrue();
    assertThat(changed.withKind(ids, HeadKind.FULL).withGate(ids, 1)).isEqualTo(none);
    assertThat(changed.during(MaskPhase.DECODE_ONLY).during(MaskPhase.EVERYWHERE))
        .isEqualTo(changed);
  }

  @Property
  void gateAndKindAreIndependent(
      @ForAll("heads") Set<HeadId> gated,
      @ForAll("heads") Set<HeadId> kinded,
      @ForAll("gates") float gate,
      @ForAll("kinds") HeadKind kind) {
    HeadMask none = HeadMask.none(LAYERS, HEADS);
    HeadMask mask = none.withGate(gated, gate).withKind(kinded, kind);
    assertThat(mask).isEqualTo(none.withKind(kinded, kind).withGate(gated, gate));
    Set<HeadId> touched = new TreeSet<>();
    for (int l = 0; l < LAYERS; l++) {
      for (int h = 0; h < HEADS; h++) {
        boolean isGated = gated.contains(id(l, h)) && gate != 1;
        boolean isKinded = kinded.contains(id(l, h)) && !(kind instanceof HeadKind.Full);
        assertThat(mask.gate(l, h)).isEqualTo(isGated ? gate : 1);
        assertThat(mask.kind(l, h)).isEqualTo(isKinded ? kind : HeadKind.FULL);
        if (isGated || isKinded) {
          touched.add(id(l, h));
        }
      }
    }
    assertThat(mask.touched()).containsExactlyElementsOf(touched);
  }

  @Property
  void masksThatDifferAreNotEqual(
      @ForAll("heads") Set<HeadId> first, @ForAll("heads") Set<HeadId> second) {
    assertThat(HeadMask.off(LAYERS, HEADS, first).equals(HeadMask.off(LAYERS, HEADS, second)))
        .isEqualTo(first.equals(second));
    assertThat(HeadMask.off(LAYERS, HEADS, first).during(MaskPhase.DECODE_ONLY))
        .isNotEqualTo(HeadMask.off(LAYERS, HEADS, first));
  }
}
