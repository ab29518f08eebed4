package io.github.retmask.backend;

import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// What one layer does with every (row, query head) of a batch: the masks of the rows, laid out for
/// the kernels. Immutable; arrays are row-major `[B, H]`.
public final class HeadPlan {

  /// How z is computed.
  public enum Mode {
    /// Softmax attention over the visible keys.
    ATTEND,
    /// Equal weights over the visible keys; scores and their gradients are zero.
    UNIFORM,
    /// z is a given constant; nothing attends.
    MEAN,
    /// z is zero; nothing is computed. Chosen for gate 0 where nobody asked for the head's pattern
    /// or its gate gradient.
    SKIP
  }

  private final int rows;
  private final int heads;
  private final Mode[] modes; // [B,H]
  private final float[] gates; // [B,H]
  private final int[] sinks; // [B,H]
  private final int[] windows; // [B,H]; Integer.MAX_VALUE = no local window
  private final float @Nullable [] @Nullable [] means; // [B*H][D] or null
  private final boolean neutral;
  private final boolean gated;

  private HeadPlan(
      int rows,
      int heads,
      Mode[] modes,
      float[] gates,
      int[] sinks,
      int[] windows,
      float @Nullable [] @Nullable [] means) {
    this.rows = rows;
    this.heads = heads;
    this.modes = modes;
    this.gates = gates;
    this.sinks = sinks;
    this.windows = windows;
    this.means = means;
    boolean gated = false;
    boolean neutral = true;
    for (int i = 0; i < modes.length; i++) {
      gated |= gates[i] != 1f && modes[i] != Mode.SKIP;
      neutral &= gates[i] == 1f && modes[i] == Mode.ATTEND && windows[i] == Integer.MAX_VALUE;
    }
    this.gated = gated;
    this.neutral = neutral;
  }

  /// Every head of every row intact.
  public static HeadPlan neutral(int rows, int heads) {
    Mode[] modes = new Mode[rows * heads];
    Arrays.fill(modes, Mode.ATTEND);
    float[] gates = new float[rows * heads];
    Arrays.fill(gates, 1f);
    int[] windows = new int[rows * heads];
    Arrays.fill(windows, Integer.MAX_VALUE);
    return new HeadPlan(rows, heads, modes, gates, new int[rows * heads], windows, null);
  }

  /// The plan of one layer.
  ///
  /// @param masks a mask per row
  /// @param layer the layer
  /// @param headDim D, which the constants of mean heads must have
  /// @param keepGatedOff whether heads with gate 0 still attend, because their pattern or their
  ///   gate gradient is wanted; otherwise they are skipped
  /// @throws IllegalArgumentException when masks differ in shape, or a mean head's constant has
  ///   another length than D
  public static HeadPlan of(List<HeadMask> masks, int layer, int headDim, boolean keepGatedOff) {
    int heads = masks.getFirst().heads();
    HeadPlan plan = neutral(masks.size(), heads);
    Mode[] modes = plan.modes;
    float[][] means = null;
    for (int r = 0; r < masks.size(); r++) {
      HeadMask mask = masks.get(r);
      if (mask.heads() != heads || mask.layers() != masks.getFirst().layers()) {
        throw new IllegalArgumentException(
            "row %d: mask of %d layers x %d heads, row 0 has %d x %d"
                .formatted(r, mask.layers(), mask.heads(), masks.getFirst().layers(), heads));
      }
      if (mask.firstTouchedLayer() > layer) {
        continue;
      }
      for (int h = 0; h < heads; h++) {
        int i = r * heads + h;
        plan.gates[i] = mask.gate(layer, h);
        switch (mask.kind(layer, h)) {
          case HeadKind.Full _ -> modes[i] = Mode.ATTEND;
          case HeadKind.Uniform _ -> modes[i] = Mode.UNIFORM;
          case HeadKind.Local local -> {
            plan.sinks[i] = local.sink();
            plan.windows[i] = local.window();
          }
          case HeadKind.Mean mean -> {
            modes[i] = Mode.MEAN;
            means = means == null ? new float[masks.size() * heads][] : means;
            means[i] = mean.z();
            if (means[i].length != headDim) {
              throw new IllegalArgumentException(
                  "mean head %d-%d: %d values, want head dimension %d"
                      .formatted(layer, h, means[i].length, headDim));
            }
          }
        }
        if (plan.gates[i] == 0f && !keepGatedOff) {
          modes[i] = Mode.SKIP;
        }
      }
    }
    return new HeadPlan(masks.size(), heads, modes, plan.gates, plan.sinks, plan.windows, means);
  }

  public int rows() {
    return rows;
  }

  public int heads() {
    return heads;
  }

  public Mode mode(int row, int head) {
    return modes[row * heads + head];
  }

  /// Factor on z.
  public float gate(int row, int head) {
    return gates[row * heads + head];
  }

  /// Keys at the start of the sequence that a local head sees; 0 unless local.
  public int sink(int row, int head) {
    return sinks[row * heads + head];
  }

  /// Keys up to and including its own that a query of a local head sees; `Integer.MAX_VALUE` unless
  /// local.
  public int window(int row, int head) {
    return windows[row * heads + head];
  }

  /// The constant output of a mean head, D values.
  ///
  /// @throws IllegalStateException when the head is of another mode
  public float[] mean(int row, int head) {
    float[] mean = means == null ? null : means[row * heads + head];
    if (mean == null) {
      throw new IllegalStateException("head " + head + " of row " + row + " has no mean");
    }
    return mean;
  }

  /// Whether every head is intact.
  public boolean isNeutral() {
    return neutral;
  }

  /// Whether some head's z must still be scaled after attention.
  public boolean isGated() {
    return gated;
  }
}
