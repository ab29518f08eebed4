package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.ModelFiles;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.BlockQuantizer;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class GgufModelTest {
  private static final int[] IDS = {7, 3, 200, 41, 41, 5, 99, 0, 150, 12, 7};

  @TempDir private Path dir;
  private final Kernels kernels = new ReferenceBackend().open(1);
  private final Ops ops = new Ops(kernels);

  @AfterEach
  void close() {
    kernels.close();
  }

  static Path golden(String family) {
    return Path.of(
        URI.create(
            Objects.requireNonNull(GgufModelTest.class.getResource("/goldens/" + family))
                .toString()));
  }

  private Path exported(String family, DType dtype) throws IOException {
    Path file = dir.resolve(family + dtype + ".gguf");
    GgufFixtures.export(golden(family), file, dtype, ops);
    return file;
  }

  /// Logits after every token, without a mask and with two heads off.
  private float[][] logits(Path model) throws IOException {
    try (PretrainedModel opened = PretrainedModel.open(model, ops);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      HeadMask none = opened.transformer().noMask();
      HeadMask masked = none.withGate(List.of(new HeadId(0, 1), new HeadId(1, 2)), 0);
      float[][] logits = new float[2][];
      for (int i = 0; i < 2; i++) {
        Batch batch = Batch.of(Batch.Row.whole(IDS, i == 0 ? none : masked));
        Activations a = opened.transformer().forward(batch, step);
        logits[i] =
            opened
                .transformer()
                .logits(a, step, IntStream.range(0, IDS.length).toArray())
                .toFloats();
        step.reset();
      }
      return logits;
    }
  }

  @ParameterizedTest
  @CsvSource({
    "llama, F32",
    "llama, BF16",
    "planted, F32",
    "mistral, F32",
    "mistral, BF16",
    "qwen2, F32",
    "qwen3, F32",
    "qwen3, F16",
    "olmo2, F32",
    "olmo3, F32",
    "olmo3, BF16",
    "phi3, F32"
  })
  void logitsAreThoseOfTheSafetensorsToTheBit(String family, DType dtype) throws IOException {
    float[][] wanted = logits(golden(family));
    assertThat(logits(exported(family, dtype))).isDeepEqualTo(wanted);
    assertThat(wanted[0]).isNotEqualTo(wanted[1]);
  }

  /// Scalings that no golden has, in a copy whose config.json asks for them.
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "qwen2 | {'rope_type': 'linear', 'factor': 4.0}",
        "qwen2 | {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 256}",
        "phi3  | {'rope_type': 'longrope', 'short_factor': [1.0, 1.25, 1.5, 2.0], 'long_factor': [1.0, 2.0, 3.0, 7.5], 'factor': 4.0, 'original_max_position_embeddings': 256, 'attention_factor': 1.125}"
      })
  void scaledRopeGoesAlong(String family, String scaling) throws IOException {
    Path folder = dir.resolve("scaled");
    try (Stream<Path> files = Files.list(golden(family))) {
      Files.createDirectory(folder);
      for (Path file : files.toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
    ObjectNode config = (ObjectNode) JsonFiles.read(folder.resolve("config.json"));
    config.remove("original_max_position_embeddings");
    config.set("rope_scaling", JsonMapper.builder().build().readTree(scaling.replace('\'', '"')));
    Files.writeString(folder.resolve("config.json"), config.toString());
    Path file = dir.resolve("scaled.gguf");
    GgufFixtures.export(folder, file, DType.F32, ops);
    float[][] wanted = logits(folder);
    assertThat(logits(file)).isDeepEqualTo(wanted);
    assertThat(wanted[0]).isNotEqualTo(logits(golden(family))[0]);
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void logitsOfBlocksAreThoseOfTheirDecodedValuesToTheBit(DType dtype) throws IOException {
    Path file = dir.resolve("m.gguf");
    Path folder = dir.resolve("folder");
    GgufFixtures.blockModel(file, folder, dtype, 5);
    try (PretrainedModel opened = PretrainedModel.open(file, ops)) {
      Tensor q = opened.weights().layers().getFirst().qProj().weight();
      assertThat(q.dtype()).as("stays quantised").isEqualTo(dtype);
    }
    assertThat(logits(file)).isDeepEqualTo(logits(folder));
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void blocksAreWithinHalfAStepOfTheirSource(DType dtype) {
    float[] values = new float[4 * 256];
    Random random = new Random(3);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (random.nextGaussian() * (i < 512 ? 0.05 : 3));
    }
    float[] decoded = BlockQuantizer.quantize(dtype, values).values();
    double[] bounds = BlockQuantizer.bounds(dtype, values);
    for (int i = 0; i < values.length; i++) {
      double off = Math.abs(decoded[i] - values[i]);
      assertThat(!(off <= bounds[i])).as("%d off by %s > %s", i, off, bounds[i]).isFalse();
    }
  }

  @Test
  void theFingerprintTellsWeightsApart() throws IOException {
    try (ModelFiles a = GgufModel.open(exported("llama", DType.F32));
        ModelFiles b = GgufModel.open(exported("llama", DType.BF16))) {
      CheckpointFingerprint one =
          CheckpointFingerprint.of(a, CheckpointFingerprint.Coverage.SAMPLED);
      assertThat(one.matches(a)).isTrue();
      assertThat(one.matches(b)).isFalse();
    }
  }

  @Test
  void changedCopiesAreRefusedAtOnce() throws IOException {
    Path file = exported("llama", DType.F32);
    try (PretrainedModel opened = PretrainedModel.open(file, ops)) {
      assertThatThrownBy(opened::checkpoint)
          .isInstanceOf(FormatException.class)
          .hasMessage(
              file
                  + ": a GGUF file; changed copies are written of checkpoint folders in Hugging Face's layout only");
    }
  }

  /// A model of one layer with 4 heads of 2 elements, vocabulary 6.
  private static GgufBytes small(String architecture) {
    String p = architecture + ".";
    return new GgufBytes()
        .text("general.architecture", architecture)
        .u32(p + "block_count", 1)
        .u32(p + "embedding_length", 8)
        .u32(p + "feed_forward_length", 12)
        .u32(p + "context_length", 64)
        .u32(p + "attention.head_count", 4)
        .u32(p + "attention.head_count_kv", 2)
        .f32(p + "attention.layer_norm_rms_epsilon", 1e-6f)
        .floats("token_embd.weight", 8, 6)
        .floats("output_norm.weight", 8)
        .floats("blk.0.attn_norm.weight", 8)
        .floats("blk.0.attn_q.weight", 8, 8)
        .floats("blk.0.attn_k.weight", 8, 4)
        .floats("blk.0.attn_v.weight", 8, 4)
        .floats("blk.0.attn_output.weight", 8, 8)
        .floats("blk.0.ffn_norm.weight", 8)
        .floats("blk.0.ffn_gate.weight", 8, 12)
        .floats("blk.0.ffn_up.weight", 8, 12);
  }

  private void assertRefused(GgufBytes bytes, String message) throws IOException {
    Path file = Files.write(dir.resolve("bad.gguf"), bytes.bytes());
    assertThatThrownBy(() -> PretrainedModel.open(file, ops).close())
        .isInstanceOf(FormatException.class)
        .hasMessage(file + ": " + message);
  }

  @Test
  void aSmallFileMadeByHandRunsTied() throws IOException {
    Path file =
        Files.write(
            dir.resolve("small.gguf"),
            small("llama").floats("blk.0.ffn_down.weight", 12, 8).bytes());
    try (PretrainedModel opened = PretrainedModel.open(file, ops)) {
      assertThat(opened.config().tiedEmbeddings()).isTrue();
      assertThat(opened.config().normEps()).isEqualTo(1e-6f);
      assertThat(opened.hasTokenizer()).isFalse();
      float[] q = opened.weights().layers().getFirst().qProj().weight().toFloats();
      // One head has two rows: their order as neighbours and as halves is the same.
      assertThat(q[9]).isEqualTo(9 / 8f);
    }
  }

  @Test
  void whatIsMissingWrongOrOutOfPlaceIsRefusedByName() throws IOException {
    assertRefused(
        small("llama"), "no tensor \"blk.0.ffn_down.weight\" in the 10 tensors of this file");
    assertRefused(
        small("llama").floats("blk.0.ffn_down.weight", 8, 12),
        "tensor \"blk.0.ffn_down.weight\" is [12, 8], want [8, 12]");
    assertRefused(
        small("llama").tensor("blk.0.ffn_down.weight", 6, new byte[22 * 8], 32, 8),
        "tensor \"blk.0.ffn_down.weight\" is Q5_0, want F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K");
    assertRefused(
        small("llama").floats("blk.0.ffn_down.weight", 12, 8).floats("blk.0.attn_sinks.weight", 4),
        "tensor \"blk.0.attn_sinks.weight\" has no place in a model of architecture llama");
    assertRefused(
        small("mamba"),
        "general.architecture \"mamba\" is not supported; supported: [llama, qwen2, qwen3, olmo2, phi3]");
    assertRefused(new GgufBytes().u32("split.count", 1), "general.architecture is missing");
    assertRefused(
        small("llama").u32("split.count", 3),
        "split.count is 3; a model in parts is not supported, merge them with llama-gguf-split");
    assertRefused(small("llama").f32("llama.logit_scale", 2), "llama.logit_scale is not supported");
    assertRefused(
        small("llama").u32("llama.expert_count", 8),
        "llama.expert_count is not 0; mixtures of experts are not supported");
    assertRefused(
        small("llama").u32("llama.rope.dimension_count", 4),
        "llama.rope.dimension_count is 4, want at most 2");
    assertRefused(
        small("llama").text("llama.rope.scaling.type", "su"),
        "llama.rope.scaling.type is \"su\", want none, linear or yarn");
    assertRefused(
        small("llama").floats("rope_freqs.weight", 3),
        "tensor \"rope_freqs.weight\" F32[3], want F32[1]");
  }

  @Test
  void sizesThatContradictTheTensorsAreRefused() throws IOException {
    GgufBytes odd = small("llama").floats("blk.0.ffn_down.weight", 12, 8);
    odd.u32("llama.attention.key_length", 3).u32("llama.attention.value_length", 3);
    assertRefused(
        odd,
        "llama.attention.head_count is 4, which gives heads of 3 elements; want an even number");
    GgufBytes uneven = small("llama").u32("llama.attention.value_length", 4);
    assertRefused(
        uneven, "llama.attention.value_length is 4 but keys have 2 elements; want the same");
  }
}
