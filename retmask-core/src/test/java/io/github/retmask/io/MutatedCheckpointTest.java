package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/// Checkpoint folders damaged in every way we could think of. Each one either opens, and then every
/// tensor can be read and the folder saved, or is refused in one line that names it. Nothing else is
/// thrown, nothing large is allocated, nothing waits.
class MutatedCheckpointTest {
  private static final int ROUNDS = 2000;
  private static final int MOST_HEAP_BYTES = 8_000_000; // the folder itself has 3 kB

  private static final List<String> TOKENS =
      List.of(
          "{",
          "}",
          "[",
          "]",
          ":",
          ",",
          "\"",
          "null",
          "true",
          "-1",
          "1e9",
          "1e999",
          "NaN",
          "\\u0000",
          "18446744073709551616",
          "9223372036854775807",
          "\"__metadata__\"",
          "\"weight_map\"",
          "\"../\"",
          "/",
          "\"model-1.safetensors\"",
          "\"model-2.safetensors\"",
          "\"F32\"",
          "\"I64\"",
          "\"data_offsets\"",
          "ü",
          "\u2028");

  @TempDir Path dir;

  private final Random random = new Random(20);
  private final Map<String, byte[]> intact = new TreeMap<>();
  private Path folder;

  @BeforeEach
  void writeIntactFolder() throws IOException {
    folder = Files.createDirectory(dir.resolve("model"));
    try (HostArena arena = new HostArena()) {
      Tensor q = arena.floats("q", 6, 8);
      for (int i = 0; i < q.size(); i++) {
        q.set(i, i - 20.5f);
      }
      Tensor norm = arena.floats("norm", 8).copyFrom(1f, 2f, 3f, 4f, 5f, 6f, 7f, 8f);
      new SafeTensorsWriter(SafeTensorsWriter.PYTORCH)
          .add(q)
          .add(norm, DType.BF16)
          .writeTo(folder.resolve("model-1.safetensors"));
      new SafeTensorsWriter(SafeTensorsWriter.PYTORCH)
          .add(q.named("k"), DType.F16)
          .add(arena.ints("ids", 1, 2, 3))
          .writeTo(folder.resolve("model-2.safetensors"));
    }
    Files.writeString(
        folder.resolve("model.safetensors.index.json"),
        """
        {"metadata": {"total_size": 300}, "weight_map": {"q": "model-1.safetensors",
        "norm": "model-1.safetensors", "k": "model-2.safetensors", "ids": "model-2.safetensors"}}""");
    Files.writeString(
        folder.resolve("config.json"),
        "{\"model_type\": \"llama\", \"hidden_size\": 8, \"eps\": 1e-05, \"eos\": [1, 2]}");
    Files.writeString(folder.resolve("tokenizer.json"), "{}");
    for (String name : TestFiles.names(folder)) {
      intact.put(name, Files.readAllBytes(folder.resolve(name)));
    }
  }

  private void restore() throws IOException {
    for (String name : TestFiles.names(folder)) {
      Path file = folder.resolve(name);
      byte[] bytes = intact.get(name);
      boolean same =
          bytes != null
              && Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
              && Arrays.equals(Files.readAllBytes(file), bytes);
      if (!same) {
        Files.delete(file);
      }
    }
    for (Map.Entry<String, byte[]> file : intact.entrySet()) {
      if (!Files.exists(folder.resolve(file.getKey()))) {
        Files.write(folder.resolve(file.getKey()), file.getValue());
      }
    }
  }

  @Test
  void everyDamagedFolderOpensSoundOrIsRefusedInOneLine() throws IOException {
    int opened = 0;
    Map<String, Integer> refused = new TreeMap<>();
    for (int round = 0; round < ROUNDS; round++) {
      StringBuilder what = new StringBuilder("round " + round);
      for (int damages = 1 + random.nextInt(2); damages > 0; damages--) {
        what.append("; ").append(damage());
      }
      long before = TestFiles.allocatedBytes();
      try (Checkpoint checkpoint = Checkpoint.open(folder)) {
        opened++;
        readEverything(checkpoint);
        if (opened % 10 == 0) {
          saveAndCompare(checkpoint);
        }
      } catch (FormatException | IOException e) {
        assertThat(e.getMessage())
            .as(what.toString())
            .startsWith(folder.toString())
            .doesNotContain("\n")
            .hasSizeLessThan(1500);
        refused.merge(e.getClass().getSimpleName(), 1, Integer::sum);
      } catch (RuntimeException | Error e) {
        throw new AssertionError(what.toString(), e);
      }
      assertThat(TestFiles.allocatedBytes() - before)
          .as(what.toString())
          .isLessThan(MOST_HEAP_BYTES);
      restore();
    }
    // Neither branch may be empty: mutations that never matter, or always, would test little.
    assertThat(opened).isGreaterThan(ROUNDS / 20);
    assertThat(refused.get("FormatException")).isGreaterThan(ROUNDS / 2);
  }

  private static void readEverything(Checkpoint checkpoint) {
    for (SafeTensors.Entry entry : checkpoint.entries()) {
      if (entry.readable() != null) {
        Tensor tensor = checkpoint.tensor(entry.name());
        for (long i = 0; i < tensor.size(); i++) {
          tensor.get(i);
        }
      }
    }
    CheckpointFingerprint sampled =
        CheckpointFingerprint.of(checkpoint, CheckpointFingerprint.Coverage.SAMPLED);
    assertThat(sampled.matches(checkpoint)).isTrue();
  }

  private void saveAndCompare(Checkpoint checkpoint) throws IOException {
    Path copy = dir.resolve("copy");
    checkpoint.save(copy, Map.of(), IfPresent.REPLACE);
    try (Checkpoint saved = Checkpoint.open(copy)) {
      assertThat(saved.entries()).isEqualTo(checkpoint.entries());
    }
  }

  /// Damages one file of the folder and says how.
  private String damage() throws IOException {
    List<String> names = TestFiles.names(folder);
    String name = names.get(random.nextInt(names.size()));
    Path file = folder.resolve(name);
    int kind = random.nextInt(16);
    if (!Files.isRegularFile(file)) {
      return name + " damaged before";
    }
    byte[] bytes = Files.readAllBytes(file);
    switch (kind) {
      case 0 -> Files.delete(file);
      case 1 -> {
        Files.delete(file);
        Files.createDirectory(file);
      }
      case 2 -> {
        Files.delete(file);
        Files.createSymbolicLink(file, Path.of(name)); // to itself
      }
      case 3 -> {
        Files.delete(file);
        Files.createSymbolicLink(file, Path.of(names.get(random.nextInt(names.size()))));
      }
      case 4 -> put(file, Arrays.copyOf(bytes, random.nextInt(bytes.length + 1)));
      case 5 -> put(file, Arrays.copyOf(bytes, bytes.length + 1 + random.nextInt(9)));
      case 6 -> put(file, intact.get(someIntact()));
      case 7 -> put(folder.resolve("model.safetensors"), intact.get(someIntact()));
      case 8 -> put(folder.resolve("model-" + random.nextInt(4) + ".safetensors"), bytes);
      case 9 -> put(file, withLength(bytes));
      case 10, 11 -> put(file, flipped(bytes));
      default -> put(file, withToken(bytes));
    }
    return name + " kind " + kind;
  }

  /// Puts a file in the place of whatever is there; a link is replaced, not followed.
  private static void put(Path file, byte[] bytes) throws IOException {
    Files.deleteIfExists(file);
    Files.write(file, bytes);
  }

  private String someIntact() {
    return List.copyOf(intact.keySet()).get(random.nextInt(intact.size()));
  }

  /// A lie about the header's length.
  private byte[] withLength(byte[] bytes) {
    byte[] changed = bytes.clone();
    for (int i = 0; i < Math.min(changed.length, 1 + random.nextInt(8)); i++) {
      changed[i] = (byte) random.nextInt();
    }
    return changed;
  }

  private byte[] flipped(byte[] bytes) {
    byte[] changed = bytes.clone();
    for (int flips = 1 + random.nextInt(4); flips > 0 && changed.length > 0; flips--) {
      changed[random.nextInt(changed.length)] ^= (byte) (1 << random.nextInt(8));
    }
    return changed;
  }

  /// A piece of text, cut from elsewhere in the file or made up, written over or put in between; a
  /// safetensors header keeps its length where it is written over.
  private byte[] withToken(byte[] bytes) {
    byte[] token = TOKENS.get(random.nextInt(TOKENS.size())).getBytes(StandardCharsets.UTF_8);
    if (random.nextInt(4) == 0 && bytes.length > 0) {
      int from = random.nextInt(bytes.length);
      token = Arrays.copyOfRange(bytes, from, from + random.nextInt(bytes.length - from));
    }
    int at = random.nextInt(bytes.length + 1);
    int after = random.nextBoolean() ? at : Math.min(bytes.length, at + token.length);
    byte[] changed = Arrays.copyOf(bytes, at + token.length + bytes.length - after);
    System.arraycopy(token, 0, changed, at, token.length);
    System.arraycopy(bytes, after, changed, at + token.length, bytes.length - after);
    return changed;
  }

  @Test
  @Timeout(60) // a reader that opens the pipe would wait for ever
  void pipeInThePlaceOfAFileIsRefusedAndNotWaitedFor() throws Exception {
    for (String name :
        List.of("config.json", "model.safetensors.index.json", "model-2.safetensors")) {
      Path file = folder.resolve(name);
      Files.delete(file);
      Process mkfifo =
          new ProcessBuilder("/bin/sh", "-c", "mkfifo \"$0\"", file.toString()).start();
      assumeTrue(
          mkfifo.waitFor(30, TimeUnit.SECONDS) && mkfifo.exitValue() == 0,
          "no mkfifo on this system");
      assertThat(
              org.assertj.core.api.Assertions.catchThrowable(() -> Checkpoint.open(folder).close()))
          .isInstanceOf(FormatException.class)
          .hasMessage(file + ": not a regular file");
      restore();
    }
  }
}
