package io.github.retmask.model;

import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.tensor.Tensor;
import java.util.function.IntUnaryOperator;
import org.jspecify.annotations.Nullable;

/// A whole decoder as the textbook has it: one sequence, everything in double, full score matrices,
/// rope as a product of complex numbers, gates as factors on columns of o_proj.
final class DenseModel {
  private final ModelConfig config;
  private final Weights weights;
  private final HeadMask mask;
  private final Contexts contexts;

  /// Attention weights, `[L][H][T][T]`.
  final double[][][][] attention;

  /// The context of a position under a rope spec.
  interface Contexts {
    IntUnaryOperator of(RopeSpec spec);
  }

  DenseModel(ModelConfig config, Weights weights, HeadMask mask, Contexts contexts) {
    this.config = config;
    this.weights = weights;
    this.mask = mask;
    this.contexts = contexts;
    this.attention = new double[config.layerCount()][config.heads()][][];
  }

  /// Logits of all tokens, `[T][V]`.
  double[][] logits(int... ids) {
    double[][] x = new double[ids.length][];
    for (int t = 0; t < ids.length; t++) {
      x[t] = row(weights.embedTokens(), ids[t]);
    }
    for (int l = 0; l < config.layerCount(); l++) {
      LayerWeights w = weights.layers().get(l);
      boolean pre = config.layers().get(l).norms() == NormPlacement.PRE;
      double[][] attended = attend(l, pre ? norm(x, w.attentionNorm()) : x);
      x = sum(x, pre ? attended : norm(attended, w.attentionNorm()));
      double[][] fed = feedForward(w, pre ? norm(x, w.mlpNorm()) : x);
      x = sum(x, pre ? fed : norm(fed, w.mlpNorm()));
    }
    return linear(norm(x, weights.norm()), new Linear(weights.lmHead(), null));
  }

  private double[][] attend(int l, double[][] x) {
    LayerSpec spec = config.layers().get(l);
    LayerWeights w = weights.layers().get(l);
    double[][][] q = heads(linear(x, w.qProj()), config.heads(), spec, w.qNorm());
    double[][][] k = heads(linear(x, w.kProj()), config.kvHeads(), spec, w.kNorm());
    double[][] v = linear(x, w.vProj());
    int d = config.headDim();
    double[][] z = new double[x.length][config.heads() * d];
    for (int h = 0; h < config.heads(); h++) {
      int kv = h / (config.heads() / config.kvHeads());
      HeadKind kind = mask.kind(l, h);
      attention[l][h] = new double[x.length][x.length];
      for (int i = 0; i < x.length; i++) {
        double[] p = weights(q[h][i], k[kv], i, spec, kind);
        attention[l][h][i] = p;
        for (int e = 0; e < d; e++) {
          double sum = 0;
          for (int j = 0; j <= i; j++) {
            sum += p[j] * v[j][kv * d + e];
          }
          double head = kind instanceof HeadKind.Mean mean ? mean.z()[e] : sum;
          z[i][h * d + e] = mask.gate(l, h) * head;
        }
      }
    }
    return linear(z, w.oProj());
  }

  private static double[] weights(double[] q, double[][] k, int i, LayerSpec spec, HeadKind kind) {
    double[] p = new double[k.length];
    double sum = 0;
    for (int j = 0; j <= i; j++) {
      boolean seen = i - j < spec.attention().window();
      if (kind instanceof HeadKind.Local local) {
        seen &= j < local.sink() || i - j < local.window();
      }
      if (seen) {
        double score = 0;
        for (int e = 0; e < q.length; e++) {
          score += q[e] * k[j][e];
        }
        p[j] = kind instanceof HeadKind.Uniform ? 1 : Math.exp(spec.attention().scale() * score);
        sum += p[j];
      }
    }
    for (int j = 0; j <= i; j++) {
      p[j] /= sum;
    }
    return p;
  }

  /// Normalised and rotated heads, `[H][T][D]`.
  private double[][][] heads(
      double[][] flat, int heads, LayerSpec spec, @Nullable Tensor normWeight) {
    int d = config.headDim();
    double[][] x = spec.qkNorm() == QkNorm.WHOLE ? norm(flat, normWeight) : flat;
    double[][][] out = new double[heads][x.length][d];
    for (int h = 0; h < heads; h++) {
      for (int t = 0; t < x.length; t++) {
        System.arraycopy(x[t], h * d, out[h][t], 0, d);
      }
      if (spec.qkNorm() == QkNorm.PER_HEAD) {
        out[h] = norm(out[h], normWeight);
      }
      for (int t = 0; t < x.length; t++) {
        rotate(out[h][t], t, spec.rope());
      }
    }
    return out;
  }

  /// (x_i + i x_(i + R/2)) times s e^(i p f).
  private void rotate(double[] x, int position, RopeSpec rope) {
    double[] speeds = rope.inverseFrequencies(contexts.of(rope).applyAsInt(position));
    int half = speeds.length;
    for (int i = 0; i < half; i++) {
      double re = rope.attentionScaling() * Math.cos(position * speeds[i]);
      double im = rope.attentionScaling() * Math.sin(position * speeds[i]);
      double a = x[i];
      double b = x[i + half];
      x[i] = a * re - b * im;
      x[i + half] = a * im + b * re;
    }
  }

  private double[][] feedForward(LayerWeights w, double[][] x) {
    double[][] gate = linear(x, w.gateProj());
    double[][] up = linear(x, w.upProj());
    for (int t = 0; t < x.length; t++) {
      for (int f = 0; f < up[t].length; f++) {
        up[t][f] *= gate[t][f] / (1 + Math.exp(-gate[t][f]));
      }
    }
    return linear(up, w.downProj());
  }

  private double[][] norm(double[][] x, Tensor weight) {
    double[][] out = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      double squares = 0;
      for (double value : x[t]) {
        squares += value * value;
      }
      out[t] = x[t].clone();
      for (int i = 0; i < out[t].length; i++) {
        out[t][i] *= weight.get(i) / Math.sqrt(squares / out[t].length + config.normEps());
      }
    }
    return out;
  }

  private static double[][] linear(double[][] x, Linear linear) {
    int outs = (int) linear.weight().dim(0);
    Tensor bias = linear.bias();
    double[][] out = new double[x.length][outs];
    for (int o = 0; o < outs; o++) {
      double[] w = row(linear.weight(), o);
      for (int t = 0; t < x.length; t++) {
        double sum = bias == null ? 0 : bias.get(o);
        for (int i = 0; i < w.length; i++) {
          sum += x[t][i] * w[i];
        }
        out[t][o] = sum;
      }
    }
    return out;
  }

  private static double[][] sum(double[][] x, double[][] y) {
    double[][] out = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      out[t] = x[t].clone();
      for (int i = 0; i < out[t].length; i++) {
        out[t][i] += y[t][i];
      }
    }
    return out;
  }

  private static double[] row(Tensor matrix, int row) {
    double[] values = new double[(int) matrix.dim(1)];
    for (int i = 0; i < values.length; i++) {
      values[i] = matrix.get((long) row * values.length + i);
    }
    return values;
  }
}
