package io.github.retmask.backend;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// [Kernels] without any trick: inputs are copied to arrays, so outputs may alias them, and every
/// loop is one that the formula names.
final class ReferenceKernels implements Kernels {
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// Tokens whose logits exist at once.
  private static final int LOGIT_ROWS = 16;

  @Override
  public String name() {
    return "reference";
  }

  @Override
  public int threads() {
    return 1;
  }

  @Override
  public TensorArena arena(TensorArena.Lifetime lifetime) {
    return new HostArena();
  }

  // --- rows -----------------------------------------------------------------------------------

  @Override
  public void embedding(Tensor out, Tensor ids, Tensor table) {
    for (int n = 0; n < ids.size(); n++) {
      setRow(out, n, row(table, ids.getInt(n)));
    }
  }

  @Override
  public void embeddingBackward(Tensor dTable, Tensor dOut, Tensor ids) {
    for (int n = 0; n < ids.size(); n++) {
      float[] sum = row(dTable, ids.getInt(n)); // [C]
      float[] dRow = row(dOut, n); // [C]
      for (int c = 0; c < sum.length; c++) {
        sum[c] += dRow[c];
      }
      setRow(dTable, ids.getInt(n), sum);
    }
  }

  @Override
  public void gatherRows(Tensor out, Tensor in, Tensor rows) {
    for (int m = 0; m < rows.size(); m++) {
      setRow(out, m, row(in, rows.getInt(m)));
    }
  }

  @Override
  public void scatterRows(Tensor out, Tensor in, Tensor rows) {
    for (int n = 0; n < rows.size(); n++) {
      setRow(out, rows.getInt(n), row(in, n));
    }
  }

  // --- elementwise ----------------------------------------------------------------------------

  @Override
  public void add(Tensor out, Tensor a, Tensor b) {
    float[] sum = a.toFloats();
    float[] other = b.toFloats();
    for (int i = 0; i < sum.length; i++) {
      sum[i] += other[i];
    }
    out.copyFrom(sum);
  }

  @Override
  public void zero(Tensor out) {
    out.segment().fill((byte) 0);
  }

  @Override
  public void cast(Tensor out, Tensor in) {
    if (out.dtype() == DType.F32) {
      out.copyFrom(in.toFloats());
      return;
    }
    MemorySegment bytes = out.segment();
    for (long i = 0; i < out.size(); i++) {
      float value = in.get(i);
      short rounded = out.dtype() == DType.BF16 ? toBFloat16(value) : Float.floatToFloat16(value);
      bytes.set(SHORT, i * 2, rounded);
    }
  }

  /// Upper 16 bits, rounded to nearest, ties to even: adding half of the last kept bit carries into
  /// the exponent where it must, up to infinity.
  private static short toBFloat16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40); // quiet, or a payload in the low bits would round to Inf
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }

  @Override
  public double sumOfSquares(Tensor x) {
    double sum = 0;
    for (float value : x.toFloats()) {
      sum += (double) value * value;
    }
    return sum;
  }

  // --- rms_norm -------------------------------------------------------------------------------

  @Override
  public void rmsNorm(Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    float[] w = weight.toFloats(); // [W]
    for (int r = 0; r < x.dim(0); r++) {
      float[] xr = row(x, r); // [W]
      double squares = 0;
      for (float value : xr) {
        squares += (double) value * value;
      }
      double scale = 1 / Math.sqrt(squares / xr.length + eps);
      float[] outRow = new float[xr.length];
      for (int i = 0; i < xr.length; i++) {
        outRow[i] = (float) (xr[i] * scale * w[i]);
      }
      setRow(out, r, outRow);
      rstd.set(r, (float) scale);
    }
  }

  @Override
  public void rmsNormBackward(
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx) {
    float[] w = weight.toFloats(); // [W]
    double[] dw = new double[w.length];
    for (int r = 0; r < x.dim(0); r++) {
      float[] xr = row(x, r); // [W]
      float[] d = row(dOut, r); // [W]
      double scale = rstd.get(r);
      double gx = 0; // mean(g * x), g = dOut * weight
      for (int i = 0; i < w.length; i++) {
        gx += (double) d[i] * w[i] * xr[i] / w.length;
        dw[i] += d[i] * (xr[i] * scale);
      }
      double[] dxr = new double[w.length];
      for (int i = 0; i < w.length; i++) {
        dxr[i] = scale * ((double) d[i] * w[i] - xr[i] * scale * scale * gx);
      }
      store(dx, r, dxr, intoDx);
    }
    addTo(dWeight, dw);
  }

  // --- matmul ---------------------------------------------------------------------------------

  @Override
  public void matmul(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    float[] product = linear(x, weight); // [N,O]
    if (bias != null) {
      float[] b = bias.toFloats(); // [O]
      for (int i = 0; i < product.length; i++) {
        product[i] += b[i % b.length];
      }
    }
    out.copyFrom(product);
  }

  /// `x W^T`, each element in the order that the contract fixes; `[N,O]`.
  private static float[] linear(Tensor x, Tensor weight) {
    int rows = (int) x.dim(0);
    int inner = (int) x.dim(1);
    int outs = (int) weight.dim(0);
    float[] xs = x.toFloats(); // [N,I]
    int chains = Kernels.chains(inner);
    float[] sums = new float[chains];
    float[] out = new float[Math.multiplyExact(rows, outs)];
    for (int o = 0; o < outs; o++) {
      float[] w = row(weight, o); // [I]
      for (int n = 0; n < rows; n++) {
        Arrays.fill(sums, 0f);
        for (int k = 0; k < inner; k++) {
          sums[k % chains] = Math.fma(xs[n * inner + k], w[k], sums[k % chains]);
        }
        out[n * outs + o] = chains == 1 ? sums[0] : tree(sums);
      }
    }
    return out;
  }

  private static float tree(float[] c) {
    return ((c[0] + c[4]) + (c[2] + c[6])) + ((c[1] + c[5]) + (c[3] + c[7]));
  }

  @Override
  public void matmulBackwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    int rows = (int) dOut.dim(0);
    int outs = (int) weight.dim(0);
    double[][] sums = new double[rows][(int) weight.dim(1)]; // [N,I]
    float[] d = dOut.toFloats(); // [N,O]
    for (int o = 0; o < outs; o++) {
      float[] w = row(weight, o); // [I]
      for (int n = 0; n < rows; n++) {
        axpy(sums[n], d[n * outs + o], w);
      }
    }
    for (int n = 0; n < rows; n++) {
      store(dx, n, sums[n], intoDx);
    }
  }

  @Override
  public void matmulBackwardWeight(Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    int rows = (int) dOut.dim(0);
    int outs = (int) dWeight.dim(0);
    float[] d = dOut.toFloats(); // [N,O]
    float[][] xs = rows(x); // [N,I]
    double[] dBiasSum = new double[outs];
    for (int o = 0; o < outs; o++) {
      double[] sum = new double[(int) dWeight.dim(1)]; // [I]
      for (int n = 0; n < rows; n++) {
        axpy(sum, d[n * outs + o], xs[n]);
        dBiasSum[o] += d[n * outs + o];
      }
      store(dWeight, o, sum, Accumulate.ADD);
    }
    if (dBias != null) {
      addTo(dBias, dBiasSum);
    }
  }

  // --- rope -----------------------------------------------------------------------------------

  @Override
  public void rope(Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions) {
    rotate(out, x, cos, sin, positions, 1);
  }

  @Override
  public void ropeBackward(Tensor dx, Tensor dOut, Tensor cos, Tensor sin, Tensor positions) {
    rotate(dx, dOut, cos, sin, positions, -1);
  }

  /// Rotates the pairs (i, i + R/2) by `direction` times their angle.
  private static void rotate(
      Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions, int direction) {
    int heads = (int) x.dim(1);
    int headDim = (int) x.dim(2);
    int half = (int) cos.dim(1); // R/2
    for (int n = 0; n < x.dim(0); n++) {
      float[] c = row(cos, positions.getInt(n)); // [R/2]
      float[] s = row(sin, positions.getInt(n)); // [R/2]
      float[] in = row(x, n); // [H,D]
      float[] rotated = in.clone();
      for (int h = 0; h < heads; h++) {
        for (int i = 0; i < half; i++) {
          int a = h * headDim + i;
          int b = a + half;
          rotated[a] = (float) ((double) in[a] * c[i] - (double) direction * in[b] * s[i]);
          rotated[b] = (float) ((double) in[b] * c[i] + (double) direction * in[a] * s[i]);
        }
      }
      setRow(out, n, rotated);
    }
  }

  // --- attention ------------------------------------------------------------------------------

  @Override
  public void attention(
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    int heads = (int) q.dim(1);
    int kvHeads = (int) k.dim(1);
    int headDim = (int) q.dim(2);
    for (int r = 0; r < layout.rows(); r++) {
      float[] ks = keysOf(r, k, layout); // [S,Hkv,D]
      float[] vs = keysOf(r, v, layout); // [S,Hkv,D]
      for (int t = 0; t < layout.length(r); t++) {
        int n = layout.tokenStart(r) + t;
        int i = layout.past(r) + t;
        float[] qn = row(q, n); // [H,D]
        float[] zn = new float[heads * headDim]; // [H,D]
        for (int h = 0; h < heads; h++) {
          HeadPlan.Mode mode = plan.mode(r, h);
          Attended attended = Attended.NOTHING;
          if (mode == HeadPlan.Mode.MEAN) {
            System.arraycopy(plan.mean(r, h), 0, zn, h * headDim, headDim);
          } else if (mode != HeadPlan.Mode.SKIP) {
            int kvHead = h / (heads / kvHeads);
            int[] seen = visibleKeys(i, r, h, plan, spec);
            double[] scores = new double[seen.length]; // uniform heads: all zero
            for (int j = 0; mode == HeadPlan.Mode.ATTEND && j < seen.length; j++) {
              int key = (seen[j] * kvHeads + kvHead) * headDim;
              scores[j] = spec.scale() * dot(qn, h * headDim, ks, key, headDim);
            }
            attended = Attended.softmax(seen, scores);
            for (int d = 0; d < headDim; d++) {
              double sum = 0;
              for (int j = 0; j < seen.length; j++) {
                sum += attended.weights[j] * vs[(seen[j] * kvHeads + kvHead) * headDim + d];
              }
              zn[h * headDim + d] = (float) sum;
            }
          }
          lse.set((long) n * heads + h, (float) attended.lse);
          if (readout != null) {
            attended.report(readout, n, h, heads);
          }
        }
        setRow(z, n, zn);
      }
    }
  }

  @Override
  public void attentionBackward(
      Tensor dq,
      Tensor dk,
      Tensor dv,
      Tensor dz,
      Tensor q,
      Tensor k,
      Tensor v,
      Tensor z,
      Tensor lse,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec) {
    int heads = (int) q.dim(1);
    int kvHeads = (int) k.dim(1);
    int headDim = (int) q.dim(2);
    for (int r = 0; r < layout.rows(); r++) {
      float[] ks = keysOf(r, k, layout); // [S,Hkv,D]
      float[] vs = keysOf(r, v, layout); // [S,Hkv,D]
      double[][] dks = new double[layout.keys(r)][kvHeads * headDim]; // [S,Hkv,D]
      double[][] dvs = new double[layout.keys(r)][kvHeads * headDim]; // [S,Hkv,D]
      for (int i = 0; i < layout.length(r); i++) {
        int n = layout.tokenStart(r) + i;
        float[] qn = row(q, n); // [H,D]
        float[] zn = row(z, n); // [H,D]
        float[] dzn = row(dz, n); // [H,D]
        double[] dqn = new double[heads * headDim]; // [H,D]
        for (int h = 0; h < heads; h++) {
          HeadPlan.Mode mode = plan.mode(r, h);
          if (mode == HeadPlan.Mode.MEAN || mode == HeadPlan.Mode.SKIP) {
            continue;
          }
          int at = h * headDim;
          int kvAt = h / (heads / kvHeads) * headDim; // within [Hkv,D]
          int[] seen = visibleKeys(layout.past(r) + i, r, h, plan, spec);
          double delta = dot(dzn, at, zn, at, headDim);
          for (int j : seen) {
            int key = j * kvHeads * headDim + kvAt;
            double score = spec.scale() * dot(qn, at, ks, key, headDim);
            double p =
                mode == HeadPlan.Mode.UNIFORM
                    ? 1.0 / seen.length
                    : Math.exp(score - lse.get((long) n * heads + h));
            for (int d = 0; d < headDim; d++) {
              dvs[j][kvAt + d] += p * dzn[at + d];
            }
            if (mode == HeadPlan.Mode.ATTEND) {
              double ds = p * (dot(dzn, at, vs, key, headDim) - delta);
              for (int d = 0; d < headDim; d++) {
                dqn[at + d] += spec.scale() * ds * ks[key + d];
                dks[j][kvAt + d] += spec.scale() * ds * qn[at + d];
              }
            }
          }
        }
        store(dq, n, dqn, Accumulate.SET);
      }
      for (int j = 0; j < layout.keys(r); j++) {
        store(dk, layout.keyStart(r) + j, dks[j], Accumulate.SET);
        store(dv, layout.keyStart(r) + j, dvs[j], Accumulate.SET);
      }
    }
  }

  /// The keys or values of one row, `[S,Hkv,D]`; entries of other rows are never read.
  private static float[] keysOf(int row, Tensor kv, BatchLayout layout) {
    long from = layout.keyStart(row);
    return kv.slice(from, from + layout.keys(row)).toFloats();
  }

  /// Positions that the query at position `i` sees, ascending.
  private static int[] visibleKeys(int i, int row, int head, HeadPlan plan, AttentionSpec spec) {
    int sink = plan.sink(row, head);
    int localWindow = plan.window(row, head);
    return IntStream.rangeClosed(0, i)
        .filter(j -> j > i - spec.window() && (j < sink || j > i - localWindow))
        .toArray();
  }

  /// What one head of one query attends to.
  ///
  /// @param seen visible positions, ascending
  /// @param weights softmax over them
  /// @param top index into `seen` of the largest score, the first one on ties
  /// @param lse log-sum-exp of the scores
  private record Attended(int[] seen, double[] weights, int top, double lse) {
    static final Attended NOTHING =
        new Attended(new int[0], new double[0], -1, Double.NEGATIVE_INFINITY);

    static Attended softmax(int[] seen, double[] scores) {
      int top = 0;
      double max = Double.NEGATIVE_INFINITY;
      for (int j = 0; j < scores.length; j++) {
        top = scores[j] > scores[top] ? j : top;
        max = Math.max(max, scores[j]); // NaN stays
      }
      double sum = 0;
      for (double score : scores) {
        sum += Math.exp(score - max);
      }
      double[] weights = new double[scores.length];
      for (int j = 0; j < scores.length; j++) {
        weights[j] = Math.exp(scores[j] - max) / sum;
      }
      return new Attended(seen, weights, top, max + Math.log(sum));
    }

    void report(AttentionReadout readout, int token, int head, int heads) {
      int query = Arrays.binarySearch(readout.queries(), token);
      if (query < 0) {
        return;
      }
      int at = query * heads + head; // in [Q,H]
      readout.topPosition().setInt(at, top < 0 ? -1 : seen[top]);
      readout.topWeight().set(at, top < 0 ? 0f : (float) weights[top]);
      readout.logSumExp().set(at, (float) lse);
      int[][] spans = readout.spans()[query]; // [P][2]
      for (int s = 0; s < spans.length; s++) {
        double mass = 0;
        for (int j = 0; j < seen.length; j++) {
          mass += seen[j] >= spans[s][0] && seen[j] < spans[s][1] ? weights[j] : 0;
        }
        readout.spanMass().set((long) at * spans.length + s, (float) mass);
      }
    }
  }

  // --- head_gate ------------------------------------------------------------------------------

  @Override
  public void headGate(Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    int headDim = (int) z.dim(2);
    for (int n = 0; n < z.dim(0); n++) {
      float[] zn = row(z, n); // [H,D]
      for (int i = 0; i < zn.length; i++) {
        float gate = plan.gate(layout.rowOf(n), i / headDim);
        zn[i] = gate == 0f ? 0f : gate * zn[i];
      }
      setRow(out, n, zn);
    }
  }

  @Override
  public void headGateBackward(
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    int heads = (int) z.dim(1);
    int headDim = (int) z.dim(2);
    double[] sums = new double[plan.rows() * heads]; // [B,H]
    for (int n = 0; n < z.dim(0); n++) {
      int r = layout.rowOf(n);
      float[] zn = row(z, n); // [H,D]
      float[] d = row(dOut, n); // [H,D]
      for (int h = 0; h < heads; h++) {
        sums[r * heads + h] += dot(d, h * headDim, zn, h * headDim, headDim);
      }
      for (int i = 0; i < d.length; i++) {
        float gate = plan.gate(r, i / headDim);
        d[i] = gate == 0f ? 0f : gate * d[i];
      }
      setRow(dz, n, d);
    }
    if (dGates != null) {
      addTo(dGates, sums);
    }
  }

  // --- swiglu ---------------------------------------------------------------------------------

  @Override
  public void swiglu(Tensor out, Tensor gate, Tensor up) {
    float[] gates = gate.toFloats();
    float[] ups = up.toFloats();
    float[] product = new float[gates.length];
    for (int i = 0; i < product.length; i++) {
      product[i] = (float) (gates[i] * sigmoid(gates[i]) * ups[i]);
    }
    out.copyFrom(product);
  }

  @Override
  public void swigluBackward(Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    float[] d = dOut.toFloats();
    float[] gates = gate.toFloats();
    float[] ups = up.toFloats();
    float[] dGates = new float[d.length];
    float[] dUps = new float[d.length];
    for (int i = 0; i < d.length; i++) {
      double g = gates[i];
      double s = sigmoid(g);
      dUps[i] = (float) (d[i] * g * s);
      dGates[i] = (float) ((double) d[i] * ups[i] * s * (1 + g * (1 - s)));
    }
    dGate.copyFrom(dGates);
    dUp.copyFrom(dUps);
  }

  private static double sigmoid(double x) {
    return 1 / (1 + Math.exp(-x));
  }

  // --- token_log_probs ------------------------------------------------------------------------

  @Override
  public void tokenLogProbs(
      Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    int vocab = (int) lmHead.dim(0);
    for (long from = 0; from < hidden.dim(0); from += LOGIT_ROWS) {
      long to = Math.min(from + LOGIT_ROWS, hidden.dim(0));
      float[] logits = linear(hidden.slice(from, to), lmHead); // [chunk,V]
      for (long m = from; m < to; m++) {
        int at = (int) (m - from) * vocab;
        double max = Double.NEGATIVE_INFINITY;
        for (int v = 0; v < vocab; v++) {
          max = Math.max(max, logits[at + v]);
        }
        double sum = 0;
        for (int v = 0; v < vocab; v++) {
          sum += Math.exp(logits[at + v] - max);
        }
        double logSumExp = max + Math.log(sum);
        lse.set(m, (float) logSumExp);
        logps.set(m, (float) (logits[at + targets.getInt(m)] - logSumExp));
      }
    }
  }

  @Override
  public void tokenLogProbsBackward(
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse) {
    int vocab = (int) lmHead.dim(0);
    int width = (int) lmHead.dim(1);
    for (long from = 0; from < hidden.dim(0); from += LOGIT_ROWS) {
      int rows = (int) Math.min(LOGIT_ROWS, hidden.dim(0) - from);
      Tensor chunk = hidden.slice(from, from + rows); // [chunk,C]
      float[][] xs = rows(chunk);
      float[] logits = linear(chunk, lmHead); // [chunk,V]
      double[][] dHiddens = new double[rows][width]; // [chunk,C]
      for (int v = 0; v < vocab; v++) {
        float[] w = row(lmHead, v); // [C]
        double[] dw = new double[width]; // [C]
        for (int m = 0; m < rows; m++) {
          double hit = targets.getInt(from + m) == v ? 1 : 0;
          double p = Math.exp((double) logits[m * vocab + v] - lse.get(from + m));
          double dLogit = dLogps.get(from + m) * (hit - p);
          axpy(dHiddens[m], dLogit, w);
          axpy(dw, dLogit, xs[m]);
        }
        store(dLmHead, v, dw, Accumulate.ADD);
      }
      for (int m = 0; m < rows; m++) {
        store(dHidden, from + m, dHiddens[m], Accumulate.SET);
      }
    }
  }

  // --- adamw ----------------------------------------------------------------------------------

  @Override
  public void adamW(Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    float scale = (float) step.gradScale();
    float b1 = (float) step.beta1();
    float b2 = (float) step.beta2();
    float rest1 = (float) (1 - step.beta1());
    float rest2 = (float) (1 - step.beta2());
    float keep = (float) (1 - step.learningRate() * step.weightDecay());
    float rate = (float) (step.learningRate() / (1 - Math.pow(step.beta1(), step.step())));
    float correction = (float) (1 - Math.pow(step.beta2(), step.step()));
    float eps = (float) step.eps();
    float[] params = param.toFloats();
    float[] grads = grad.toFloats();
    float[] ms = m.toFloats();
    float[] vs = v.toFloats();
    for (int i = 0; i < params.length; i++) {
      float g = scale * grads[i];
      ms[i] = b1 * ms[i] + rest1 * g;
      vs[i] = b2 * vs[i] + rest2 * g * g;
      float root = (float) Math.sqrt(vs[i] / correction);
      params[i] = keep * params[i] - rate * ms[i] / (root + eps);
    }
    param.copyFrom(params);
    m.copyFrom(ms);
    v.copyFrom(vs);
  }

  @Override
  public void close() {}

  // --- helpers --------------------------------------------------------------------------------

  /// Entry `index` of the outermost axis, widened to float.
  private static float[] row(Tensor t, long index) {
    return t.slice(index, index + 1).toFloats();
  }

  private static float[][] rows(Tensor t) {
    float[][] rows = new float[(int) t.dim(0)][];
    Arrays.setAll(rows, r -> row(t, r));
    return rows;
  }

  private static void setRow(Tensor t, long index, float[] values) {
    t.slice(index, index + 1).copyFrom(values);
  }

  /// Rounds a row of sums once and sets it or adds it.
  private static void store(Tensor t, long index, double[] sums, Accumulate accumulate) {
    float[] values = accumulate == Accumulate.ADD ? row(t, index) : new float[sums.length];
    for (int i = 0; i < sums.length; i++) {
      values[i] = (float) (values[i] + sums[i]);
    }
    setRow(t, index, values);
  }

  private static void addTo(Tensor t, double[] sums) {
    float[] values = t.toFloats();
    for (int i = 0; i < sums.length; i++) {
      values[i] = (float) (values[i] + sums[i]);
    }
    t.copyFrom(values);
  }

  private static double dot(float[] a, int aFrom, float[] b, int bFrom, int length) {
    double sum = 0;
    for (int i = 0; i < length; i++) {
      sum += (double) a[aFrom + i] * b[bFrom + i];
    }
    return sum;
  }

  /// `y += a x`.
  private static void axpy(double[] y, double a, float[] x) {
    for (int i = 0; i < y.length; i++) {
      y[i] += a * x[i];
    }
  }
}
