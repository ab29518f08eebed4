package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.normal;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/// Matrices of block types mean their decoded values: every op that takes one, as it is stored or where
/// the backend has placed it, gives the bits that it gives for the same values in F32.
abstract class BlockWeightsContract extends OpContract {

  BlockWeightsContract(KernelsContract contract) {
    super(contract);
  }

  /// `[N,I] x [O,I]`.
  record Case(DType dtype, boolean isPlaced, int rows, int inner, int outs) {
    BlockBytes weight() {
      return BlockBytes.random(dtype, 1, outs * inner);
    }
  }

  static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    for (DType dtype : new DType[] {DType.Q8_0, DType.Q4_0, DType.Q4_K, DType.Q6_K}) {
      int block = dtype.blockSize();
      // 5 blocks of 32 are cut inside a block where 128 elements are taken at once.
      for (int[] s : new int[][] {{1, 1, 1}, {1, 5, 207}, {3, 2, 13}, {17, 3, 65}, {49, 5, 67}}) {
        cases.add(new Case(dtype, false, s[0], s[1] * block, s[2]));
      }
      int chained = (544 + block - 1) / block * block; // eight chains
      for (int outs : new int[] {1, 4, 9, 66}) {
        for (int rows : new int[] {1, 2, 5, 35}) { // few and many
          cases.add(new Case(dtype, false, rows, chained, outs));
          cases.add(new Case(dtype, true, rows, chained, outs));
        }
      }
      cases.add(new Case(dtype, true, 35, 4864, 33)); // passes of unequal length
    }
    return cases;
  }

  private Tensor weight(Case c) {
    Tensor weight = bench.blocks("weight", c.weight(), c.outs(), c.inner());
    return c.isPlaced() ? bench.placed(weight) : weight;
  }

  @ParameterizedTest
  @MethodSource("cases")
  void matmulIsThatOfTheDecodedWeight(Case c) {
    float[] values = c.weight().values();
    Tensor x = bench.f32("x", normal(2, c.rows() * c.inner()), c.rows(), c.inner());
    Tensor bias = bench.f32("bias", normal(3, c.outs()), c.outs());
    Tensor want = bench.garbage("want", c.rows(), c.outs());
    bench.ops.matmul(want, x, bench.f32("weight", values, c.outs(), c.inner()), bias);
    Tensor out = bench.garbage("out", c.rows(), c.outs());
    bench.ops.matmul(out, x, weight(c), bias);
    TensorAssert.assertThat("matmul out", bench.floats(out), c.rows(), c.outs())
        .hasBits(bench.floats(want));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void gradientOfTheInputIsThatOfTheDecodedWeight(Case c) {
    float[] values = c.weight().values();
    Tensor dOut = bench.f32("dOut", normal(2, c.rows() * c.outs()), c.rows(), c.outs());
    Tensor want = bench.garbage("want", c.rows(), c.inner());
    Tensor weight = bench.f32("weight", values, c.outs(), c.inner());
    bench.ops.matmulBackwardInput(want, dOut, weight, Accumulate.SET);
    Tensor dx = bench.garbage("dx", c.rows(), c.inner());
    Tensor blocks = weight(c);
    bench.ops.matmulBackwardInput(dx, dOut, blocks, Accumulate.SET);
    TensorAssert.assertThat("matmul_backward_input dx", bench.floats(dx), c.rows(), c.inner())
        .hasBits(bench.floats(want));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void embeddingAndCastGiveTheDecodedValues(Case c) {
    float[] values = c.weight().values();
    Tensor table = weight(c);
    Tensor all = bench.garbage("all", c.outs(), c.inner());
    bench.ops.cast(all, table);
    TensorAssert.assertThat("cast out", bench.floats(all), c.outs(), c.inner()).hasBits(values);
    int[] ids = {c.outs() - 1, 0, c.outs() / 2};
    Tensor out = bench.garbage("out", 3, c.inner());
    bench.ops.embedding(out, bench.ints("ids", ids), table);
    float[] want = new float[3 * c.inner()];
    for (int n = 0; n < 3; n++) {
      System.arraycopy(values, ids[n] * c.inner(), want, n * c.inner(), c.inner());
    }
    TensorAssert.assertThat("embedding out", bench.floats(out), 3, c.inner()).hasBits(want);
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void logProbabilitiesAreThoseOfTheDecodedHead(DType dtype) {
    int inner = 2 * dtype.blockSize();
    BlockBytes head = BlockBytes.random(dtype, 4, 33 * inner);
    Tensor hidden = bench.f32("hidden", normal(5, 5 * inner), 5, inner);
    Tensor targets = bench.ints("targets", 3, 32, 0, 17, 3);
    Tensor[] logps = {bench.garbage("logps", 5), bench.garbage("logps", 5)};
    Tensor[] heads = {
      bench.blocks("lm_head", head, 33, inner), bench.f32("lm_head", head.values(), 33, inner)
    };
    for (int i = 0; i < 2; i++) {
      bench.ops.tokenLogProbs(logps[i], bench.garbage("lse", 5), hidden, heads[i], targets);
    }
    TensorAssert.assertThat("token_log_probs logps", bench.floats(logps[0]))
        .hasBits(bench.floats(logps[1]));
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void slicesOfRowsAreTheirOwnBlocks(DType dtype) {
    int inner = Math.max(512, dtype.blockSize()) + dtype.blockSize();
    BlockBytes weight = BlockBytes.random(dtype, 6, 45 * inner);
    Tensor x = bench.f32("x", normal(7, 7 * inner), 7, inner);
    Tensor values = bench.f32("weight", weight.values(), 45, inner);
    Tensor stored = bench.blocks("weight", weight, 45, inner);
    for (Tensor blocks : List.of(stored, bench.placed(stored))) {
      for (int from : new int[] {5, 8, 16}) {
        for (int count : new int[] {8, 17, 29}) {
          Tensor out = bench.garbage("out", 7, count);
          bench.ops.matmul(out, x, blocks.slice(from, from + count), null);
          Tensor want = bench.garbage("want", 7, count);
          bench.ops.matmul(want, x, values.slice(from, from + count), null);
          TensorAssert.assertThat("matmul out", bench.floats(out), 7, count)
              .hasBits(bench.floats(want));
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void placedWeightsReadBackAsStored(DType dtype) {
    int inner = Math.max(512, dtype.blockSize()) + dtype.blockSize();
    BlockBytes weight = BlockBytes.random(dtype, 11, 21 * inner);
    Tensor placed = bench.placed(bench.blocks("weight", weight, 21, inner));
    assertThat(placed.toHost().segment().toArray(ValueLayout.JAVA_BYTE)).isEqualTo(weight.bytes());
    Tensor row = placed.slice(13, 14);
    assertThat(row.toFloats())
        .isEqualTo(Arrays.copyOfRange(weight.values(), 13 * inner, 14 * inner));
    assertThat(bench.placed(placed)).isSameAs(placed);
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void matmulIsReproducible(DType dtype) {
    int inner = Math.max(512, dtype.blockSize()) + dtype.blockSize();
    BlockBytes weight = BlockBytes.random(dtype, 8, 333 * inner);
    for (int rows : new int[] {3, 53}) {
      float[] x = normal(9, rows * inner);
      assertReproducible(
          "matmul",
          on -> {
            Tensor out = on.garbage("out", rows, 333);
            Tensor placed = on.placed(on.blocks("weight", weight, 333, inner));
            on.ops.matmul(out, on.f32("x", x, rows, inner), placed, null);
            return new float[][] {on.floats(out)};
          });
    }
  }

  @Test
  void nothingIsRoundedToBlocks() {
    Tensor blocks = bench.blocks("w", BlockBytes.random(DType.Q8_0, 1, 64), 2, 32);
    assertThatThrownBy(() -> bench.ops.cast(blocks, bench.garbage("in", 2, 32)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("cast: w is Q8_0, want F32, BF16 or F16");
  }
}
