package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
  private static final String SHARD_1 = "model-00001-of-00002.safetensors";
  private static final String SHARD_2 = "model-00002-of-00002.safetensors";
  private static final String Q_PROJ = "model.layers.1.self_attn.q_proj.weight";

  @TempDir Path dir;

  private final HostArena arena = new HostArena();

  @AfterEach
  void closeArena() {
    arena.close();
  }

  private Path copyOf(String golden) throws IOException {
    Path copy = dir.resolve(golden);
    TestFiles.copyFolder(TestFiles.golden(golden), copy);
    return copy;
  }

  private static void editIndex(Path folder, String tensor, String shard) throws IOException {
    Path file = folder.resolve("model.safetensors.index.json");
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode index = (ObjectNode) mapper.readTree(file.toFile());
    ((ObjectNode) index.get("weight_map")).put(tensor, shard);
    Files.write(file, mapper.writeValueAsBytes(index));
  }

  private static void assertRefused(Path folder, String message) {
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> Checkpoint.open(folder).close())
        .withMessage(message);
  }

  @ParameterizedTest
  @CsvSource({"llama,30,1", "mistral,30,2", "planted,30,1"})
  void goldenCheckpointsOpen(String name, int tensors, int files) throws IOException {
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden(name))) {
      assertThat(checkpoint.entries()).hasSize(tensors);
      assertThat(checkpoint.files()).hasSize(files);
      int hidden = checkpoint.config().integer("hidden_size", 1);
      int vocabulary = checkpoint.config().integer("vocab_size", 1);
      assertThat(checkpoint.tensor("model.embed_tokens.weight", vocabulary, hidden).size())
          .isEqualTo((long) vocabulary * hidden);
      for (SafeTensors.Entry entry : checkpoint.entries()) {
        assertThat(checkpoint.contains(entry.name())).isTrue();
        assertThat(checkpoint.tensor(entry.name()).toFloats())
            .isNotEmpty()
            .doesNotContain(Float.NaN);
      }
    }
  }

  @Test
  void tensorsAreAskedForByNameAndShape() throws IOException {
    Path folder = TestFiles.golden("mistral");
    Checkpoint checkpoint = Checkpoint.open(folder);
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> checkpoint.tensor("model.nrom.weight"))
        .withMessage(
            folder + ": no tensor \"model.nrom.weight\" in the 30 tensors of this checkpoint");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> checkpoint.tensor("model.norm.weight", 2, 16))
        .withMessage(
            folder.resolve(SHARD_2) + ": tensor \"model.norm.weight\" is [32], want [2, 16]");
    Tensor norm = checkpoint.tensor("model.norm.weight", 32);
    assertThat(norm.dtype()).isEqualTo(DType.F32);
    checkpoint.close();
    assertThatIllegalStateException().isThrownBy(() -> norm.get(0));
  }

  @Test
  void whatIsNoCheckpointIsRefusedInOneSentence() throws IOException {
    Path none = dir.resolve("none");
    assertRefused(
        none,
        none + ": no such folder; want a checkpoint folder with config.json and model.safetensors");
    Path file = Files.writeString(dir.resolve("file"), "x");
    assertRefused(
        file,
        file + ": not a folder; want a checkpoint folder with config.json and model.safetensors");
    Path folder = Files.createDirectory(dir.resolve("folder"));
    assertRefused(
        folder, folder + ": no config.json; want a checkpoint folder in Hugging Face's layout");
    Path config = folder.resolve("config.json");
    Files.writeString(config, "[1]");
    assertRefused(folder, config + ": content is [1], want a JSON object");
    Files.writeString(config, "{\"a\":1,\"a\":2}");
    assertRefused(folder, config + ": not JSON: Duplicate field 'a' (line 1, column 11)");
    Files.writeString(config, "");
    assertRefused(folder, config + ": empty, want JSON");
    Files.writeString(config, "{} {}");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> Checkpoint.open(folder).close())
        .withMessageStartingWith(config + ": not JSON: Trailing token");
    Files.writeString(config, "{\"long\": Infinity}");
    assertRefused(
        folder, folder + ": no weights; want model.safetensors or model.safetensors.index.json");
    Files.writeString(folder.resolve("consolidated 100%.safetensors"), "x");
    assertRefused(
        folder,
        folder
            + ": neither model.safetensors nor model.safetensors.index.json, only"
            + " [consolidated 100%.safetensors]");
    Files.writeString(folder.resolve("model.gguf"), "x");
    assertRefused(folder, folder + ": weights are in GGUF: give the .gguf file itself");
    Files.writeString(folder.resolve("pytorch_model-00001-of-00002.bin"), "x");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> Checkpoint.open(folder).close())
        .withMessageContaining("convert them once in Python")
        .withMessageContaining("from_pretrained(\"" + folder + "\")");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "../mistral/model-00001-of-00002.safetensors",
        "/etc/x.safetensors",
        "sub/model.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "..safetensors",
        ".safetensors",
        "model.safetensors.index.json",
        "config.json",
        "",
        "a\0b.safetensors",
      })
  void shardNameThatLeavesTheFolderOrIsNoShardIsRefused(String shard) throws IOException {
    Path folder = copyOf("mistral");
    editIndex(folder, Q_PROJ, shard);
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> Checkpoint.open(folder).close())
        .withMessageStartingWith(
            "%s: tensor \"%s\" is in \""
                .formatted(folder.resolve("model.safetensors.index.json"), Q_PROJ))
        .withMessageEndingWith("want the name of a .safetensors file in the same folder");
  }

  @Test
  void indexAndShardsMustAgree() throws IOException {
    Path folder = copyOf("mistral");
    Path index = folder.resolve("model.safetensors.index.json");

    editIndex(folder, Q_PROJ, SHARD_1);
    assertRefused(
        folder,
        "%s: tensor \"%s\" should be in %s but is in %s"
            .formatted(index, Q_PROJ, SHARD_1, SHARD_2));
    editIndex(folder, Q_PROJ, "model-3.safetensors");
    assertRefused(
        folder,
        "%s: shard \"model-3.safetensors\" is missing; it should hold tensor \"%s\""
            .formatted(index, Q_PROJ));
    editIndex(folder, Q_PROJ, SHARD_2);
    editIndex(folder, "extra", SHARD_2);
    assertRefused(
        folder,
        "%s: tensor \"extra\" should be in %s but is in no shard".formatted(index, SHARD_2));

    Files.copy(folder.resolve(SHARD_2), folder.resolve("model-again.safetensors"));
    editIndex(folder, "extra", "model-again.safetensors");
    assertRefused(
        folder,
        "%s: tensor \"model.layers.0.mlp.up_proj.weight\" is also in %s"
            .formatted(folder.resolve("model-again.safetensors"), SHARD_2));

    Files.writeString(index, "{\"weight_map\": {}}");
    assertRefused(
        folder,
        index + ": no weight_map; want an object of tensor names and the files they are in");
    Files.writeString(index, "[]");
    assertRefused(
        folder,
        index + ": no weight_map; want an object of tensor names and the files they are in");
    Files.writeString(index, "{\"weight_map\": {\"a\": {\"b\": \"c\"}}}");
    assertRefused(
        folder,
        index
            + ": tensor \"a\" is in OBJECT, want the name of a .safetensors file in the same folder");
  }

  @Test
  void brokenShardIsNamed() throws IOException {
    Path folder = copyOf("mistral");
    Path shard = folder.resolve(SHARD_2);
    byte[] bytes = Files.readAllBytes(shard);
    Files.write(shard, java.util.Arrays.copyOf(bytes, bytes.length - 1));
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> Checkpoint.open(folder).close())
        .withMessageStartingWith(shard + ": tensor ")
        .withMessageEndingWith("it is cut short");
  }

  @Test
  void singleFileCountsWhereAnIndexIsLeftBesideIt() throws IOException {
    Path folder = copyOf("llama");
    Files.writeString(
        folder.resolve("model.safetensors.index.json"), "{\"weight_map\":{\"a\":\"b\"}}");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertThat(checkpoint.files()).hasSize(1);
      checkpoint.save(dir.resolve("copy"), Map.of(), IfPresent.REFUSE);
    }
    assertThat(dir.resolve("copy").resolve("model.safetensors.index.json")).doesNotExist();
  }

  @Test
  void downloadCacheOfLinksOpensAndIsSavedAsFiles() throws IOException {
    Path blobs = copyOf("mistral");
    Path snapshot = Files.createDirectories(dir.resolve("snapshots/abc"));
    for (String name : TestFiles.names(blobs)) {
      Files.createSymbolicLink(snapshot.resolve(name), Path.of("../../mistral").resolve(name));
    }
    Path copy = dir.resolve("copy");
    try (Checkpoint checkpoint = Checkpoint.open(snapshot)) {
      checkpoint.save(copy, Map.of(), IfPresent.REFUSE);
    }
    for (String name : TestFiles.names(copy)) {
      assertThat(Files.isSymbolicLink(copy.resolve(name))).isFalse();
      assertThat(copy.resolve(name)).hasSameBinaryContentAs(blobs.resolve(name));
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      value = {
        "llama;config.json,model.safetensors,tokenizer.json,tokenizer_config.json",
        "planted;config.json,model.safetensors,tokenizer.json,tokenizer_config.json",
        "mistral;config.json,model-00001-of-00002.safetensors,model-00002-of-00002.safetensors,"
            + "model.safetensors.index.json,tokenizer.json,tokenizer_config.json"
      })
  void savedCopyHasTheModelsFilesByteForByteAndNoOthers(String name, String files)
      throws IOException {
    Path folder = TestFiles.golden(name);
    Path copy = dir.resolve("new/parent/copy");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      checkpoint.save(copy, Map.of(), IfPresent.REFUSE);
    }
    assertThat(TestFiles.names(copy)).containsExactly(files.split(","));
    for (String file : TestFiles.names(copy)) {
      assertThat(copy.resolve(file)).hasSameBinaryContentAs(folder.resolve(file));
    }
    assertThat(TestFiles.names(copy.getParent())).containsExactly("copy");
  }

  @Test
  void templatesAndLicencesTravelWithTheModel() throws IOException {
    Path folder = copyOf("llama");
    for (String name :
        List.of("chat_template.jinja", "LICENSE", "NOTICE.txt", "README.md", "x.bin")) {
      Files.writeString(folder.resolve(name), name);
    }
    Path templates = Files.createDirectory(folder.resolve("additional_chat_templates"));
    Files.writeString(templates.resolve("rag.jinja"), "rag");
    Path copy = dir.resolve("copy");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      checkpoint.save(copy, Map.of(), IfPresent.REFUSE);
    }
    assertThat(TestFiles.names(copy))
        .containsExactly(
            "LICENSE",
            "NOTICE.txt",
            "additional_chat_templates",
            "chat_template.jinja",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json");
    assertThat(copy.resolve("additional_chat_templates/rag.jinja")).hasContent("rag");
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "mistral"})
  void replacedTensorsAreRoundedAndAllOthersStay(String name) throws IOException {
    Path folder = TestFiles.golden(name);
    Path copy = dir.resolve("copy");
    try (Checkpoint original = Checkpoint.open(folder)) {
      Tensor before = original.tensor(Q_PROJ);
      Tensor after = arena.floats(Q_PROJ, before.shape().dims());
      for (int i = 0; i < after.size(); i++) {
        after.set(i, before.get(i) * 1.01f + i * 1e-3f);
      }
      Tensor norm = original.tensor("model.norm.weight").named("any name");
      original.save(copy, Map.of(Q_PROJ, after, "model.norm.weight", norm), IfPresent.REFUSE);
      try (Checkpoint saved = Checkpoint.open(copy)) {
        assertThat(saved.entries()).isEqualTo(original.entries());
        for (SafeTensors.Entry entry : original.entries()) {
          Tensor tensor = saved.tensor(entry.name());
          if (!entry.name().equals(Q_PROJ)) {
            assertThat(tensor.segment().mismatch(original.tensor(entry.name()).segment()))
                .as(entry.name())
                .isEqualTo(-1);
            continue;
          }
          for (int i = 0; i < after.size(); i++) {
            float wanted =
                tensor.dtype() == DType.BF16
                    ? Float.intBitsToFloat(Rounding.bf16(after.get(i)) << 16)
                    : after.get(i);
            assertThat(tensor.get(i)).isEqualTo(wanted);
          }
        }
      }
    }
  }

  @Test
  void replacementsThatDoNotFitAreRefusedBeforeAnythingIsWritten() throws IOException {
    Path folder = TestFiles.golden("llama");
    Path copy = dir.resolve("copy");
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertThatIllegalArgumentException()
          .isThrownBy(
              () -> checkpoint.save(copy, Map.of("no", arena.floats("no", 1)), IfPresent.REFUSE))
          .withMessage(folder + ": no tensor \"no\" to replace");
      String norm = "model.norm.weight";
      assertThatIllegalArgumentException()
          .isThrownBy(
              () -> checkpoint.save(copy, Map.of(norm, arena.floats(norm, 47)), IfPresent.REFUSE))
          .withMessage(
              folder + ": tensor \"model.norm.weight\" BF16[48] cannot be replaced by F32[47]");
      Tensor half = arena.allocate(norm, DType.F16, 48);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> checkpoint.save(copy, Map.of(norm, half), IfPresent.REFUSE))
          .withMessageContaining("is F16 and cannot be stored as BF16");
    }
    assertThat(TestFiles.names(dir)).isEmpty();
  }

  @Test
  void failureInTheMiddleLeavesNothing() throws IOException {
    String norm = "model.norm.weight"; // the last tensor of the last shard
    Path copy = dir.resolve("copy");
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden("llama"))) {
      Tensor large = arena.floats(norm, 48).copyFrom(new float[48]);
      large.set(47, Float.MAX_VALUE);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> checkpoint.save(copy, Map.of(norm, large), IfPresent.REFUSE))
          .withMessageContaining("element 47");
      assertThat(TestFiles.names(dir)).isEmpty();

      Files.createDirectory(copy);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> checkpoint.save(copy, Map.of(norm, large), IfPresent.REFUSE));
      assertThat(TestFiles.names(dir)).containsExactly("copy");
      assertThat(TestFiles.names(copy)).isEmpty();
    }
  }

  @Test
  void folderThatHoldsFilesIsLeftAloneUnlessTold() throws IOException {
    Path target = copyOf("mistral");
    Files.writeString(target.resolve("metrics.jsonl"), "{}");
    List<String> before = TestFiles.names(target);
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden("llama"))) {
      assertThatIOException()
          .isThrownBy(() -> checkpoint.save(target, Map.of(), IfPresent.REFUSE))
          .withMessage(
              target
                  + ": not written: it holds 15 files already (config.json, config_saved.json,"
                  + " config_v5.json, ...); give a new folder, or ask to replace the checkpoint"
                  + " in it");
      assertThat(TestFiles.names(target)).isEqualTo(before);

      checkpoint.save(target, Map.of(), IfPresent.REPLACE);
    }
    assertThat(TestFiles.names(target))
        .contains("metrics.jsonl", "golden.json", "config.json", "model.safetensors")
        .doesNotContain(SHARD_1, SHARD_2, "model.safetensors.index.json", ".checkpoint.partial");
    try (Checkpoint replaced = Checkpoint.open(target)) {
      assertThat(replaced.config().text("model_type")).isEqualTo("llama");
    }
    assertThat(TestFiles.names(dir)).containsExactly("mistral");
  }

  @Test
  void failedReplacementKeepsTheOldCheckpoint() throws IOException {
    Path target = copyOf("mistral");
    List<String> before = TestFiles.names(target);
    String norm = "model.norm.weight";
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden("llama"))) {
      Tensor large = arena.floats(norm, 48).copyFrom(new float[48]);
      large.set(0, Float.MAX_VALUE);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> checkpoint.save(target, Map.of(norm, large), IfPresent.REPLACE));
    }
    assertThat(TestFiles.names(target)).isEqualTo(before);
    for (String name : before) {
      assertThat(target.resolve(name))
          .hasSameBinaryContentAs(TestFiles.golden("mistral").resolve(name));
    }
  }

  @Test
  void checkpointIsNotSavedOntoItself() throws IOException {
    Path folder = copyOf("llama");
    Path link = Files.createSymbolicLink(dir.resolve("link"), folder);
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      assertThatIOException()
          .isThrownBy(() -> checkpoint.save(link, Map.of(), IfPresent.REPLACE))
          .withMessage(link + ": not written: it is the checkpoint that is being read");
    }
  }

  @Test
  void whereNothingCanBeCreatedTheMessageSaysWhere() throws IOException {
    Path target = Path.of("/proc/retmask-test/copy");
    assumeTrue(Files.isDirectory(Path.of("/proc/self")), "no /proc on this system");
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden("llama"))) {
      assertThatIOException()
          .isThrownBy(() -> checkpoint.save(target, Map.of(), IfPresent.REFUSE))
          .withMessageStartingWith(target + ": not written: ")
          .withMessageContaining("/proc/retmask-test");
    }
  }

  @Test
  void folderWithoutWritePermissionIsReported() throws IOException {
    Path closed = Files.createDirectory(dir.resolve("closed"));
    assertThat(closed.toFile().setWritable(false)).isTrue();
    assumeTrue(!Files.isWritable(closed), "this user may write everywhere");
    Path target = closed.resolve("copy");
    try (Checkpoint checkpoint = Checkpoint.open(TestFiles.golden("llama"))) {
      assertThatIOException()
          .isThrownBy(() -> checkpoint.save(target, Map.of(), IfPresent.REFUSE))
          .withMessageStartingWith(target + ": not written: permission denied: ");
    } finally {
      assertThat(closed.toFile().setWritable(true)).isTrue();
    }
  }
}
