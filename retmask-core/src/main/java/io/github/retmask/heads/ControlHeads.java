package io.github.retmask.heads;

import io.github.retmask.random.SplitMix64;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/// Control sets of heads, drawn so that a seed gives the same heads on every machine.
///
/// Draw number d of a control uses the [SplitMix64] stream of its own that starts at
/// `mix(seed, control, d, 0)`, where `control` counts random 1, non-retrieval 2, layer-matched 3,
/// bottom 4; so the draws do not depend on how many are asked for. Candidates are listed by layer,
/// then by head, and drawn with [SplitMix64#sample].
public final class ControlHeads {
  private final HeadScores scores;
  private final Set<HeadId> retrieval;

  /// @param scores the model's scores
  /// @param retrieval the retrieval heads that the controls are compared with
  /// @throws IllegalArgumentException when a retrieval head is not among the scored ones
  public ControlHeads(HeadScores scores, Collection<HeadId> retrieval) {
    this.scores = scores;
    this.retrieval = new TreeSet<>(retrieval);
    this.retrieval.forEach(scores::mean);
  }

  /// One control set.
  ///
  /// @param heads the heads, by layer, then by head
  /// @param displaced heads of a layer-matched set that sit in another layer than the retrieval head
  ///     they stand for; 0 otherwise
  public record Draw(List<HeadId> heads, int displaced) {
    public Draw {
      heads = List.copyOf(heads);
    }
  }

  /// `draws` control sets, independent of each other.
  ///
  /// Layer-matched: a layer that has too few heads outside the retrieval set gives all of them, and
  /// what is missing comes from the nearest layers that have heads to spare after their own part,
  /// the lower layer first at equal distance; layers with something missing are served from the
  /// lowest up.
  ///
  /// @throws IllegalArgumentException when the model has fewer heads outside the retrieval set than
  ///     in it and the control may not touch it
  public List<Draw> draw(Control control, int draws, long seed) {
    int outside = scores.layers() * scores.heads() - retrieval.size();
    boolean avoids = control == Control.NON_RETRIEVAL || control == Control.LAYER_MATCHED;
    if (avoids && outside < retrieval.size()) {
      throw new IllegalArgumentException(
          "%s control of %d heads: only %d heads are outside the retrieval set; raise the threshold"
              .formatted(control.label(), retrieval.size(), outside));
    }
    List<Draw> sets = new ArrayList<>();
    for (int d = 0; d < draws; d++) {
      SplitMix64 random = new SplitMix64(SplitMix64.mix(seed, control.stream(), d, 0));
      sets.add(
          switch (control) {
            case RANDOM -> new Draw(pick(scores.ids(), retrieval.size(), random), 0);
            case NON_RETRIEVAL -> new Draw(pick(others(), retrieval.size(), random), 0);
            case LAYER_MATCHED -> layerMatched(random);
            case BOTTOM -> new Draw(bottom(random), 0);
          });
    }
    return sets;
  }

  private List<HeadId> others() {
    return scores.ids().stream().filter(id -> !retrieval.contains(id)).toList();
  }

  private List<HeadId> bottom(SplitMix64 random) {
    if (retrieval.isEmpty()) {
      return List.of();
    }
    List<HeadId> ascending = scores.ranking().reversed();
    double cut = scores.mean(ascending.get(retrieval.size() - 1));
    List<HeadId> below = scores.ids().stream().filter(id -> scores.mean(id) < cut).toList();
    List<HeadId> tied = scores.ids().stream().filter(id -> scores.mean(id) == cut).toList();
    TreeSet<HeadId> chosen = new TreeSet<>(below);
    chosen.addAll(pick(tied, retrieval.size() - below.size(), random));
    return List.copyOf(chosen);
  }

  private Draw layerMatched(SplitMix64 random) {
    int layers = scores.layers();
    int[] wanted = new int[layers]; // heads to take from each layer
    int[] spare = new int[layers]; // heads left there after that
    for (HeadId id : retrieval) {
      wanted[id.layer()]++;
    }
    int[] missing = new int[layers];
    for (int layer = 0; layer < layers; layer++) {
      int available = scores.heads() - wanted[layer];
      missing[layer] = Math.max(0, wanted[layer] - available);
      wanted[layer] -= missing[layer];
      spare[layer] = available - wanted[layer];
    }
    int displaced = 0;
    for (int layer = 0; layer < layers; layer++) {
      displaced += missing[layer];
      for (int distance = 1; missing[layer] > 0; distance++) {
        for (int donor : new int[] {layer - distance, layer + distance}) {
          if (donor >= 0 && donor < layers) {
            int moved = Math.min(missing[layer], spare[donor]);
            missing[layer] -= moved;
            spare[donor] -= moved;
            wanted[donor] += moved;
          }
        }
      }
    }
    List<HeadId> chosen = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      int here = layer;
      List<HeadId> candidates = others().stream().filter(id -> id.layer() == here).toList();
      chosen.addAll(pick(candidates, wanted[layer], random));
    }
    return new Draw(chosen, displaced);
  }

  private static List<HeadId> pick(List<HeadId> candidates, int count, SplitMix64 random) {
    Set<HeadId> chosen = new HashSet<>();
    for (int i : random.sample(candidates.size(), count)) {
      chosen.add(candidates.get(i));
    }
    return chosen.stream().sorted().toList();
  }
}
