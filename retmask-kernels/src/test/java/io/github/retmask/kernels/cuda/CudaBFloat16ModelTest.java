package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.CrossEntropyLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.LogProbs;
import io.github.retmask.train.Loss;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// A model whose weights are BF16, computed with BF16 activations, beside the same weights with the F32
/// arithmetic of the reference backend. What is asked: errors like those of rounding activations to 8
/// bits, a hundredth or so of the result, and masks that are exact.
class CudaBFloat16ModelTest {
  private static final int[] IDS = new Random(5).ints(37, 0, 97).toArray();

  private final Kernels gpu = TestGpu.openBFloat16(1);
  private final Kernels cpu = Backends.open("reference", 1);
  private Transformer onGpu;
  private Transformer onCpu;
  private TensorArena host;
  private TensorArena gpuStep;
  private TensorArena cpuStep;

  @BeforeEach
  void open() throws Exception {
    host = cpu.arena(TensorArena.Lifetime.MODEL);
    gpuStep = gpu.arena(TensorArena.Lifetime.STEP);
    cpuStep = cpu.arena(TensorArena.Lifetime.STEP);
    ConfigReader json =
        new ConfigReader(
            new JsonMapper()
                .readTree(
                    """
                    {"model_type": "qwen3", "hidden_act": "silu", "rms_norm_eps": 1e-6,
                     "rope_theta": 10000.0, "hidden_size": 48, "num_hidden_layers": 3, "head_dim": 16,
                     "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 80,
                     "vocab_size": 97, "max_position_embeddings": 128, "tie_word_embeddings": false}
                    """),
            "test");
    Architecture architecture = Architecture.of(json);
    Random random = new Random(3);
    Weights weights =
        architecture.weights(
            architecture.config(json),
            json,
            (name, dims) -> {
              Tensor exact = host.floats(name, dims);
              float[] values = new float[(int) exact.size()];
              for (int i = 0; i < values.length; i++) {
                values[i] =
                    dims.length == 1
                        ? 1 + 0.1f * (float) random.nextGaussian()
                        : (float) (random.nextGaussian() / Math.sqrt(dims[1]));
              }
              Tensor rounded = host.allocate(name, DType.BF16, dims);
              cpu.cast(rounded, exact.copyFrom(values));
              return rounded;
            });
    onGpu = new Transformer(architecture.config(json), weights, new Ops(gpu));
    onCpu = new Transformer(architecture.config(json), weights, new Ops(cpu));
  }

  @AfterEach
  void close() {
    gpuStep.close();
    cpuStep.close();
    onGpu.close();
    onCpu.close();
    host.close();
    gpu.close();
    cpu.close();
  }

  private HeadMask masked() {
    return onCpu
        .noMask()
        .withGate(List.of(new HeadId(0, 1), new HeadId(1, 4), new HeadId(2, 0)), 0);
  }

  private static Activations forward(Transformer model, HeadMask mask, TensorArena step) {
    return model.forward(
        Batch.of(Batch.Row.whole(IDS, mask)),
        null,
        Activations.Keep.RESULT,
        ReadoutRequest.of(IntStream.range(0, IDS.length).toArray()),
        step,
        Observer.NONE);
  }

  private static float[] logits(Transformer model, HeadMask mask, TensorArena step) {
    Activations a = forward(model, mask, step);
    return model.logits(a, step, IntStream.range(0, IDS.length).toArray()).toFloats();
  }

  private static double relativeError(float[] got, float[] wanted) {
    assertThat(got).hasSameSizeAs(wanted);
    double error = 0;
    double norm = 0;
    for (int i = 0; i < got.length; i++) {
      error += ((double) got[i] - wanted[i]) * ((double) got[i] - wanted[i]);
      norm += (double) wanted[i] * wanted[i];
    }
    return Math.sqrt(error / norm);
  }

  private static void assertClose(float[] got, float[] wanted, double most, String what) {
    double error = relativeError(got, wanted);
    assertThat(error <= most)
        .as("%s: relative error %s, want at most %s", what, error, most)
        .isTrue();
  }

  @Test
  void activationsFollowTheWeights() {
    assertThat(onGpu.activations()).isEqualTo(DType.BF16);
    assertThat(onCpu.activations()).isEqualTo(DType.F32);
    assertThat(forward(onGpu, masked(), gpuStep).hidden().dtype()).isEqualTo(DType.BF16);
  }

  @Test
  void logitsAreThoseOfTheReferenceUnderMasksToo() {
    for (HeadMask mask : List.of(onCpu.noMask(), masked())) {
      float[] got = logits(onGpu, mask, gpuStep);
      assertClose(got, logits(onCpu, mask, cpuStep), 0.02, "logits under " + mask);
      assertThat(logits(onGpu, mask, gpuStep)).as("the same bits again").isEqualTo(got);
    }
    assertThat(
            relativeError(logits(onGpu, masked(), gpuStep), logits(onGpu, onCpu.noMask(), gpuStep)))
        .isGreaterThan(0.05); // the mask does something
  }

  @Test
  void attentionIsReadWhereTheReferenceReadsIt() {
    Activations got = forward(onGpu, onCpu.noMask(), gpuStep);
    Activations want = forward(onCpu, onCpu.noMask(), cpuStep);
    int same = 0;
    int all = 0;
    for (int l = 0; l < 3; l++) {
      int[] positions = got.readouts().get(l).topPosition().toInts();
      int[] wanted = want.readouts().get(l).topPosition().toInts();
      for (int i = 0; i < wanted.length; i++) {
        same += positions[i] == wanted[i] ? 1 : 0;
        all++;
      }
      assertClose(
          got.readouts().get(l).logSumExp().toFloats(),
          want.readouts().get(l).logSumExp().toFloats(),
          0.02,
          "log-sum-exp of layer " + l);
    }
    assertThat(same).isGreaterThan(all * 9 / 10); // near ties may go either way
  }

  @Test
  void decodingThroughTheCacheIsTheFullPass() {
    float[] full = logits(onGpu, masked(), gpuStep);
    int prompt = 20;
    List<Float> got = new ArrayList<>();
    try (KvCache cache = new KvCache(onGpu, 1, IDS.length)) {
      for (int from = 0; from < IDS.length; ) {
        int to = from == 0 ? prompt : from + 1;
        gpuStep.reset();
        Activations a =
            onGpu.forward(
                Batch.of(
                    new Batch.Row(
                        0, Arrays.copyOfRange(IDS, from, to), masked(), Batch.Phase.PREFILL)),
                cache,
                Activations.Keep.RESULT,
                ReadoutRequest.NONE,
                gpuStep,
                Observer.NONE);
        for (float x :
            onGpu.logits(a, gpuStep, IntStream.range(0, to - from).toArray()).toFloats()) {
          got.add(x);
        }
        from = to;
      }
    }
    float[] values = new float[got.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = got.get(i);
    }
    assertClose(values, full, 0.02, "decoding");
  }

  @Test
  void gradientsAreThoseOfTheReference() {
    for (GradientCheckpointing checkpointing : GradientCheckpointing.values()) {
      List<float[]> got = gradients(onGpu, gpu, gpuStep, checkpointing);
      List<float[]> want = gradients(onCpu, cpu, cpuStep, checkpointing);
      for (int i = 0; i < want.size(); i++) {
        assertClose(got.get(i), want.get(i), 0.05, "gradient " + i);
      }
    }
  }

  @Test
  void weightsInF32GiveTheBitsOfThoseThatAreStoredRounded() {
    Random random = new Random(8);
    Weights exact =
        onCpu
            .weights()
            .map(
                t -> {
                  float[] values = t.toFloats();
                  for (int i = 0; t.shape().rank() > 1 && i < values.length; i++) {
                    values[i] *= 1 + 0.01f * random.nextFloat();
                  }
                  return host.floats(t.name(), t.shape().dims()).copyFrom(values);
                });
    Weights rounded =
        exact.map(
            t -> {
              if (t.shape().rank() == 1) {
                return t;
              }
              Tensor halves = host.allocate(t.name(), DType.BF16, t.shape().dims());
              cpu.cast(halves, t);
              return halves;
            });
    Ops ops = new Ops(gpu);
    try (Transformer got = new Transformer(onGpu.config(), exact, ops, DType.BF16);
        Transformer want = new Transformer(onGpu.config(), rounded, ops)) {
      assertThat(got.activations()).isEqualTo(want.activations());
      assertThat(logits(got, masked(), gpuStep)).isEqualTo(logits(want, masked(), gpuStep));
      List<float[]> gradients = gradients(got, gpu, gpuStep, GradientCheckpointing.ON);
      List<float[]> wanted = gradients(want, gpu, gpuStep, GradientCheckpointing.ON);
      for (int i = 0; i < wanted.size(); i++) {
        assertThat(gradients.get(i)).as("gradient %d", i).isEqualTo(wanted.get(i));
      }
    }
  }

  private List<float[]> gradients(
      Transformer model, Kernels kernels, TensorArena step, GradientCheckpointing checkpointing) {
    Ops ops = new Ops(kernels);
    List<float[]> all = new ArrayList<>();
    try (TensorArena memory = kernels.arena(TensorArena.Lifetime.MODEL)) {
      AdamW optimizer = new AdamW(model.weights(), AdamW.Options.RETMASK, ops, memory);
      LabelledBatch batch = LabelledBatch.of(List.of(Example.of(IDS)), masked());
      CrossEntropyLoss loss = CrossEntropyLoss.over(batch);
      Loss.Part part =
          LogProbs.gradients(
              optimizer.gradients(), null, model, batch, loss, loss.units(), checkpointing, step);
      assertThat(part.loss()).isBetween(0.0, 20.0);
      for (Tensor gradient : optimizer.gradients().tensors()) {
        all.add(gradient.toFloats());
      }
    }
    return all;
  }
}
