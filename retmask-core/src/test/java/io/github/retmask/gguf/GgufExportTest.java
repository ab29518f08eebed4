package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.RowEncoder;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GgufExportTest {
  @TempDir private Path dir;
  private final Kernels kernels = new ReferenceBackend().open(1);
  private final Ops ops = new Ops(kernels);

  @AfterEach
  void close() {
    kernels.close();
  }

  @Test
  void metadataAreThoseThatLlamaCppReads() throws IOException {
    Path path = dir.resolve("m.gguf");
    GgufFixtures.export(GgufModelTest.golden("llama"), path, null, ops);
    try (GgufFile file = GgufFile.open(path)) {
      GgufMetadata m = file.metadata();
      assertThat(m.text("general.architecture")).isEqualTo("llama");
      assertThat(m.text("general.name")).isEqualTo("llama");
      assertThat(m.integer("general.file_type", 0)).as("mostly BF16").isEqualTo(32);
      assertThat(m.integer("llama.vocab_size", 0)).isEqualTo(320);
      assertThat(m.integer("llama.rope.dimension_count", 0)).isEqualTo(8);
      assertThat(m.text("tokenizer.ggml.model")).isEqualTo("gpt2");
      assertThat(m.text("tokenizer.ggml.pre")).isEqualTo("llama-bpe");
      assertThat(m.flagOr("tokenizer.ggml.add_bos_token", false)).isTrue();
      assertThat(m.integer("tokenizer.ggml.eos_token_id", 0)).isEqualTo(317);
      assertThat(m.integer("tokenizer.ggml.eot_token_id", 0)).isEqualTo(313);
      assertThat(m.integer("tokenizer.ggml.eom_token_id", 0)).isEqualTo(316);
      assertThat(m.texts("tokenizer.ggml.tokens")).hasSize(320).contains("<|eot_id|>");
      assertThat(file.tensors().keySet())
          .startsWith("rope_freqs.weight", "token_embd.weight", "blk.0.attn_norm.weight")
          .contains("blk.2.ffn_down.weight", "output.weight");
      assertThat(file.tensors().get("output_norm.weight").type().name()).isEqualTo("F32");
      assertThat(file.tensors().get("output.weight").type().name()).isEqualTo("BF16");
    }
  }

  @Test
  void aFileExportedAgainHasTheSameTensors() throws IOException {
    for (DType dtype : new DType[] {DType.Q8_0, DType.Q4_K}) {
      Path first = dir.resolve(dtype + "-1.gguf");
      Path second = dir.resolve(dtype + "-2.gguf");
      GgufFixtures.blockModel(first, dir.resolve(dtype + "folder"), dtype, 9);
      GgufFixtures.export(first, second, null, ops);
      try (GgufFile a = GgufFile.open(first);
          GgufFile b = GgufFile.open(second)) {
        assertThat(b.tensors().keySet()).containsExactlyInAnyOrderElementsOf(a.tensors().keySet());
        for (GgufFile.Entry entry : a.tensors().values()) {
          GgufFile.Entry other = b.tensors().get(entry.name());
          assertThat(other.type()).isEqualTo(entry.type());
          assertThat(a.bytes(entry).mismatch(b.bytes(other))).as("%s", entry).isEqualTo(-1);
        }
      }
    }
  }

  /// Half a step; and since the step is rounded to F16 after the division, up to 127 times its error.
  @Test
  void q8WeightsAreWithinHalfAStep() throws IOException {
    Path file = dir.resolve("planted.gguf");
    GgufFixtures.export(GgufModelTest.golden("planted"), file, DType.Q8_0, ops);
    int compared = 0;
    try (Checkpoint source = Checkpoint.open(GgufModelTest.golden("planted"));
        PretrainedModel model = PretrainedModel.open(file, ops)) {
      for (Tensor stored : model.weights().tensors()) {
        float[] wanted = source.tensor(stored.name()).toFloats();
        float[] got = stored.toFloats();
        for (int i = 0; i < wanted.length; i++) {
          double bound = 0;
          if (stored.dtype() == DType.Q8_0) {
            compared++;
            float largest = 0;
            for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
              largest = Math.max(largest, Math.abs(wanted[j]));
            }
            bound = largest / 127 / 2 * (1 + 0x1p-20) + largest * 0x1p-11;
          }
          double off = Math.abs(got[i] - wanted[i]);
          assertThat(!(off <= bound)).as("%s[%d] off by %s", stored, i, off).isFalse();
        }
      }
    }
    assertThat(compared).isGreaterThan(1000);
  }

  @Test
  void q8BlocksAreThoseOfTheFormulaRow() {
    Random random = new Random(1);
    float[] row = new float[96];
    for (int i = 0; i < 32; i++) {
      row[i] = (float) random.nextGaussian();
    }
    row[40] = -127;
    row[41] = 0.5f; // half a step goes away from zero
    row[42] = -2.5f;
    ByteBuffer to = ByteBuffer.allocate(3 * 34).order(ByteOrder.LITTLE_ENDIAN);
    RowEncoder.encode(to, row, DType.Q8_0, "t");
    assertThat(Float.float16ToFloat(to.getShort(34))).isEqualTo(1);
    assertThat(to.get(34 + 2 + 8)).isEqualTo((byte) -127);
    assertThat(to.get(34 + 2 + 9)).isEqualTo((byte) 1);
    assertThat(to.get(34 + 2 + 10)).isEqualTo((byte) -3);
    for (int i = 68; i < 102; i++) {
      assertThat(to.get(i)).as("a block of zeros").isZero();
    }
    float largest = 0;
    for (int i = 0; i < 32; i++) {
      largest = Math.max(largest, Math.abs(row[i]));
    }
    for (int i = 0; i < 32; i++) {
      double steps = row[i] / (largest / 127.0);
      assertThat(Math.abs(to.get(2 + i) - steps)).isLessThanOrEqualTo(0.5 + 1e-5);
    }
  }

  @Test
  void ropesThatAFileCannotSayAreRefused() throws IOException {
    Path folder = Files.createDirectory(dir.resolve("olmo3"));
    for (String name : List.of("config.json", "model.safetensors", "tokenizer.json")) {
      Files.copy(GgufModelTest.golden("olmo3").resolve(name), folder.resolve(name));
    }
    Path config = folder.resolve("config.json");
    ObjectNode json = (ObjectNode) new ObjectMapper().readTree(config.toFile());
    json.remove("rope_scaling");
    json.remove("rope_theta");
    ObjectNode ropes = json.putObject("rope_parameters");
    ropes.putObject("full_attention").put("rope_type", "default").put("rope_theta", 10000);
    ropes.putObject("sliding_attention").put("rope_type", "default").put("rope_theta", 500);
    Files.writeString(config, json.toString());
    Path out = dir.resolve("olmo3.gguf");
    assertThatThrownBy(() -> GgufFixtures.export(folder, out, null, ops))
        .isInstanceOf(FormatException.class)
        .hasMessage(folder + ": a rope of their own in some layers has no place in GGUF");
    assertThat(out).doesNotExist();
    ropes.withObject("sliding_attention").put("rope_theta", 10000);
    Files.writeString(config, json.toString());
    GgufFixtures.export(folder, out, null, ops);
    assertThat(out).exists();
  }

  @Test
  void valuesBeyondTheTypeAreRefusedByTensor() {
    ByteBuffer to = ByteBuffer.allocate(256).order(ByteOrder.LITTLE_ENDIAN);
    assertThatThrownBy(() -> RowEncoder.encode(to, new float[] {1e6f}, DType.F16, "tensor \"w\""))
        .isInstanceOf(FormatException.class)
        .hasMessage("tensor \"w\" holds 1000000.0, beyond what F16 holds (65504)");
    assertThatThrownBy(
            () -> RowEncoder.encode(to, new float[] {Float.MAX_VALUE}, DType.BF16, "tensor \"w\""))
        .hasMessage("tensor \"w\" holds 3.4028235E38, beyond what BF16 holds");
    assertThatThrownBy(
            () -> RowEncoder.encode(to, new float[] {Float.NaN}, DType.F32, "tensor \"w\""))
        .hasMessage("tensor \"w\" holds NaN, which F32 is not made for");
  }

  @Test
  void progressEndsAtTheWholeModelAndNothingIsLeftBehind() throws IOException {
    Path file = dir.resolve("m.gguf");
    List<Long> heard = new ArrayList<>();
    try (PretrainedModel model = PretrainedModel.open(GgufModelTest.golden("llama"), ops)) {
      new GgufExport(model.files(), model.tokenizer(), model.eosIds())
          .writeTo(
              file,
              DType.F16,
              (done, all) -> {
                heard.add(done);
                assertThat(done).isLessThanOrEqualTo(all);
              });
      assertThat(heard.getLast())
          .isEqualTo(model.weights().tensors().stream().mapToLong(Tensor::size).sum());
    }
    try (var files = Files.list(dir)) {
      assertThat(files).containsExactly(file);
    }
  }
}
