package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SafeTensorsWriterTest {
  @TempDir Path dir;

  private final HostArena arena = new HostArena();

  @AfterEach
  void closeArena() {
    arena.close();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "llama/model.safetensors",
        "llama/golden.safetensors",
        "mistral/model-00001-of-00002.safetensors",
        "mistral/model-00002-of-00002.safetensors",
        "planted/model.safetensors"
      })
  void goldenFilesAreWrittenAgainByteForByte(String name) throws IOException {
    Path golden = TestFiles.golden("").resolve(name);
    Path copy = dir.resolve("copy.safetensors");
    try (SafeTensors tensors = SafeTensors.open(golden)) {
      SafeTensorsWriter writer = new SafeTensorsWriter(tensors.metadata());
      tensors.entries().forEach(entry -> writer.add(tensors.tensor(entry.name())));
      writer.writeTo(copy);
    }
    assertThat(copy).hasSameBinaryContentAs(golden);
  }

  @Test
  void headerIsPaddedAndKeepsTheGivenOrder() throws IOException {
    Path file = dir.resolve("t.safetensors");
    Map<String, String> metadata = new LinkedHashMap<>();
    metadata.put("format", "pt");
    metadata.put("a", "\"ü\n");
    new SafeTensorsWriter(metadata)
        .add(arena.floats("z", 1, 2).copyFrom(1f, -2f))
        .add(arena.ints("a", 3))
        .add(arena.allocate("scalar", DType.F16))
        .writeTo(file);
    byte[] bytes = Files.readAllBytes(file);
    String header =
        """
        {"__metadata__":{"a":"\\"ü\\n","format":"pt"},\
        "z":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},\
        "a":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},\
        "scalar":{"dtype":"F16","shape":[],"data_offsets":[12,14]}}""";
    int length = header.getBytes(StandardCharsets.UTF_8).length;
    int padded = (length + 7) / 8 * 8;
    assertThat(bytes).hasSize(8 + padded + 14);
    assertThat(new String(bytes, 8, padded, StandardCharsets.UTF_8))
        .isEqualTo(header + " ".repeat(padded - length));
    try (SafeTensors back = SafeTensors.open(file)) {
      assertThat(back.tensor("z").toFloats()).containsExactly(1f, -2f);
      assertThat(back.tensor("a").toInts()).containsExactly(3);
      assertThat(back.metadata()).isEqualTo(metadata);
    }
  }

  @Test
  void noTensorsAndNoMetadataMakeTheSmallestFile() throws IOException {
    Path file = dir.resolve("t.safetensors");
    new SafeTensorsWriter(Map.of()).writeTo(file);
    assertThat(Files.readAllBytes(file))
        .isEqualTo("\10\0\0\0\0\0\0\0{}      ".getBytes(StandardCharsets.ISO_8859_1));
  }

  @Test
  void otherElementTypesAreCopiedFromFileToFile() throws IOException {
    String header =
        """
        {"ids":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},\
        "q":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[16,19]}}""";
    byte[] bytes = TestFiles.safetensors(header + "    ", 19);
    assertThat(bytes.length % 8).as("padded like our own").isEqualTo(19 % 8);
    Path from = Files.write(dir.resolve("from.safetensors"), bytes);
    Path to = dir.resolve("to.safetensors");
    try (SafeTensors source = SafeTensors.open(from)) {
      new SafeTensorsWriter(Map.of()).add(source, "ids").add(source, "q").writeTo(to);
    }
    assertThat(to).hasSameBinaryContentAs(from);
  }

  @Test
  void tensorsLongerThanAPieceArriveWhole() throws IOException {
    int n = 5_000_011; // 20 MB, some pieces and a rest
    Tensor big = arena.floats("big", n);
    for (int i = 0; i < n; i++) {
      big.set(i, i * 0.5f);
    }
    Path file = dir.resolve("t.safetensors");
    new SafeTensorsWriter(SafeTensorsWriter.PYTORCH)
        .add(big)
        .add(big.named("rounded"), DType.BF16)
        .writeTo(file);
    try (SafeTensors back = SafeTensors.open(file)) {
      assertThat(back.tensor("big").segment().mismatch(big.segment())).isEqualTo(-1);
      Tensor rounded = back.tensor("rounded");
      assertThat(rounded.dtype()).isEqualTo(DType.BF16);
      for (int i = 0; i < n; i++) {
        float wanted = Float.intBitsToFloat(Rounding.bf16(i * 0.5f) << 16);
        if (rounded.get(i) != wanted) {
          throw new AssertionError(i + ": " + rounded.get(i) + ", want " + wanted);
        }
      }
    }
  }

  @Test
  void writingALargeTensorDoesNotCopyItIntoTheHeap() throws IOException {
    Tensor big = arena.floats("big", 16_000_000); // 64 MB
    SafeTensorsWriter writer =
        new SafeTensorsWriter(Map.of()).add(big).add(big.named("rounded"), DType.F16);
    Path file = dir.resolve("t.safetensors");
    long before = TestFiles.allocatedBytes();
    writer.writeTo(file);
    assertThat(TestFiles.allocatedBytes() - before).isLessThan(4_000_000);
    assertThat(Files.size(file)).isGreaterThan(96_000_000);
  }

  @Test
  void namesThatCannotBeWrittenAreRefused() {
    SafeTensorsWriter writer = new SafeTensorsWriter(Map.of()).add(arena.floats("a", 1));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> writer.add(arena.floats("a", 2)))
        .withMessage("two tensors are named \"a\"");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> writer.add(arena.floats("__metadata__", 2)))
        .withMessage("tensor name __metadata__ is reserved by the format");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> writer.add(arena.floats("\ud800", 2)))
        .withMessageContaining("is not Unicode text");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> writer.add(arena.ints("i", 2), DType.F16))
        .withMessage("tensor \"i\" is I32 and cannot be stored as F16; only F32 is rounded");
  }

  @Test
  void valueBeyondTheStoredTypeLeavesNoFile() throws IOException {
    Tensor large = arena.floats("w", 3).copyFrom(1f, 65504f, 65536f);
    SafeTensorsWriter writer = new SafeTensorsWriter(Map.of()).add(large, DType.F16);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> writer.writeTo(dir.resolve("t.safetensors")))
        .withMessage("tensor \"w\": element 2 is 65536.0, beyond what F16 (65504) holds");
    assertThat(TestFiles.names(dir)).isEmpty();
  }

  @Test
  void fullDiskIsReported() {
    Path full = Path.of("/dev/full");
    assumeTrue(Files.exists(full), "no /dev/full on this system");
    assertThatIOException()
        .isThrownBy(() -> new SafeTensorsWriter(Map.of()).add(arena.floats("a", 9)).writeTo(full))
        .withMessage("/dev/full: not written: No space left on device");
  }

  @Test
  void tensorsOfAThreadsOwnArenaCanBeWritten() throws IOException {
    try (Arena confined = Arena.ofConfined()) {
      Tensor own = Tensor.host("c", DType.F32, Shape.of(2), confined.allocate(8, 8));
      new SafeTensorsWriter(Map.of()).add(own).writeTo(dir.resolve("t.safetensors"));
    }
    assertThat(TestFiles.names(dir)).containsExactly("t.safetensors");
  }

  @Test
  void aTensorCanBeMadeInPiecesWhileItsNeighboursAreFilled() throws IOException {
    Path file = dir.resolve("t.safetensors");
    Tensor later = arena.floats("later", 2);
    new SafeTensorsWriter(Map.of())
        .add(
            "made",
            DType.F32,
            Shape.of(3, 1),
            sink -> {
              Tensor piece = arena.floats("piece", 1);
              for (int i = 0; i < 3; i++) {
                sink.write(piece.copyFrom(i + 0.5f).segment());
              }
              later.copyFrom(7f, 8f);
            })
        .add(later)
        .writeTo(file);
    try (SafeTensors tensors = SafeTensors.open(file)) {
      assertThat(tensors.tensor("made").shape()).isEqualTo(Shape.of(3, 1));
      assertThat(tensors.tensor("made").toFloats()).containsExactly(0.5f, 1.5f, 2.5f);
      assertThat(tensors.tensor("later").toFloats()).containsExactly(7f, 8f);
    }
  }

  @Test
  void aTensorMadeOfTooFewBytesLeavesNoFile() throws IOException {
    SafeTensorsWriter writer =
        new SafeTensorsWriter(Map.of())
            .add(
                "made", DType.F32, Shape.of(3), sink -> sink.write(arena.floats("p", 2).segment()));
    assertThatIllegalStateException()
        .isThrownBy(() -> writer.writeTo(dir.resolve("t.safetensors")))
        .withMessage("tensor made F32[3]: its source wrote 8 bytes, want 12");
    assertThat(TestFiles.names(dir)).isEmpty();
  }

  @Test
  void blockTypesAreRefusedByName() {
    try (HostArena arena = new HostArena()) {
      Tensor tensor = arena.allocate("w", DType.Q4_0, 2, 32);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> new SafeTensorsWriter(Map.of()).add(tensor))
          .withMessage("tensor \"w\" is Q4_0, which a safetensors file cannot hold");
    }
  }
}
