package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/// Every wrong argument is refused before anything is computed, in one line that names the op and
/// the tensor.
class OpsTest {
  private final HostArena arena = new HostArena();
  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  @AfterEach
  void close() {
    arena.close();
  }

  private Tensor f32(String name, long... dims) {
    return arena.floats(name, dims);
  }

  private Tensor of(DType dtype, String name, long... dims) {
    return arena.allocate(name, dtype, dims);
  }

  private Tensor ints(String name, int... values) {
    return arena.ints(name, values);
  }

  /// The arguments of a call by position, all right until one is replaced.
  private record Call(String op, List<Tensor> right, Run run) {
    interface Run {
      void on(List<Tensor> arguments);
    }

    void with(int at, Tensor wrong) {
      List<Tensor> arguments = new ArrayList<>(right);
      arguments.set(at, wrong);
      run.on(arguments);
    }
  }

  /// A call of every op with checked tensors.
  private List<Call> calls() {
    BatchLayout layout = BatchLayout.packed(3, 2);
    HeadPlan plan = HeadPlan.neutral(2, 4);
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, 1);
    AdamWStep step = new AdamWStep(1, 0.1, 0.9, 0.99, 1e-8, 0, 1);
    Tensor bf16 = of(DType.BF16, "weight", 7, 6);
    return List.of(
        new Call(
            "embedding",
            List.of(f32("out", 3, 6), ints("ids", 0, 6, 1), of(DType.F16, "table", 7, 6)),
            t -> ops.embedding(t.get(0), t.get(1), t.get(2))),
        new Call(
            "embedding_backward",
            List.of(f32("dTable", 7, 6), f32("dOut", 3, 6), ints("ids", 0, 6, 1)),
            t -> ops.embeddingBackward(t.get(0), t.get(1), t.get(2))),
        new Call(
            "gather_rows",
            List.of(f32("out", 2, 3, 4), f32("in", 5, 3, 4), ints("rows", 4, 0)),
            t -> ops.gatherRows(t.get(0), t.get(1), t.get(2))),
        new Call(
            "scatter_rows",
            List.of(f32("out", 5, 3, 4), f32("in", 2, 3, 4), ints("rows", 4, 0)),
            t -> ops.scatterRows(t.get(0), t.get(1), t.get(2))),
        new Call(
            "add",
            List.of(f32("out", 3, 5), f32("a", 3, 5), f32("b", 3, 5)),
            t -> ops.add(t.get(0), t.get(1), t.get(2))),
        new Call(
            "cast",
            List.of(of(DType.BF16, "out", 3, 5), f32("in", 3, 5)),
            t -> ops.cast(t.get(0), t.get(1))),
        new Call("sum_of_squares", List.of(f32("x", 3, 5)), t -> ops.sumOfSquares(t.get(0))),
        new Call(
            "rms_norm",
            List.of(f32("out", 3, 6), f32("rstd", 3), f32("x", 3, 6), of(DType.F16, "weight", 6)),
            t -> ops.rmsNorm(t.get(0), t.get(1), t.get(2), t.get(3), 1e-5f)),
        new Call(
            "rms_norm_backward",
            List.of(
                f32("dx", 3, 6),
                f32("dWeight", 6),
                f32("dOut", 3, 6),
                f32("x", 3, 6),
                f32("rstd", 3),
                of(DType.F16, "weight", 6)),
            t ->
                ops.rmsNormBackward(
                    t.get(0), t.get(1), t.get(2), t.get(3), t.get(4), t.get(5), Accumulate.SET)),
        new Call(
            "matmul",
            List.of(f32("out", 3, 7), f32("x", 3, 6), bf16, of(DType.BF16, "bias", 7)),
            t -> ops.matmul(t.get(0), t.get(1), t.get(2), t.get(3))),
        new Call(
            "matmul_backward_input",
            List.of(f32("dx", 3, 6), f32("dOut", 3, 7), bf16),
            t -> ops.matmulBackwardInput(t.get(0), t.get(1), t.get(2), Accumulate.SET)),
        new Call(
            "matmul_backward_weight",
            List.of(f32("dWeight", 7, 6), f32("dBias", 7), f32("dOut", 3, 7), f32("x", 3, 6)),
            t -> ops.matmulBackwardWeight(t.get(0), t.get(1), t.get(2), t.get(3))),
        new Call(
            "rope",
            List.of(
                f32("out", 2, 4, 6),
                f32("x", 2, 4, 6),
                f32("cos", 9, 3),
                f32("sin", 9, 3),
                ints("positions", 8, 0)),
            t -> ops.rope(t.get(0), t.get(1), t.get(2), t.get(3), t.get(4))),
        new Call(
            "norm_rope",
            List.of(
                f32("out", 2, 4, 6),
                f32("rstd", 8),
                f32("x", 2, 4, 6),
                of(DType.BF16, "weight", 6),
                f32("cos", 9, 3),
                f32("sin", 9, 3),
                ints("positions", 8, 0),
                f32("v", 2, 4, 6),
                f32("keys", 11, 4, 6),
                f32("values", 11, 4, 6),
                ints("rows", 10, 3)),
            t ->
                ops.normRope(
                    t.get(0),
                    t.get(1),
                    t.get(2),
                    t.get(3),
                    1e-5f,
                    t.get(4),
                    t.get(5),
                    t.get(6),
                    t.get(7),
                    new CacheLines(t.get(8), t.get(9), t.get(10)))),
        new Call(
            "rope_backward",
            List.of(
                f32("dx", 2, 4, 6),
                f32("dOut", 2, 4, 6),
                f32("cos", 9, 3),
                f32("sin", 9, 3),
                ints("positions", 8, 0)),
            t -> ops.ropeBackward(t.get(0), t.get(1), t.get(2), t.get(3), t.get(4))),
        new Call(
            "attention",
            List.of(
                f32("z", 5, 4, 6),
                f32("lse", 5, 4),
                f32("q", 5, 4, 6),
                f32("k", 5, 2, 6),
                f32("v", 5, 2, 6)),
            t ->
                ops.attention(
                    t.get(0), t.get(1), t.get(2), t.get(3), t.get(4), layout, plan, spec, null)),
        new Call(
            "attention_backward",
            List.of(
                f32("dq", 5, 4, 6),
                f32("dk", 5, 2, 6),
                f32("dv", 5, 2, 6),
                f32("dz", 5, 4, 6),
                f32("q", 5, 4, 6),
                f32("k", 5, 2, 6),
                f32("v", 5, 2, 6),
                f32("z", 5, 4, 6),
                f32("lse", 5, 4)),
            t ->
                ops.attentionBackward(
                    t.get(0), t.get(1), t.get(2), t.get(3), t.get(4), t.get(5), t.get(6), t.get(7),
                    t.get(8), layout, plan, spec)),
        new Call(
            "head_gate",
            List.of(f32("out", 5, 4, 6), f32("z", 5, 4, 6)),
            t -> ops.headGate(t.get(0), t.get(1), layout, plan)),
        new Call(
            "head_gate_backward",
            List.of(
                f32("dz", 5, 4, 6), f32("dGates", 2, 4), f32("dOut", 5, 4, 6), f32("z", 5, 4, 6)),
            t -> ops.headGateBackward(t.get(0), t.get(1), t.get(2), t.get(3), layout, plan)),
        new Call(
            "swiglu",
            List.of(f32("out", 3, 5), f32("gate", 3, 5), f32("up", 3, 5)),
            t -> ops.swiglu(t.get(0), t.get(1), t.get(2))),
        new Call(
            "swiglu_backward",
            List.of(
                f32("dGate", 3, 5),
                f32("dUp", 3, 5),
                f32("dOut", 3, 5),
                f32("gate", 3, 5),
                f32("up", 3, 5)),
            t -> ops.swigluBackward(t.get(0), t.get(1), t.get(2), t.get(3), t.get(4))),
        new Call(
            "token_log_probs",
            List.of(
                f32("logps", 3),
                f32("lse", 3),
                f32("hidden", 3, 6),
                of(DType.BF16, "lm_head.weight", 7, 6),
                ints("targets", 0, 6, 1)),
            t -> ops.tokenLogProbs(t.get(0), t.get(1), t.get(2), t.get(3), t.get(4))),
        new Call(
            "token_log_probs_backward",
            List.of(
                f32("dHidden", 3, 6),
                f32("dLmHead", 7, 6),
                f32("dLogps", 3),
                f32("hidden", 3, 6),
                of(DType.BF16, "lm_head.weight", 7, 6),
                ints("targets", 0, 6, 1),
                f32("lse", 3)),
            t ->
                ops.tokenLogProbsBackward(
                    t.get(0), t.get(1), t.get(2), t.get(3), t.get(4), t.get(5), t.get(6))),
        new Call(
            "adamw",
            List.of(f32("param", 3, 5), f32("grad", 3, 5), f32("m", 3, 5), f32("v", 3, 5)),
            t -> ops.adamW(t.get(0), t.get(1), t.get(2), t.get(3), step)));
  }

  /// Runs one test per op and argument: `wrong` makes the argument wrong or returns null where this
  /// kind of wrong does not apply to it.
  private List<DynamicTest> eachArgument(
      String how, UnaryOperator<Tensor> wrong, Class<? extends Exception> type) {
    List<DynamicTest> tests = new ArrayList<>();
    for (Call call : calls()) {
      for (int i = 0; i < call.right().size(); i++) {
        int at = i;
        Tensor given = wrong.apply(call.right().get(i));
        if (given != null) {
          tests.add(
              dynamicTest(
                  call.op() + ": " + given.name() + " " + how,
                  () ->
                      assertThatThrownBy(() -> call.with(at, given))
                          .isExactlyInstanceOf(type)
                          .hasMessageStartingWith(call.op() + ": ")
                          .hasMessageContaining(given.name())
                          .hasMessageNotContaining("\n")));
        }
      }
    }
    return tests;
  }

  @TestFactory
  List<DynamicTest> rightArgumentsPass() {
    return calls().stream()
        .map(call -> dynamicTest(call.op(), () -> call.run().on(call.right())))
        .toList();
  }

  @TestFactory
  List<DynamicTest> aWrongTypeIsNamed() {
    return eachArgument(
        "of another type",
        t -> of(t.dtype() == DType.I32 ? DType.F32 : DType.I32, t.name(), t.shape().dims()),
        IllegalArgumentException.class);
  }

  @TestFactory
  List<DynamicTest> everythingButWeightsIsF32() {
    return eachArgument(
        "in half precision",
        t ->
            t.dtype() != DType.F32 || t.name().equals("in") && t.shape().rank() == 2
                ? null // a weight, ids, or what cast takes
                : of(DType.F16, t.name(), t.shape().dims()),
        IllegalArgumentException.class);
  }

  @TestFactory
  List<DynamicTest> anIndexOutsideIsNamed() {
    List<DynamicTest> tests = new ArrayList<>();
    for (int index : new int[] {-1, 1000}) {
      tests.addAll(
          eachArgument(
              "with index " + index,
              t -> {
                if (t.dtype() != DType.I32) {
                  return null;
                }
                int[] values = t.toInts();
                values[1] = index;
                return ints(t.name(), values);
              },
              IndexOutOfBoundsException.class));
    }
    return tests;
  }

  /// A wrong extent may show in another tensor that must agree with it, so only the op's name is
  /// sure; the exact lines stand below.
  @TestFactory
  List<DynamicTest> aWrongShapeIsRefused() {
    List<DynamicTest> tests = new ArrayList<>();
    for (Call call : calls()) {
      for (int i = 0; i < call.right().size(); i++) {
        Tensor right = call.right().get(i);
        if (right.name().equals("x") && call.op().equals("sum_of_squares")) {
          continue; // any shape will do
        }
        for (int axis = 0; axis < right.shape().rank(); axis++) {
          if (isFree(call.op(), right.name(), axis)) {
            continue;
          }
          int at = i;
          long[] dims = right.shape().dims();
          dims[axis] += 1;
          Tensor wrong = of(right.dtype(), right.name(), dims);
          tests.add(
              dynamicTest(
                  "%s: %s %s".formatted(call.op(), right.name(), wrong.shape()),
                  () ->
                      assertThatThrownBy(() -> call.with(at, wrong))
                          .isInstanceOf(IllegalArgumentException.class)
                          .hasMessageStartingWith(call.op() + ": ")));
        }
      }
    }
    return tests;
  }

  /// Extents that nothing else fixes: rows of tables and caches.
  private static boolean isFree(String op, String tensor, int axis) {
    return axis == 0
        && switch (op) {
          case "embedding" -> tensor.equals("table");
          case "embedding_backward" -> tensor.equals("dTable");
          case "gather_rows" -> tensor.equals("in");
          case "scatter_rows" -> tensor.equals("out");
          case "token_log_probs" -> tensor.equals("lm_head.weight");
          default -> false;
        };
  }

  @Test
  void nothingIsWrittenByARefusedCall() {
    Tensor out =
        f32("out", 3, 5).copyFrom(new float[] {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5});
    assertThatThrownBy(() -> ops.add(out, f32("a", 3, 5), f32("b", 5, 3)))
        .hasMessage("add: b is [5, 3], want [3, 5] as out");
    assertThat(out.toFloats()).containsExactly(1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5);
  }

  @Test
  void messagesSayWhatCameAndWhatWasWanted() {
    Tensor x = f32("x", 3, 6);
    assertThatThrownBy(() -> ops.matmul(f32("out", 3, 7), x, f32("q_proj.weight", 7, 5), null))
        .hasMessage("matmul: weight q_proj.weight is [7, 5], want [*, 6] = last dim of x [3, 6]");
    assertThatThrownBy(() -> ops.matmul(f32("out", 3, 8), x, f32("q_proj.weight", 7, 6), null))
        .hasMessage("matmul: out is [3, 8], want [3, 7]");
    assertThatThrownBy(
            () -> ops.matmul(f32("out", 3, 7), f32("x", 18), f32("q_proj.weight", 7, 6), null))
        .hasMessage("matmul: x is [18], want 2 axes");
    assertThatThrownBy(() -> ops.rmsNorm(x, f32("rstd", 3), x, f32("norm.weight", 4), 1e-5f))
        .hasMessage("rms_norm: weight norm.weight is [4], want [6] = last dim of x [3, 6]");
    assertThatThrownBy(
            () -> ops.embedding(f32("out", 2, 6), ints("ids", 3, 7), f32("embed_tokens", 7, 6)))
        .hasMessage("embedding: ids[1] is 7, want 0 to 6");
    assertThatThrownBy(
            () -> ops.embedding(of(DType.BF16, "out", 1, 6), ints("ids", 3), f32("table", 7, 6)))
        .hasMessage("embedding: out is BF16, want F32");
    assertThatThrownBy(() -> ops.embedding(f32("out", 1, 6), ints("ids", 3), ints("table", 1, 2)))
        .hasMessage("embedding: table is I32, want F32, BF16, F16 or a block type");
    assertThatThrownBy(
            () -> {
              Tensor q = f32("q", 2, 4, 6);
              Tensor cos = f32("cos", 9, 4);
              ops.rope(q, q, cos, f32("sin", 9, 4), ints("positions", 0, 1));
            })
        .hasMessage("rope: cos rotates 8 of 6 elements");
    assertThatThrownBy(
            () ->
                ops.tokenLogProbs(
                    f32("logps", 3),
                    f32("lse", 3),
                    x,
                    f32("lm_head.weight", 7, 5),
                    ints("targets", 0, 0, 0)))
        .hasMessage(
            "token_log_probs: lm_head.weight is [7, 5], want [*, 6] = last dim of hidden [3, 6]");
  }

  @Test
  void adamWCountsStepsFromOne() {
    Tensor t = f32("t", 3);
    AdamWStep step = new AdamWStep(0, 0.1, 0.9, 0.99, 1e-8, 0, 1);
    assertThatThrownBy(() -> ops.adamW(t, t, t, t, step))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("adamw: step 0, want at least 1");
  }

  // --- attention ------------------------------------------------------------------------------

  private void attend(
      int kvHeads, int cache, BatchLayout layout, HeadPlan plan, AttentionReadout readout) {
    int tokens = layout.tokens();
    ops.attention(
        f32("z", tokens, 4, 6),
        f32("lse", tokens, 4),
        f32("q", tokens, 4, 6),
        f32("k", cache, kvHeads, 6),
        f32("v", cache, kvHeads, 6),
        layout,
        plan,
        new AttentionSpec(AttentionSpec.NO_WINDOW, 1),
        readout);
  }

  @Test
  void attentionWantsGroupsOfEqualSize() {
    BatchLayout layout = BatchLayout.packed(5);
    assertThatThrownBy(() -> attend(3, 5, layout, HeadPlan.neutral(1, 4), null))
        .hasMessage(
            "attention: q is [5, 4, 6] and k is [5, 3, 6]: "
                + "want one head dimension and H a multiple of Hkv");
  }

  @Test
  void attentionWantsPlanAndLayoutOfOneBatch() {
    BatchLayout layout = BatchLayout.packed(3, 2);
    String got = "attention: q is [5, 4, 6], head plan %d rows x %d heads, layout 2 rows with 5 ";
    String agree = "tokens: they must agree";
    assertThatThrownBy(() -> attend(2, 5, layout, HeadPlan.neutral(1, 4), null))
        .hasMessage(got.formatted(1, 4) + agree);
    assertThatThrownBy(() -> attend(2, 5, layout, HeadPlan.neutral(2, 3), null))
        .hasMessage(got.formatted(2, 3) + agree);
  }

  @Test
  void attentionWantsEveryRowsKeysInsideTheCache() {
    HeadPlan plan = HeadPlan.neutral(2, 4);
    int[] lengths = {3, 2};
    BatchLayout over = BatchLayout.cached(lengths, new int[] {0, 5}, new int[] {0, 4});
    assertThatThrownBy(() -> attend(2, 10, over, plan, null))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("attention: row 1 needs keys [4, 11), but k holds 10");
    attend(2, 11, over, plan, null);
    BatchLayout under = BatchLayout.cached(lengths, new int[] {0, 5}, new int[] {-1, 4});
    assertThatThrownBy(() -> attend(2, 11, under, plan, null))
        .hasMessage("attention: row 0 needs keys [-1, 2), but k holds 11");
  }

  @Test
  void attentionBackwardWantsKeysOfRowsOneBehindTheOther() {
    Tensor q = f32("q", 2, 1, 3);
    Tensor k = f32("k", 5, 1, 3);
    Tensor lse = f32("lse", 2, 1);
    AttentionSpec spec = new AttentionSpec(4, 1);
    HeadPlan plan = HeadPlan.neutral(2, 1);
    int[] past = {1, 2};
    BatchLayout tooLong = BatchLayout.cached(new int[] {1, 1}, past, new int[] {0, 3});
    assertThatThrownBy(
            () -> ops.attentionBackward(q, k, k, q, q, k, k, q, lse, tooLong, plan, spec))
        .hasMessage("attention_backward: row 1 needs keys [3, 6), but k holds 5");
    BatchLayout over = BatchLayout.cached(new int[] {1, 1}, past, new int[] {0, 1});
    assertThatThrownBy(() -> ops.attentionBackward(q, k, k, q, q, k, k, q, lse, over, plan, spec))
        .hasMessage(
            "attention_backward: keys of row 1 begin at 1, want them behind those of the row before, which end at 2");
    BatchLayout fits = BatchLayout.cached(new int[] {1, 1}, past, new int[] {0, 2});
    ops.attentionBackward(q, k, k, q, q, k, k, q, lse, fits, plan, spec);
  }

  @Test
  void readOutQueriesAreAscendingTokens() {
    BatchLayout layout = BatchLayout.packed(5);
    HeadPlan plan = HeadPlan.neutral(1, 4);
    for (int[] queries : new int[][] {{2, 2}, {3, 1}, {0, 5}, {-1}}) {
      AttentionReadout readout = AttentionReadout.of(arena, 4, queries);
      assertThatThrownBy(() -> attend(2, 5, layout, plan, readout))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage(
              "attention: read-out query %d, want ascending tokens below 5"
                  .formatted(queries[queries.length - 1]));
    }
  }

  @Test
  void readOutTensorsMustFit() {
    BatchLayout layout = BatchLayout.packed(5);
    HeadPlan plan = HeadPlan.neutral(1, 4);
    int[] queries = {1, 4};
    int[][][] spans = {{{0, 1}, {1, 2}, {2, 3}}, {{0, 1}, {1, 2}, {2, 3}}};
    AttentionReadout right = AttentionReadout.of(arena, 4, queries, spans);
    attend(2, 5, layout, plan, right);
    Tensor top = right.topPosition();
    Tensor weight = right.topWeight();
    Tensor mass = right.spanMass();
    Tensor lse = right.logSumExp();
    assertThatThrownBy(
            () -> attend(2, 5, layout, plan, AttentionReadout.of(arena, 3, queries, spans)))
        .hasMessage("attention: readout.top_position is [2, 3], want [2, 4]");
    assertThatThrownBy(
            () ->
                attend(
                    2,
                    5,
                    layout,
                    plan,
                    new AttentionReadout(queries, spans, top, weight.view(4, 2), mass, lse)))
        .hasMessage("attention: readout.top_weight is [4, 2], want [2, 4]");
    assertThatThrownBy(
            () ->
                attend(
                    2,
                    5,
                    layout,
                    plan,
                    new AttentionReadout(queries, spans, top, weight, mass.view(2, 3, 4), lse)))
        .hasMessage("attention: readout.span_mass is [2, 3, 4], want [2, 4, 3]");
    assertThatThrownBy(
            () ->
                attend(
                    2,
                    5,
                    layout,
                    plan,
                    new AttentionReadout(queries, spans, top, weight, mass, f32("other", 2, 5))))
        .hasMessage("attention: other is [2, 5], want [2, 4]");
  }

  @Test
  void readOutSpansAreRangesAndTheSameNumberForEveryQuery() {
    int[] queries = {1, 4};
    assertThatThrownBy(() -> AttentionReadout.of(arena, 4, queries, new int[1][0][2]))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("read-out: spans for 1 queries, want 2");
    assertThatThrownBy(
            () ->
                AttentionReadout.of(arena, 4, queries, new int[][][] {{{0, 1}}, {{0, 1}, {1, 2}}}))
        .hasMessage("read-out: 2 spans for one query, want 1 for all");
    assertThatThrownBy(() -> AttentionReadout.of(arena, 4, queries, new int[2][1][3]))
        .hasMessage("read-out: span [0, 0, 0], want [start, end)");
  }

  @Test
  void attentionSpecsAreChecked() {
    assertThatThrownBy(() -> new AttentionSpec(0, 1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("attention: window 0 and scale 1.0, want window >= 1 and a finite scale");
    assertThatThrownBy(() -> new AttentionSpec(1, Float.NaN))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void tellsWhoComputes() {
    assertThat(ops.backend()).isEqualTo("reference");
    assertThat(ops.threads()).isEqualTo(1);
    try (TensorArena fresh = ops.arena(TensorArena.Lifetime.STEP)) {
      assertThat(fresh.usedBytes()).isZero();
    }
  }
}
