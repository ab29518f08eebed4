package io.github.retmask.io;

import static io.github.retmask.io.CheckpointFingerprint.Coverage.ALL;
import static io.github.retmask.io.CheckpointFingerprint.Coverage.SAMPLED;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointFingerprintTest {
  @TempDir Path dir;

  private final HostArena arena = new HostArena();

  @AfterEach
  void closeArena() {
    arena.close();
  }

  private static String fingerprint(Path folder, CheckpointFingerprint.Coverage coverage)
      throws IOException {
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      return CheckpointFingerprint.of(checkpoint, coverage).text();
    }
  }

  private Path folder(String name, String config, Tensor... tensors) throws IOException {
    Path folder = Files.createDirectories(dir.resolve(name));
    Files.writeString(folder.resolve("config.json"), config);
    SafeTensorsWriter writer = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
    for (Tensor tensor : tensors) {
      writer.add(tensor);
    }
    writer.writeTo(folder.resolve("model.safetensors"));
    return folder;
  }

  /// Computed once by an independent program: resuming must work across releases.
  @Test
  void valueIsStable() throws IOException {
    assertThat(fingerprint(TestFiles.golden("llama"), SAMPLED))
        .isEqualTo("sampled:8bdb450cea268ec6b643a6f5876b9e82534ec92df15c3041e541facca76b122c");
  }

  @Test
  void spacingOrderOfKeysAndShardsPlayNoPart() throws IOException {
    Path sharded = TestFiles.golden("mistral");
    Path single = Files.createDirectory(dir.resolve("single"));
    ObjectMapper mapper = new ObjectMapper();
    Files.writeString(
        single.resolve("config.json"),
        mapper.readTree(sharded.resolve("config.json").toFile()).toPrettyString());
    try (Checkpoint checkpoint = Checkpoint.open(sharded)) {
      SafeTensorsWriter writer = new SafeTensorsWriter(Map.of());
      checkpoint.entries().reversed().forEach(e -> writer.add(checkpoint.tensor(e.name())));
      writer.writeTo(single.resolve("model.safetensors"));
    }
    for (CheckpointFingerprint.Coverage coverage : CheckpointFingerprint.Coverage.values()) {
      assertThat(fingerprint(single, coverage)).isEqualTo(fingerprint(sharded, coverage));
    }
    Tensor a = arena.floats("a", 2, 3);
    assertThat(fingerprint(folder("x", "{\"a\":1,\"b\":[2]}", a), ALL))
        .isEqualTo(fingerprint(folder("y", "{ \"b\" : [2], \"a\": 1 }", a), ALL));
  }

  @Test
  void configNameTypeShapeAndDataAllCount() throws IOException {
    Tensor a = arena.floats("a", 2, 3).copyFrom(1f, 2f, 3f, 4f, 5f, 6f);
    Tensor b = arena.floats("a", 2, 3).copyFrom(1f, 2f, 3f, 4f, 5f, 6.0000005f);
    Tensor ints = arena.allocate("a", DType.I32, 2, 3);
    ints.segment().copyFrom(a.segment());
    String[] all = {
      fingerprint(folder("1", "{\"a\":1}", a), ALL),
      fingerprint(folder("2", "{\"a\":2}", a), ALL),
      fingerprint(folder("3", "{\"a\":\"1\"}", a), ALL),
      fingerprint(folder("4", "{\"a\":[1]}", a), ALL),
      fingerprint(folder("5", "{\"b\":1}", a), ALL),
      fingerprint(folder("6", "{\"a\":1}", a.named("b")), ALL),
      fingerprint(folder("7", "{\"a\":1}", a.view(3, 2)), ALL),
      fingerprint(folder("8", "{\"a\":1}", b), ALL),
      fingerprint(folder("9", "{\"a\":1}", ints), ALL),
      fingerprint(folder("10", "{\"a\":1}", a, a.named("b")), ALL),
      fingerprint(folder("11", "{\"a\":1}", a), SAMPLED),
    };
    assertThat(all).doesNotHaveDuplicates();
  }

  /// o_proj of 16-bit values with 64 heads of 128: switching off any one head must show in a sample.
  @Test
  void anyMaskedHeadOfALargeProjectionIsSeenInTheSample() throws IOException {
    int heads = 64;
    int d = 128;
    int c = 500;
    Tensor weight = arena.allocate("o_proj", DType.BF16, c, heads * d);
    weight.segment().fill((byte) 0x3f);
    String intact = fingerprint(folder("intact", "{}", weight), SAMPLED);
    for (int head = 0; head < heads; head += 7) {
      Tensor masked = arena.allocate("o_proj", DType.BF16, c, heads * d);
      masked.segment().copyFrom(weight.segment());
      for (long row = 0; row < c; row++) {
        masked.segment().asSlice((row * heads + head) * d * 2, d * 2).fill((byte) 0);
      }
      assertThat(fingerprint(folder("masked", "{}", masked), SAMPLED))
          .as("head %d", head)
          .isNotEqualTo(intact);
    }
  }

  @Test
  void sampleMissesASingleElementThatTheWholeSees() throws IOException {
    Tensor weight = arena.floats("w", 1 << 20);
    Path before = folder("before", "{}", weight);
    String sampled = fingerprint(before, SAMPLED);
    String whole = fingerprint(before, ALL);
    int missed = 0;
    for (int i = 0; i < 10; i++) {
      long at = (i * 97_003L + 13) % (1 << 20) * 4;
      weight.segment().set(ValueLayout.JAVA_FLOAT, at, 1f);
      Path after = folder("after", "{}", weight);
      weight.segment().set(ValueLayout.JAVA_FLOAT, at, 0f);
      missed += fingerprint(after, SAMPLED).equals(sampled) ? 1 : 0;
      assertThat(fingerprint(after, ALL)).isNotEqualTo(whole);
    }
    assertThat(missed).as("a sixteenth of the tensor is read").isBetween(5, 10);
  }

  @Test
  void otherModelIsRefused() throws IOException {
    try (Checkpoint llama = Checkpoint.open(TestFiles.golden("llama"));
        Checkpoint planted = Checkpoint.open(TestFiles.golden("planted"))) {
      for (CheckpointFingerprint.Coverage coverage : CheckpointFingerprint.Coverage.values()) {
        String recorded = CheckpointFingerprint.of(llama, coverage).toString();
        CheckpointFingerprint back = new CheckpointFingerprint(recorded);
        back.requireMatches(llama, "out/scores.json");
        assertThatExceptionOfType(FormatException.class)
            .isThrownBy(() -> back.requireMatches(planted, "out/scores.json"))
            .withMessage(
                "out/scores.json: begun with another model than %s; go on with the same one or begin anew"
                    .formatted(planted.folder()));
      }
    }
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new CheckpointFingerprint("sampled:12"))
        .withMessageContaining("\"sampled:12\" is no model fingerprint");
  }
}
