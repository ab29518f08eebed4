package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.MemoryPlan;
import io.github.retmask.generate.Sampling;
import io.github.retmask.gguf.GgufFixtures;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.IfPresent;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.ModelFiles;
import io.github.retmask.io.Quantization;
import io.github.retmask.io.QuantizedFiles;
import io.github.retmask.io.RoundingError;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// A model that is rounded on opening is the model that holds the rounded values in F32: logits,
/// masks, read-outs and generated tokens, to the bit.
public abstract class QuantizedModelContract {
  private static final int[] IDS = {7, 3, 200, 41, 41, 5, 99, 0, 150, 12, 7};

  @TempDir Path temp;
  private Kernels kernels;
  private Ops ops;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void start() {
    kernels = open(2);
    ops = new Ops(kernels);
  }

  @AfterEach
  void stop() {
    kernels.close();
  }

  private Path golden(String family) throws IOException {
    return GoldenFolder.copy(family, Files.createTempDirectory(temp, family));
  }

  private PretrainedModel quantized(Path model, Quantization to) throws IOException {
    return PretrainedModel.openQuantized(model, ops, to, QuantizedFiles.Progress.NONE);
  }

  private static QuantizedFiles files(PretrainedModel model) {
    return (QuantizedFiles) model.files();
  }

  /// A copy of a folder whose tensors are F32 and hold what the rounded model holds.
  private Path decoded(PretrainedModel rounded) throws IOException {
    Path folder = temp.resolve("decoded");
    try (HostArena arena = new HostArena();
        Checkpoint source = Checkpoint.open(rounded.folder())) {
      Map<String, Tensor> replaced = new HashMap<>();
      for (QuantizedFiles.Matrix matrix : files(rounded).matrices()) {
        Tensor used = matrix.used();
        replaced.put(
            used.name(), arena.floats(used.name(), used.shape().dims()).copyFrom(used.toFloats()));
      }
      source.save(folder, replaced, IfPresent.REFUSE);
    }
    return folder;
  }

  /// Everything that a model computes, without a mask and with some heads off or scaled.
  private List<float[]> results(Transformer model) {
    HeadMask none = model.noMask();
    HeadMask masked =
        none.withGate(List.of(new HeadId(0, 1), new HeadId(1, 2)), 0)
            .withGate(List.of(new HeadId(2, 0)), 0.3f);
    List<float[]> results = new ArrayList<>();
    for (HeadMask mask : List.of(none, masked)) {
      try (KvCache cache = new KvCache(model, 1, IDS.length + 1);
          TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        int[] all = IntStream.range(0, IDS.length).toArray();
        results.addAll(
            pass(model, new Batch.Row(0, IDS, mask, Batch.Phase.PREFILL), all, cache, step));
        results.addAll(
            pass(
                model,
                new Batch.Row(0, new int[] {9}, mask, Batch.Phase.DECODE),
                new int[] {0},
                cache,
                step));
      }
    }
    try (Generator generator = new Generator(model, Generator.Options.defaults())) {
      GenerationRequest greedy = GenerationRequest.greedy(IDS, masked, 12);
      for (Completion completion :
          generator.generate(
              List.of(greedy, greedy.withMask(none).withSampling(Sampling.of(0.8, 5), 3)))) {
        float[] ids = new float[completion.ids().length];
        for (int i = 0; i < ids.length; i++) {
          ids[i] = completion.ids()[i];
        }
        results.add(ids);
      }
    }
    return results;
  }

  private static List<float[]> pass(
      Transformer model, Batch.Row row, int[] tokens, KvCache cache, TensorArena step) {
    Activations a =
        model.forward(
            Batch.of(row),
            cache,
            Activations.Keep.RESULT,
            ReadoutRequest.of(tokens),
            step,
            Observer.NONE);
    List<float[]> results = new ArrayList<>();
    results.add(model.logits(a, step, tokens).toFloats());
    for (AttentionReadout seen : a.readouts()) {
      results.add(seen.topPosition().toFloats());
      results.add(seen.topWeight().toFloats());
    }
    return results;
  }

  @ParameterizedTest
  @CsvSource({"mistral, Q8_0", "mistral, Q4_0", "qwen2, Q4_0", "olmo2, Q8_0", "phi3, Q4_0"})
  void resultsAreThoseOfTheDecodedWeightsToTheBit(String family, Quantization to)
      throws IOException {
    Path folder = golden(family);
    try (PretrainedModel rounded = quantized(folder, to);
        PretrainedModel decoded = PretrainedModel.open(decoded(rounded), ops);
        PretrainedModel stored = PretrainedModel.open(folder, ops)) {
      assertThat(files(rounded).matrices()).allMatch(QuantizedFiles.Matrix::isRounded);
      List<float[]> got = results(rounded.transformer());
      assertThat(got.toArray(float[][]::new))
          .isDeepEqualTo(results(decoded.transformer()).toArray(float[][]::new));
      assertThat(got.getFirst()).isNotEqualTo(results(stored.transformer()).getFirst());
    }
  }

  /// A copy of a folder with random matrices wide enough for eight chains.
  private Path widened(Path folder) throws IOException {
    Map<Long, Long> wider = Map.of(16L, 256L, 32L, 512L, 64L, 576L);
    Path wide = temp.resolve("wide");
    Files.createDirectories(wide);
    SafeTensorsWriter writer = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
    Random random = new Random(3);
    try (HostArena arena = new HostArena();
        Checkpoint source = Checkpoint.open(folder)) {
      for (ModelFiles.Stored stored : source.stored()) {
        long[] dims =
            Arrays.stream(stored.shape().dims()).map(d -> wider.getOrDefault(d, d)).toArray();
        Tensor tensor = arena.floats(stored.name(), dims);
        for (long i = 0; i < tensor.size(); i++) {
          tensor.set(i, dims.length == 1 ? 1 : 0.06f * (float) random.nextGaussian());
        }
        writer.add(tensor);
      }
      writer.writeTo(wide.resolve("model.safetensors"));
    }
    ObjectNode json = (ObjectNode) JsonFiles.read(folder.resolve("config.json"));
    json.put("hidden_size", 512).put("intermediate_size", 576);
    Files.writeString(wide.resolve("config.json"), json.toString());
    for (String name : List.of("tokenizer.json", "tokenizer_config.json")) {
      Files.copy(folder.resolve(name), wide.resolve(name));
    }
    return wide;
  }

  @ParameterizedTest
  @EnumSource
  void wideMatricesThatABackendPlacesChangeNoBit(Quantization to) throws IOException {
    Path folder = widened(golden("mistral"));
    try (PretrainedModel rounded = quantized(folder, to);
        PretrainedModel decoded = PretrainedModel.open(decoded(rounded), ops)) {
      assertThat(results(rounded.transformer()).toArray(float[][]::new))
          .isDeepEqualTo(results(decoded.transformer()).toArray(float[][]::new));
      for (QuantizedFiles.Matrix matrix : files(rounded).matrices()) {
        float[] was = matrix.stored().toFloats();
        float[] is = matrix.used().toFloats();
        double largest = 0;
        for (int i = 0; i < was.length; i++) {
          largest = Math.max(largest, Math.abs((double) is[i] - was[i]));
        }
        assertThat(files(rounded).error(matrix).largest()).isEqualTo(largest).isPositive();
      }
    }
  }

  @Test
  void aFileOfBlocksGivesTheBitsOfAModelThatIsRoundedOnOpening() throws IOException {
    Path folder = widened(golden("mistral"));
    Path gguf = temp.resolve("m.gguf");
    GgufFixtures.export(folder, gguf, DType.Q8_0, ops);
    try (PretrainedModel rounded = quantized(folder, Quantization.Q8_0);
        PretrainedModel file = PretrainedModel.open(gguf, ops)) {
      assertThat(file.weights().lmHead().dtype()).isEqualTo(DType.Q8_0);
      assertThat(results(file.transformer()).toArray(float[][]::new))
          .isDeepEqualTo(results(rounded.transformer()).toArray(float[][]::new));
    }
  }

  @Test
  void matricesOfWholeBlocksAreRoundedAndTheRestStays() throws IOException {
    // hidden size 56, 4 heads of 24 elements, feed-forward 32: only o_proj and down_proj fit
    Path folder = golden("planted");
    try (PretrainedModel rounded = quantized(folder, Quantization.Q4_0);
        PretrainedModel stored = PretrainedModel.open(folder, ops)) {
      List<Tensor> before = stored.weights().tensors();
      List<Tensor> after = rounded.weights().tensors();
      Set<String> kinds = new TreeSet<>();
      for (int i = 0; i < before.size(); i++) {
        boolean rounds = before.get(i).name().matches(".*(o_proj|down_proj)\\.weight");
        assertThat(after.get(i).dtype())
            .as(before.get(i).name())
            .isEqualTo(rounds ? DType.Q4_0 : before.get(i).dtype());
        if (after.get(i).dtype() == before.get(i).dtype()) {
          assertThat(after.get(i).segment().mismatch(before.get(i).segment())).isEqualTo(-1);
        } else {
          kinds.add(before.get(i).name().split("\\.")[4]);
        }
      }
      assertThat(kinds).containsExactly("down_proj", "o_proj");
    }
  }

  @Test
  void theMatrixThatGivesTheLogitsStaysFiner() throws IOException {
    Path folder = golden("mistral");
    try (PretrainedModel separate = quantized(folder, Quantization.Q4_0)) {
      assertThat(separate.weights().lmHead().dtype()).isEqualTo(DType.Q8_0);
      assertThat(separate.weights().embedTokens().dtype()).isEqualTo(DType.Q4_0);
    }
    Path config = folder.resolve("config.json");
    ObjectNode json = (ObjectNode) JsonFiles.read(config);
    Files.writeString(config, json.put("tie_word_embeddings", true).toString());
    try (PretrainedModel tied = quantized(folder, Quantization.Q4_0)) {
      assertThat(tied.weights().isTied()).isTrue();
      assertThat(tied.weights().embedTokens().dtype()).isEqualTo(DType.Q8_0);
    }
  }

  @ParameterizedTest
  @EnumSource
  void threadsAndTheFormOfTheFileChangeNoBit(Quantization to) throws IOException {
    Path folder = golden("mistral");
    Path gguf = temp.resolve("m.gguf"); // rows of q and k lie there in another order
    GgufFixtures.export(folder, gguf, null, ops);
    try (Kernels alone = open(1);
        PretrainedModel many = quantized(folder, to);
        PretrainedModel one =
            PretrainedModel.openQuantized(
                folder, new Ops(alone), to, QuantizedFiles.Progress.NONE);
        PretrainedModel file = quantized(gguf, to)) {
      List<Tensor> wanted = many.weights().tensors();
      for (PretrainedModel other : List.of(one, file)) {
        List<Tensor> got = other.weights().tensors();
        for (int i = 0; i < wanted.size(); i++) {
          assertThat(got.get(i).dtype()).isEqualTo(wanted.get(i).dtype());
          assertThat(got.get(i).toHost().segment().mismatch(wanted.get(i).toHost().segment()))
              .as(wanted.get(i).name())
              .isEqualTo(-1);
        }
      }
    }
  }

  @Test
  void blocksOfAFileStayAsTheyAre() throws IOException {
    Path file = temp.resolve("m.gguf");
    GgufFixtures.blockModel(file, temp.resolve("folder"), DType.Q4_K, 5);
    try (PretrainedModel model = quantized(file, Quantization.Q8_0)) {
      assertThat(files(model).matrices()).isNotEmpty().noneMatch(QuantizedFiles.Matrix::isRounded);
      assertThat(model.weights().lmHead().dtype()).isEqualTo(DType.Q4_K);
    }
  }

  @Test
  void theFingerprintTellsRoundedModelsApart() throws IOException {
    Path folder = golden("mistral");
    try (PretrainedModel stored = PretrainedModel.open(folder, ops);
        PretrainedModel q8 = quantized(folder, Quantization.Q8_0);
        PretrainedModel q4 = quantized(folder, Quantization.Q4_0);
        PretrainedModel again = quantized(folder, Quantization.Q4_0)) {
      for (CheckpointFingerprint.Coverage coverage : CheckpointFingerprint.Coverage.values()) {
        CheckpointFingerprint of4 = CheckpointFingerprint.of(q4.files(), coverage);
        assertThat(of4.matches(again.files())).isTrue();
        assertThat(of4.matches(q8.files())).isFalse();
        assertThat(of4.matches(stored.files())).isFalse();
      }
    }
  }

  @Test
  void whatCannotBeRoundedChangesNoFingerprint() throws IOException {
    Path folder = golden("llama"); // rows of 48 and 80
    try (PretrainedModel stored = PretrainedModel.open(folder, ops);
        PretrainedModel rounded = quantized(folder, Quantization.Q8_0)) {
      assertThat(files(rounded).matrices()).noneMatch(QuantizedFiles.Matrix::isRounded);
      assertThat(
              CheckpointFingerprint.of(stored.files(), CheckpointFingerprint.Coverage.ALL)
                  .matches(rounded.files()))
          .isTrue();
    }
  }

  @Test
  void theErrorIsThatOfTheFormula() throws IOException {
    try (PretrainedModel rounded = quantized(golden("mistral"), Quantization.Q4_0)) {
      RoundingError both = RoundingError.NONE;
      double squaredError = 0;
      double squaredNorm = 0;
      double largest = 0;
      for (QuantizedFiles.Matrix matrix : files(rounded).matrices().subList(0, 2)) {
        both = both.and(files(rounded).error(matrix));
        float[] was = matrix.stored().toFloats();
        float[] is = matrix.used().toFloats();
        for (int i = 0; i < was.length; i++) {
          double off = Math.abs((double) was[i] - is[i]);
          squaredError += off * off;
          squaredNorm += (double) was[i] * was[i];
          largest = Math.max(largest, off);
        }
      }
      assertThat(both.largest()).isEqualTo(largest).isPositive();
      double wanted = Math.sqrt(squaredError / squaredNorm);
      double off = Math.abs(both.relative() - wanted); // sums in another order
      assertThat(!(off <= 1e-12 * wanted)).as("%s, want %s", both.relative(), wanted).isFalse();
      assertThat(RoundingError.NONE.relative()).isZero();
    }
  }

  @Test
  void roundedWeightsAreInMemoryAndInNoPlan() throws IOException {
    try (PretrainedModel rounded = quantized(golden("mistral"), Quantization.Q8_0)) {
      long blocks = 0;
      long vectors = 0;
      for (Tensor tensor : rounded.weights().tensors()) {
        if (tensor.dtype().isBlock()) {
          blocks += tensor.storage().bytes();
        } else {
          vectors += tensor.storage().bytes();
        }
      }
      assertThat(blocks).isPositive();
      boolean onHost = rounded.transformer().weights().norm().isOnHost(); // else all are copied
      assertThat(MemoryPlan.heldWeights(rounded.transformer()))
          .isEqualTo(onHost ? blocks : blocks + vectors);
      assertThat(MemoryPlan.of(rounded.transformer(), 1, 10, 4).weights())
          .isEqualTo(onHost ? vectors : 0);
    }
  }

  @Test
  void changedCopiesOfRoundedWeightsAreRefused() throws IOException {
    Path folder = golden("mistral");
    try (PretrainedModel rounded = quantized(folder, Quantization.Q4_0)) {
      assertThatThrownBy(rounded::checkpoint)
          .isInstanceOf(FormatException.class)
          .hasMessage(
              folder
                  + ": opened as q4_0; changed copies are written of the weights as they are stored");
    }
  }

  @Test
  void aMatrixThatHoldsNoNumberIsRefusedByName() throws IOException {
    Path broken = temp.resolve("broken");
    String name = "model.layers.1.mlp.up_proj.weight";
    try (HostArena arena = new HostArena();
        Checkpoint source = Checkpoint.open(golden("mistral"))) {
      float[] values = source.tensor(name).toFloats();
      values[77] = Float.NaN;
      Tensor changed = arena.floats(name, source.tensor(name).shape().dims()).copyFrom(values);
      source.save(broken, Map.of(name, changed), IfPresent.REFUSE);
    }
    assertThatThrownBy(() -> quantized(broken, Quantization.Q8_0).close())
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("tensor \"%s\" holds NaN, which Q8_0 is not made for", name);
  }

  @Test
  void progressEndsWithAllMatrices() throws IOException {
    List<Long> heard = new ArrayList<>();
    try (PretrainedModel rounded =
        PretrainedModel.openQuantized(
            golden("phi3"),
            ops,
            Quantization.Q8_0,
            (done, all) -> {
              heard.add(done);
              assertThat(done).isLessThanOrEqualTo(all);
            })) {
      long matrices =
          files(rounded).matrices().stream().mapToLong(matrix -> matrix.used().size()).sum();
      assertThat(heard).isSorted().hasSize(files(rounded).matrices().size());
      assertThat(heard.getLast()).isEqualTo(matrices);
    }
  }
}
