package io.github.retmask.benchmarks.gpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.generate.Sampling;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;

/// Every op of one decoder layer on random data of one type: what it has to do and how long it took.
/// Each op is made, timed and freed before the next.
final class GpuOps {
  private final Ops ops;
  private final GpuShape shape;
  private final DType type;
  private final Watch watch;
  private final Consumer<Row> sink;
  private final RandomTensors random;
  private final Map<String, String> failures = new LinkedHashMap<>();
  private TensorArena arena;

  /// One timed op.
  ///
  /// @param op name, the same in the peer's table
  /// @param seconds of one run
  /// @param flop additions and multiplications
  /// @param bytes read and written at least
  record Row(String op, double seconds, double flop, double bytes) {}

  /// What takes the time of an op.
  interface Watch {
    /// Seconds of one run.
    double seconds(Runnable work);
  }

  /// @param type of activations and matrices, F32 or BF16
  GpuOps(Ops ops, GpuShape shape, DType type, Watch watch, Consumer<Row> sink) {
    this.ops = ops;
    this.shape = shape;
    this.type = type;
    this.watch = watch;
    this.sink = sink;
    this.arena = ops.arena(TensorArena.Lifetime.STEP);
    this.random = new RandomTensors(ops);
  }

  void run() {
    copy();
    rows();
    norms();
    linear();
    attention();
    elementwise();
    lmHead();
    optimizer();
    sampler();
    arena.close();
  }

  /// Times an op; what the device refuses is noted, and the others go on.
  private void time(String op, double flop, double bytes, Runnable work) {
    double seconds;
    try {
      seconds = watch.seconds(work);
    } catch (IllegalStateException e) {
      failures.put(op, String.valueOf(e.getMessage()));
      return;
    }
    sink.accept(new Row(op, seconds, flop, bytes));
  }

  /// Why ops failed, by their names.
  Map<String, String> failures() {
    return failures;
  }

  /// Ends the tensors of the ops before.
  private void next() {
    arena.close();
    arena = ops.arena(TensorArena.Lifetime.STEP);
  }

  private Tensor normal(String name, double scale, DType dtype, long... dims) {
    return random.normal(arena, name, scale, dtype, dims);
  }

  private Tensor activation(String name, long... dims) {
    return normal(name, 1, type, dims);
  }

  private Tensor matrix(String name, long outputs, long inputs) {
    return normal(name, 1 / Math.sqrt(inputs), type, outputs, inputs);
  }

  private double size(long elements) {
    return (double) elements * type.bytes();
  }

  /// The memory roof: 512 MiB copied, or as much as the shape has.
  private void copy() {
    long elements = (long) shape.tokens() * shape.intermediate();
    Tensor from = normal("from", 1, DType.F32, elements / 64, 64);
    Tensor to = arena.floats("to", elements / 64, 64);
    time("copy", 0, 2.0 * to.storage().bytes(), () -> ops.cast(to, from));
    next();
  }

  private void rows() {
    int t = shape.tokens();
    int c = shape.hidden();
    Tensor ids = arena.ints("ids", new Random(2).ints(t, 0, shape.vocab()).toArray());
    Tensor table = matrix("table", shape.vocab(), c);
    Tensor out = activation("out", t, c);
    time("embedding", 0, 2 * size((long) t * c), () -> ops.embedding(out, ids, table));
    Tensor dTable = arena.floats("d_table", shape.vocab(), c);
    time(
        "embedding_backward",
        (double) t * c,
        size((long) t * c) + 8.0 * t * c,
        () -> ops.embeddingBackward(dTable, out, ids));
    next();
  }

  private void norms() {
    int t = shape.tokens();
    int c = shape.hidden();
    Tensor x = activation("x", t, c);
    Tensor out = activation("out", t, c);
    Tensor rstd = arena.floats("rstd", t);
    Tensor weight = normal("weight", 1, type, c);
    double bytes = size((long) t * c);
    time("rms_norm", 0, 2 * bytes, () -> ops.rmsNorm(out, rstd, x, weight, 1e-5f));
    Tensor branch = activation("branch", t, c);
    time(
        "add_rms_norm", 0, 4 * bytes, () -> ops.addRmsNorm(out, rstd, x, x, branch, weight, 1e-5f));
    Tensor dx = activation("dx", t, c);
    Tensor dWeight = arena.floats("d_weight", c);
    time(
        "rms_norm_backward",
        0,
        3 * bytes,
        () -> ops.rmsNormBackward(dx, dWeight, out, x, rstd, weight, Accumulate.SET));
    next();
    int h = shape.heads();
    int d = shape.headDim();
    Tensor q = activation("q", t, h, d);
    Tensor cos = normal("cos", 1, DType.F32, t, d / 2);
    Tensor sin = normal("sin", 1, DType.F32, t, d / 2);
    int[] positions = new int[t];
    java.util.Arrays.setAll(positions, i -> i);
    Tensor places = arena.ints("positions", positions);
    double rope = 2 * size((long) t * h * d) + 4.0 * t * d;
    time("rope", 0, rope, () -> ops.rope(q, q, cos, sin, places));
    time("rope_backward", 0, rope, () -> ops.ropeBackward(q, q, cos, sin, places));
    Tensor rotated = activation("rotated", t, h, d);
    Tensor v = activation("v", t, h, d);
    Tensor headNorm = normal("head_norm", 1, type, d);
    Tensor headRstd = arena.floats("head_rstd", (long) t * h);
    CacheLines cache =
        new CacheLines(activation("keys", t, h, d), activation("values", t, h, d), places);
    time(
        "norm_rope",
        0,
        5 * size((long) t * h * d) + 4.0 * t * d,
        () -> ops.normRope(rotated, headRstd, q, headNorm, 1e-5f, cos, sin, places, v, cache));
    next();
  }

  private void linear() {
    int t = shape.tokens();
    int c = shape.hidden();
    int f = shape.intermediate();
    Tensor x = activation("x", t, c);
    Tensor out = activation("out", t, f);
    Tensor weight = matrix("weight", f, c);
    double flop = 2.0 * t * c * f;
    double bytes = size((long) t * c + (long) t * f + (long) f * c);
    time("matmul", flop, bytes, () -> ops.matmul(out, x, weight, null));
    time(
        "matmul_backward_input",
        flop,
        bytes,
        () -> ops.matmulBackwardInput(x, out, weight, Accumulate.SET));
    Tensor dWeight = arena.floats("d_weight", f, c);
    time(
        "matmul_backward_weight",
        flop,
        size((long) t * c + (long) t * f) + 8.0 * f * c,
        () -> ops.matmulBackwardWeight(dWeight, null, out, x));
    for (int rows : new int[] {1, 2, 8}) {
      Tensor few = x.slice(0, rows);
      Tensor fewOut = out.slice(0, rows);
      time(
          "matmul_" + rows + "_rows",
          2.0 * rows * c * f,
          size((long) f * c),
          () -> ops.matmul(fewOut, few, weight, null));
    }
    next();
  }

  private void attention() {
    int t = shape.tokens();
    int h = shape.heads();
    int kv = shape.kvHeads();
    int d = shape.headDim();
    Tensor q = activation("q", t, h, d);
    Tensor k = activation("k", t, kv, d);
    Tensor v = activation("v", t, kv, d);
    Tensor z = activation("z", t, h, d);
    Tensor lse = arena.floats("lse", t, h);
    BatchLayout layout = BatchLayout.packed(t);
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, (float) (1 / Math.sqrt(d)));
    HeadPlan all = HeadPlan.neutral(1, h);
    double flop = 2.0 * t * (t + 1) * d * h;
    double bytes = size(2L * t * h * d + 2L * t * kv * d);
    time("attention", flop, bytes, () -> ops.attention(z, lse, q, k, v, layout, all, spec, null));
    HeadPlan half = HeadPlan.of(List.of(everySecondHeadOff()), 0, d, false);
    time(
        "attention_half_off",
        flop / 2,
        bytes,
        () -> ops.attention(z, lse, q, k, v, layout, half, spec, null));
    AttentionSpec window = new AttentionSpec(Math.max(1, t / 8), spec.scale());
    time(
        "attention_window",
        flop * (1 - Math.pow(1 - 1 / 8.0, 2)),
        bytes,
        () -> ops.attention(z, lse, q, k, v, layout, all, window, null));
    ops.attention(z, lse, q, k, v, layout, all, spec, null);
    Tensor dq = activation("dq", t, h, d);
    Tensor dk = activation("dk", t, kv, d);
    Tensor dv = activation("dv", t, kv, d);
    Tensor dz = activation("dz", t, h, d);
    time(
        "attention_backward",
        2.5 * flop,
        2 * bytes,
        () -> ops.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, all, spec));
    next();
    decode(1, false);
    decode(8, false);
    decode(1, true);
    next();
  }

  private HeadMask everySecondHeadOff() {
    List<HeadId> off = new ArrayList<>();
    for (int head = 0; head < shape.heads(); head += 2) {
      off.add(new HeadId(0, head));
    }
    return HeadMask.off(1, shape.heads(), off);
  }

  private void decode(int rows, boolean readout) {
    int s = shape.context();
    int h = shape.heads();
    int kv = shape.kvHeads();
    int d = shape.headDim();
    Tensor k = activation("k", (long) rows * s, kv, d);
    Tensor v = activation("v", (long) rows * s, kv, d);
    Tensor q = activation("q", rows, h, d);
    Tensor z = activation("z", rows, h, d);
    Tensor lse = arena.floats("lse", rows, h);
    int[] lengths = new int[rows];
    int[] past = new int[rows];
    int[] start = new int[rows];
    int[] queries = new int[rows];
    for (int r = 0; r < rows; r++) {
      lengths[r] = 1;
      past[r] = s - 1;
      start[r] = r * s;
      queries[r] = r;
    }
    BatchLayout layout = BatchLayout.cached(lengths, past, start);
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, (float) (1 / Math.sqrt(d)));
    HeadPlan plan = HeadPlan.neutral(rows, h);
    AttentionReadout wanted = readout ? AttentionReadout.of(arena, h, queries) : null;
    time(
        "decode_attention_" + rows + (readout ? "_readout" : ""),
        4.0 * rows * s * h * d,
        size(2L * rows * s * kv * d),
        () -> ops.attention(z, lse, q, k, v, layout, plan, spec, wanted));
    next();
  }

  private void elementwise() {
    int t = shape.tokens();
    int f = shape.intermediate();
    Tensor gate = activation("gate", t, f);
    Tensor up = activation("up", t, f);
    Tensor out = activation("out", t, f);
    double bytes = size((long) t * f);
    time("swiglu", 0, 3 * bytes, () -> ops.swiglu(out, gate, up));
    Tensor dGate = activation("d_gate", t, f);
    time("swiglu_backward", 0, 5 * bytes, () -> ops.swigluBackward(dGate, out, out, gate, up));
    time("add", 0, 3 * bytes, () -> ops.add(out, gate, up));
    next();
    int h = shape.heads();
    int d = shape.headDim();
    Tensor z = activation("z", t, h, d);
    HeadPlan half = HeadPlan.of(List.of(everySecondHeadOff()), 0, d, true);
    BatchLayout layout = BatchLayout.packed(t);
    time("head_gate", 0, 1.5 * size((long) t * h * d), () -> ops.headGate(z, z, layout, half));
    next();
  }

  private void lmHead() {
    int t = shape.tokens();
    int c = shape.hidden();
    int v = shape.vocab();
    Tensor hidden = activation("hidden", t, c);
    Tensor lmHead = matrix("lm_head", v, c);
    Tensor targets = arena.ints("targets", new Random(3).ints(t, 0, v).toArray());
    Tensor logps = arena.floats("logps", t);
    Tensor lse = arena.floats("lse", t);
    double flop = 2.0 * t * c * v;
    double bytes = size((long) t * c + (long) v * c);
    time(
        "token_log_probs",
        flop,
        bytes,
        () -> ops.tokenLogProbs(logps, lse, hidden, lmHead, targets));
    Tensor dLogps = normal("d_logps", 1, DType.F32, t);
    Tensor dHidden = activation("d_hidden", t, c);
    Tensor dLmHead = arena.floats("d_lm_head", v, c);
    time(
        "token_log_probs_and_gradients",
        3 * flop,
        2 * bytes + 8.0 * v * c,
        () ->
            ops.tokenLogProbsAndGradients(
                logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets));
    next();
  }

  private void optimizer() {
    int n = shape.parameters();
    Tensor param = normal("param", 1, DType.F32, n / 8, 8);
    Tensor grad = normal("grad", 1, DType.F32, n / 8, 8);
    Tensor m = arena.floats("m", n / 8, 8);
    Tensor v = arena.floats("v", n / 8, 8);
    AdamWStep step = new AdamWStep(1, 1e-5, 0.9, 0.999, 1e-8, 0.01, 1);
    time("adamw", 0, 28.0 * n, () -> ops.adamW(param, grad, m, v, step));
    Tensor half = arena.allocate("half", DType.BF16, n / 8, 8);
    time("adamw_bf16", 0, 30.0 * n, () -> ops.adamW(half, param, grad, m, v, step));
    time("sum_of_squares", 2.0 * n, 4.0 * n, () -> ops.sumOfSquares(grad));
    next();
  }

  /// Tokens of eight rows; the time includes the wait for them.
  private void sampler() {
    int rows = 8;
    Tensor logits = normal("logits", 2, DType.F32, rows, shape.vocab());
    List<TokenDraw> greedy = new ArrayList<>();
    List<TokenDraw> filtered = new ArrayList<>();
    for (int m = 0; m < rows; m++) {
      greedy.add(Sampling.GREEDY.draw(m, 0));
      filtered.add(new Sampling(0.7, 50, 0.95, 0, 1, 1).draw(m, 0));
    }
    double bytes = 4.0 * rows * shape.vocab();
    time("draw_greedy", 0, bytes, () -> ops.drawTokens(logits, greedy));
    time("draw_top_k_top_p", 0, bytes, () -> ops.drawTokens(logits, filtered));
    next();
  }
}
