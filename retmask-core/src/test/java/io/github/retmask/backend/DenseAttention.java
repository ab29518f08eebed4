package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;

import java.util.Arrays;

/// Attention as the textbook has it: a full score matrix per row and head, all in double. Beside
/// every value it holds a bound on what F32 arithmetic may lose, to first order: a sum of n
/// products errs by at most (n + 2) eps times the sum of their absolute values, exp by 4 eps
/// relative and by the absolute error of its argument.
public final class DenseAttention {
  /// Source of the tolerances, for messages.
  public static final String SOURCE = "rounding of F32 sums, to first order";

  private static final double EXP = 4 * EPS;

  /// Shapes of one call, read from the plan and the layout where they are given there.
  public record Dims(int heads, int kvHeads, int headDim) {
    public int group() {
      return heads / kvHeads;
    }
  }

  private final float[] q; // [N,H,D]
  private final float[] k; // [keys,Hkv,D]
  private final float[] v; // [keys,Hkv,D]
  private final Dims dims;
  private final BatchLayout layout;
  private final HeadPlan plan;
  private final AttentionSpec spec;

  public final double[] z; // [N,H,D]
  public final double[] zTolerance;
  public final double[] lse; // [N,H]
  public final double[] lseTolerance;
  public final double[][] scores; // [N H][S], -infinity where invisible
  public final double[][] weights; // [N H][S], zero where invisible
  public final double[] scoreError; // [N H]

  public DenseAttention(
      float[] q,
      float[] k,
      float[] v,
      Dims dims,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec) {
    this.q = q;
    this.k = k;
    this.v = v;
    this.dims = dims;
    this.layout = layout;
    this.plan = plan;
    this.spec = spec;
    int outs = layout.tokens() * dims.heads();
    z = new double[q.length];
    zTolerance = new double[q.length];
    lse = new double[outs];
    lseTolerance = new double[outs];
    scores = new double[outs][];
    weights = new double[outs][];
    scoreError = new double[outs];
    for (int r = 0; r < layout.rows(); r++) {
      for (int t = 0; t < layout.length(r); t++) {
        for (int h = 0; h < dims.heads(); h++) {
          forward(r, t, h);
        }
      }
    }
  }

  private boolean sees(int r, int h, int i, int j) {
    boolean inLayerWindow = (long) j > (long) i - spec.window();
    boolean inSink = j < plan.sink(r, h);
    boolean inLocalWindow = (long) j > (long) i - plan.window(r, h);
    return j <= i && inLayerWindow && (inSink || inLocalWindow);
  }

  private int keyAt(int r, int h, int j) {
    return ((layout.keyStart(r) + j) * dims.kvHeads() + h / dims.group()) * dims.headDim();
  }

  private void forward(int r, int t, int h) {
    int n = layout.tokenStart(r) + t;
    int i = layout.past(r) + t;
    int at = n * dims.heads() + h; // in [N,H]
    int width = dims.headDim();
    int keys = layout.keys(r);
    double[] s = new double[keys];
    double[] p = new double[keys];
    scores[at] = s;
    weights[at] = p;
    Arrays.fill(s, Double.NEGATIVE_INFINITY);
    lse[at] = Double.NEGATIVE_INFINITY;
    HeadPlan.Mode mode = plan.mode(r, h);
    if (mode == HeadPlan.Mode.SKIP) {
      return;
    }
    if (mode == HeadPlan.Mode.MEAN) {
      for (int d = 0; d < width; d++) {
        z[at * width + d] = plan.mean(r, h)[d];
      }
      return;
    }
    double max = Double.NEGATIVE_INFINITY;
    double absolute = 0; // largest sum of |scale q k|
    int seen = 0;
    for (int j = 0; j < keys; j++) {
      if (sees(r, h, i, j)) {
        seen++;
        s[j] = 0;
        double abs = 0;
        for (int d = 0; mode == HeadPlan.Mode.ATTEND && d < width; d++) {
          double product = (double) spec.scale() * q[at * width + d] * k[keyAt(r, h, j) + d];
          s[j] += product;
          abs += Math.abs(product);
        }
        max = Math.max(max, s[j]);
        absolute = Math.max(absolute, abs);
      }
    }
    double sum = 0;
    for (int j = 0; j < keys; j++) {
      sum += Math.exp(s[j] - max);
    }
    lse[at] = max + Math.log(sum);
    // Product, scale and the subtraction of the maximum each round a value below `absolute`.
    scoreError[at] = (width + 6) * EPS * absolute;
    lseTolerance[at] = scoreError[at] + (seen + 8) * EPS + EXP + 2 * EPS * Math.abs(lse[at]);
    double[] magnitude = new double[width];
    for (int j = 0; j < keys; j++) {
      p[j] = Math.exp(s[j] - lse[at]);
      for (int d = 0; p[j] > 0 && d < width; d++) {
        z[at * width + d] += p[j] * v[keyAt(r, h, j) + d];
        magnitude[d] += p[j] * Math.abs(v[keyAt(r, h, j) + d]);
      }
    }
    for (int d = 0; d < width; d++) {
      zTolerance[at * width + d] =
          (weightError(at) + (2 * seen + 8) * EPS) * magnitude[d] + Float.MIN_NORMAL;
    }
  }

  /// Relative error of a weight: its own score, the others' scores in the sum, exp, the sum.
  public double weightError(int at) {
    int seen = 0;
    for (double score : scores[at]) {
      seen += score > Double.NEGATIVE_INFINITY ? 1 : 0;
    }
    return 2 * scoreError[at] + 2 * EXP + (seen + 4) * EPS;
  }

  /// Weight within `[start, end)`.
  public double mass(int at, int start, int end) {
    double mass = 0;
    for (int j = Math.max(0, start); j < Math.min(end, weights[at].length); j++) {
      mass += weights[at][j];
    }
    return mass;
  }

  /// Gradients of the sum of dz z, with their tolerances.
  public final class Backward {
    public final double[] dq = new double[q.length];
    public final double[] dqTolerance = new double[q.length];
    public final double[] dk = new double[k.length];
    public final double[] dkTolerance = new double[k.length];
    public final double[] dv = new double[v.length];
    public final double[] dvTolerance = new double[v.length];

    public Backward(float[] dz) {
      for (int r = 0; r < layout.rows(); r++) {
        for (int t = 0; t < layout.length(r); t++) {
          for (int h = 0; h < dims.heads(); h++) {
            HeadPlan.Mode mode = plan.mode(r, h);
            if (mode == HeadPlan.Mode.ATTEND || mode == HeadPlan.Mode.UNIFORM) {
              backward(dz, r, t, h, mode);
            }
          }
        }
      }
    }

    private void backward(float[] dz, int r, int t, int h, HeadPlan.Mode mode) {
      int at = (layout.tokenStart(r) + t) * dims.heads() + h; // in [N,H]
      int width = dims.headDim();
      int query = at * width;
      // Terms in one element: keys for dq, queries times heads of a group for dk and dv.
      double terms = ((double) layout.keys(r) * dims.group() + 4) * EPS;
      // lse enters p rounded to F32, and the subtraction rounds once more.
      double pError = scoreError[at] + EXP + 4 * EPS * (1 + Math.abs(lse[at]));
      double delta = 0;
      double deltaAbs = 0;
      for (int d = 0; d < width; d++) {
        delta += dz[query + d] * z[query + d];
        deltaAbs += Math.abs(dz[query + d] * z[query + d]);
      }
      for (int j = 0; j < layout.keys(r); j++) {
        double p = weights[at][j];
        if (scores[at][j] == Double.NEGATIVE_INFINITY) {
          continue;
        }
        int key = keyAt(r, h, j);
        double dp = 0;
        double dpAbs = 0;
        for (int d = 0; d < width; d++) {
          double product = (double) dz[query + d] * v[key + d];
          dp += product;
          dpAbs += Math.abs(product);
          dv[key + d] += p * dz[query + d];
          dvTolerance[key + d] += p * Math.abs(dz[query + d]) * (pError + terms) + Float.MIN_NORMAL;
        }
        if (mode == HeadPlan.Mode.UNIFORM) {
          continue;
        }
        double ds = p * (dp - delta);
        double dsError =
            p * (pError * Math.abs(dp - delta) + (width + 6) * EPS * (dpAbs + deltaAbs));
        double error = spec.scale() * (dsError + Math.abs(ds) * terms);
        for (int d = 0; d < width; d++) {
          dq[query + d] += spec.scale() * ds * k[key + d];
          dqTolerance[query + d] += error * Math.abs(k[key + d]) + Float.MIN_NORMAL;
          dk[key + d] += spec.scale() * ds * q[query + d];
          dkTolerance[key + d] += error * Math.abs(q[query + d]) + Float.MIN_NORMAL;
        }
      }
    }
  }
}
