package io.github.retmask.heads;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;

/// Which query heads are switched, and how. An immutable value that is passed to every forward, one
/// per row of a batch; weights are never edited.
///
/// Per (layer, head) it holds a **gate** g, which scales the head's output before `o_proj` (`z' = g
/// z`; 1 is intact, 0 removes the head's contribution, equal to zeroing its columns of
/// `o_proj.weight`), and a [HeadKind], which says what z is. Under grouped-query attention a mask
/// touches query heads only; keys and values stay shared.
public final class HeadMask {
  private final int layers;
  private final int heads;
  private final float[] gates; // [L,H]
  private final HeadKind[] kinds; // [L,H]
  private final MaskPhase phase;
  private final int firstTouchedLayer;

  private HeadMask(int layers, int heads, float[] gates, HeadKind[] kinds, MaskPhase phase) {
    this.layers = layers;
    this.heads = heads;
    this.gates = gates;
    this.kinds = kinds;
    this.phase = phase;
    int first = 0;
    while (first < gates.length && gates[first] == 1f && kinds[first] == HeadKind.FULL) {
      first++;
    }
    this.firstTouchedLayer = first == gates.length ? layers : first / heads;
  }

  /// The neutral mask: every head intact.
  public static HeadMask none(int layers, int heads) {
    if (layers < 1 || heads < 1) {
      throw new IllegalArgumentException("mask of " + layers + " layers x " + heads + " heads");
    }
    float[] gates = new float[layers * heads];
    Arrays.fill(gates, 1f);
    HeadKind[] kinds = new HeadKind[layers * heads];
    Arrays.fill(kinds, HeadKind.FULL);
    return new HeadMask(layers, heads, gates, kinds, MaskPhase.EVERYWHERE);
  }

  /// These heads off (gate 0), all others intact.
  ///
  /// @throws IllegalArgumentException naming the first head that the model does not have
  public static HeadMask off(int layers, int heads, Collection<HeadId> off) {
    return none(layers, heads).withGate(off, 0f);
  }

  /// This mask with `gate` on the given heads.
  ///
  /// @throws IllegalArgumentException on a head the model lacks or a gate that is not finite
  public HeadMask withGate(Collection<HeadId> ids, float gate) {
    if (!Float.isFinite(gate)) {
      throw new IllegalArgumentException("gate " + gate + ": want a finite number");
    }
    float[] changed = gates.clone();
    for (HeadId id : ids) {
      changed[index(id)] = gate;
    }
    return new HeadMask(layers, heads, changed, kinds, phase);
  }

  /// This mask with another kind on the given heads; their gates stay.
  ///
  /// @throws IllegalArgumentException on a head the model lacks
  public HeadMask withKind(Collection<HeadId> ids, HeadKind kind) {
    HeadKind[] changed = kinds.clone();
    for (HeadId id : ids) {
      changed[index(id)] = kind instanceof HeadKind.Full ? HeadKind.FULL : kind;
    }
    return new HeadMask(layers, heads, gates, changed, phase);
  }

  /// The same switches, holding during `newPhase`.
  public HeadMask during(MaskPhase newPhase) {
    return new HeadMask(layers, heads, gates, kinds, newPhase);
  }

  public int layers() {
    return layers;
  }

  public int heads() {
    return heads;
  }

  public MaskPhase phase() {
    return phase;
  }

  /// The gate of a head; 1 is intact.
  public float gate(int layer, int head) {
    return gates[layer * heads + head];
  }

  /// The kind of a head.
  public HeadKind kind(int layer, int head) {
    return kinds[layer * heads + head];
  }

  /// Whether every head is intact.
  public boolean isNeutral() {
    return firstTouchedLayer == layers;
  }

  /// The lowest layer with a switched head, or [#layers] for the neutral mask. Below it a masked
  /// row and its intact twin compute the same numbers.
  public int firstTouchedLayer() {
    return firstTouchedLayer;
  }

  /// Whether this and another mask of the same shape set the same gates in a layer.
  public boolean sameGates(HeadMask other, int layer) {
    int from = layer * heads;
    return Arrays.equals(gates, from, from + heads, other.gates, from, from + heads);
  }

  /// Whether this and another mask of the same shape set the same kinds in a layer.
  public boolean sameKinds(HeadMask other, int layer) {
    int from = layer * heads;
    return Arrays.equals(kinds, from, from + heads, other.kinds, from, from + heads);
  }

  /// The heads that are not intact, in order.
  public List<HeadId> touched() {
    List<HeadId> ids = new ArrayList<>();
    for (int i = firstTouchedLayer * heads; i < gates.length; i++) {
      if (gates[i] != 1f || kinds[i] != HeadKind.FULL) {
        ids.add(new HeadId(i / heads, i % heads));
      }
    }
    return ids;
  }

  private int index(HeadId id) {
    if (id.layer() >= layers || id.head() >= heads) {
      throw new IllegalArgumentException(
          "head %s is not in the model: it has layers 0-%d with heads 0-%d"
              .formatted(id, layers - 1, heads - 1));
    }
    return id.layer() * heads + id.head();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof HeadMask that
        && layers == that.layers
        && heads == that.heads
        && phase == that.phase
        && Arrays.equals(gates, that.gates)
        && Arrays.equals(kinds, that.kinds);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(
        new Object[] {layers, heads, phase, Arrays.hashCode(gates), Arrays.hashCode(kinds)});
  }

  /// Short text for messages: `none`, or `gate 0.0: 3-1 3-4; uniform x 1.0: 1-1 (decode only)`.
  @Override
  public String toString() {
    if (isNeutral()) {
      return "none";
    }
    TreeMap<String, List<HeadId>> groups = new TreeMap<>();
    for (HeadId id : touched()) {
      float gate = gate(id.layer(), id.head());
      HeadKind kind = kind(id.layer(), id.head());
      String how =
          switch (kind) {
            case HeadKind.Full _ -> "gate " + gate;
            case HeadKind.Uniform _ -> "uniform x " + gate;
            case HeadKind.Mean _ -> "mean x " + gate;
            case HeadKind.Local local ->
                "local(" + local.sink() + "," + local.window() + ") x " + gate;
          };
      groups.computeIfAbsent(how, _ -> new ArrayList<>()).add(id);
    }
    StringBuilder text = new StringBuilder();
    groups.forEach(
        (how, ids) -> {
          text.append(text.isEmpty() ? "" : "; ").append(how).append(":");
          ids.forEach(id -> text.append(' ').append(id));
        });
    return phase == MaskPhase.DECODE_ONLY ? text + " (decode only)" : text.toString();
  }
}
