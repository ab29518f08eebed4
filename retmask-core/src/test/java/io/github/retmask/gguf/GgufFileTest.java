package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.io.FormatException;
import io.github.retmask.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgufFileTest {
  @TempDir private Path dir;

  private Path write(byte[] bytes) throws IOException {
    return Files.write(dir.resolve("m.gguf"), bytes);
  }

  private static GgufBytes sound() {
    return new GgufBytes()
        .text("general.architecture", "llama")
        .u32("count", 7)
        .f32("real", 1e-5f)
        .flag("yes", true)
        .texts("words", "a", "", "\u00e4")
        .u32s("numbers", 3, 0xffffffffL)
        .floats("a", 3, 2)
        .floats("b", 5);
  }

  private void assertRefused(byte[] bytes, String message) throws IOException {
    Path file = write(bytes);
    assertThatThrownBy(() -> GgufFile.open(file).close())
        .isInstanceOf(FormatException.class)
        .hasMessage(file + ": " + message);
  }

  @ParameterizedTest
  @ValueSource(ints = {2, 3})
  void everyKindOfValueAndEveryTensorIsRead(int version) throws IOException {
    GgufBytes bytes = sound();
    bytes.version = version;
    try (GgufFile file = GgufFile.open(write(bytes.bytes()))) {
      GgufMetadata metadata = file.metadata();
      assertThat(metadata.text("general.architecture")).isEqualTo("llama");
      assertThat(metadata.integer("count", 0)).isEqualTo(7);
      assertThat(metadata.number("real")).isEqualTo(1e-5);
      assertThat(metadata.flagOr("yes", false)).isTrue();
      assertThat(metadata.texts("words")).containsExactly("a", "", "\u00e4");
      assertThat(metadata.wholes("numbers")).containsExactly(3, 0xffffffffL);
      GgufFile.Entry a = file.tensors().get("a");
      assertThat(a.shape()).isEqualTo(Shape.of(2, 3));
      assertThat(file.bytes(a).get(ValueLayout.JAVA_FLOAT_UNALIGNED, 20)).isEqualTo(5 / 8f);
      assertThat(file.bytes(file.tensors().get("b")).byteSize()).isEqualTo(20);
    }
  }

  @Test
  void everyPrefixOfAFileIsRefusedByTheFile() throws IOException {
    byte[] whole = sound().bytes();
    for (int length = 0; length < whole.length; length++) {
      Path file = write(Arrays.copyOf(whole, length));
      assertThatThrownBy(() -> GgufFile.open(file).close())
          .as("the first %d bytes", length)
          .isInstanceOf(FormatException.class)
          .hasMessageStartingWith(file + ": ");
    }
  }

  @Test
  void otherFilesAndVersionsAreRefused() throws IOException {
    assertRefused(
        "{\"a\": 1}".getBytes(StandardCharsets.UTF_8),
        "no GGUF file: it does not begin with the letters GGUF");
    GgufBytes old = sound();
    old.version = 1;
    assertRefused(old.bytes(), "GGUF version 1, want 2 or 3");
    old.version = Integer.reverseBytes(3);
    assertRefused(old.bytes(), "a big-endian GGUF file, want a little-endian one");
    Path none = dir.resolve("none.gguf");
    assertThatThrownBy(() -> GgufFile.open(none)).hasMessage(none + ": no such file");
  }

  @ParameterizedTest
  @CsvSource({
    "1000000, 8, 1000000 tensors in a file of",
    "-1, 8, 18446744073709551615 tensors in a file of",
    "2, 4611686018427387904, 4611686018427387904 metadata keys in a file of",
    "2, -5, 18446744073709551611 metadata keys in a file of"
  })
  void countsThatTheFileCannotHoldAreNotBelieved(long tensors, long keys, String message)
      throws IOException {
    GgufBytes bytes = sound();
    bytes.tensorCount = tensors;
    bytes.keyCount = keys;
    Path file = write(bytes.bytes());
    assertThatThrownBy(() -> GgufFile.open(file).close())
        .isInstanceOf(FormatException.class)
        .hasMessageStartingWith(file + ": " + message);
  }

  private void assertMetadataRefused(Consumer<GgufBytes> add, String message) throws IOException {
    GgufBytes bytes = new GgufBytes();
    add.accept(bytes);
    bytes.u32("filler", 1).u32("more filler", 2);
    assertRefused(bytes.bytes(), message);
  }

  @Test
  void brokenMetadataAreRefusedByKey() throws IOException {
    assertMetadataRefused(
        b -> b.raw("k", 13, new byte[0]), "\"k\" has unknown value type 13, want 0 to 12");
    assertMetadataRefused(
        b -> b.raw("k", GgufBytes.BOOL, new byte[] {2}), "\"k\" is a BOOL of byte 2, want 0 or 1");
    assertMetadataRefused(
        b -> b.raw("k", 10, GgufBytes.le(8, -1)),
        "\"k\" is 18446744073709551615, want at most 2^63-1");
    assertMetadataRefused(b -> b.u32("k", 1).u32("k", 2), "metadata key \"k\" is there twice");
    assertMetadataRefused(b -> b.u32("", 1), "metadata key 0 is empty");
    assertMetadataRefused(
        b -> b.rawKey(GgufBytes.join(GgufBytes.le(8, 2), new byte[] {(byte) 0xc3, 0x28})),
        "metadata key 0 is not UTF-8 text");
    assertMetadataRefused(
        b -> b.rawKey(GgufBytes.le(8, 70_000)),
        "metadata key 0 is 70000 bytes long, want at most 65535");
    assertMetadataRefused(
        b -> b.raw("k", GgufBytes.ARRAY, GgufBytes.join(GgufBytes.le(4, 9), GgufBytes.le(8, 0))),
        "\"k\" is an array of arrays, which is not supported");
    assertMetadataRefused(
        b ->
            b.raw(
                "k",
                GgufBytes.ARRAY,
                GgufBytes.join(GgufBytes.le(4, 4), GgufBytes.le(8, Long.MAX_VALUE))),
        "9223372036854775807 items in \"k\" in a file of 128 bytes, of which 79 follow");
    assertMetadataRefused(
        b -> b.raw("k", GgufBytes.STRING, GgufBytes.le(8, 1L << 40)),
        "\"k\" needs 1099511627776 bytes from byte 45 on, but the file has 96; it is cut short");
  }

  @Test
  void alignmentIsAPowerOfTwo() throws IOException {
    for (int wrong : new int[] {0, 4, 33, 48, 1 << 21}) {
      assertRefused(
          new GgufBytes().u32("general.alignment", wrong).bytes(),
          "general.alignment is %d, want a power of two from 8 to 1048576".formatted(wrong));
    }
    assertRefused(
        new GgufBytes().text("general.alignment", "32").bytes(),
        "general.alignment is STRING, want an integer");
    GgufBytes wide = new GgufBytes();
    wide.alignment = 4096;
    wide.u32("general.alignment", 4096).floats("a", 4).floats("b", 4);
    try (GgufFile file = GgufFile.open(write(wide.bytes()))) {
      assertThat(file.tensors().get("b").offset()).isEqualTo(4096);
      assertThat(file.bytes(file.tensors().get("b")).get(ValueLayout.JAVA_FLOAT, 4))
          .isEqualTo(1 / 8f);
    }
  }

  private void assertTensorRefused(Consumer<GgufBytes> add, String message) throws IOException {
    GgufBytes bytes = new GgufBytes();
    add.accept(bytes);
    assertRefused(bytes.data(64).bytes(), message);
  }

  @Test
  void brokenTensorsAreRefusedByName() throws IOException {
    assertTensorRefused(b -> b.described("t", 0, 0), "tensor \"t\" has 0 extents, want 1 to 4");
    assertTensorRefused(
        b -> b.described("t", 0, 0, 1, 1, 1, 1, 1), "tensor \"t\" has 5 extents, want 1 to 4");
    assertTensorRefused(
        b -> b.described("t", 0, 0, 4, 0), "tensor \"t\" has an extent of 0, want 1 to 2^63-1");
    assertTensorRefused(b -> b.described("t", 77, 0, 4), "tensor \"t\" has unknown type 77");
    assertTensorRefused(
        b -> b.described("t", 12, 0, 128, 2),
        "tensor \"t\" is Q4_K[2, 128], want a multiple of 256 elements innermost");
    assertTensorRefused(
        b -> b.described("t", 0, 0, 1L << 32, 1L << 32),
        "tensor \"t\": shape [4294967296, 4294967296] is beyond counting");
    assertTensorRefused(
        b -> b.described("t", 0, 0, Long.MAX_VALUE / 2),
        "tensor \"t\": shape [4611686018427387903] is beyond counting");
    assertTensorRefused(
        b -> b.described("t", 0, 4, 4),
        "tensor \"t\" begins at byte 4 of the data, want a multiple of 32");
    assertTensorRefused(
        b -> b.described("t", 0, 64, 4),
        "tensor \"t\" F32[4] takes 16 bytes from byte 64 of the data on, but the file has 64 bytes of data; it is cut short");
    assertTensorRefused(
        b -> b.described("t", 0, Long.MAX_VALUE - 31, 4),
        "tensor \"t\" F32[4] takes 16 bytes from byte 9223372036854775776 of the data on, but the file has 64 bytes of data; it is cut short");
    assertTensorRefused(
        b -> b.described("t", 0, 0, 12).described("u", 0, 32, 4),
        "tensor \"u\" F32[4] begins at byte 32 of the data, inside tensor \"t\"");
    assertTensorRefused(
        b -> b.described("t", 0, 0, 4).described("t", 0, 32, 4), "tensor \"t\" is there twice");
    assertTensorRefused(
        b -> b.described("n".repeat(64), 0, 0, 4),
        "the name of tensor 0 is 64 bytes long, want at most 63");
  }

  @Test
  void wrongKindsAreRefusedByKeyWhenAskedFor() throws IOException {
    byte[] bytes =
        sound()
            .raw("bad text", GgufBytes.STRING, GgufBytes.join(GgufBytes.le(8, 1), new byte[] {-1}))
            .f32("nan", Float.NaN)
            .u32s("per layer", 4, 8)
            .u32s("same", 4, 4)
            .bytes();
    Path path = write(bytes);
    try (GgufFile file = GgufFile.open(path)) {
      GgufMetadata m = file.metadata();
      assertThat(m.integer("same", 1)).isEqualTo(4);
      assertThatThrownBy(() -> m.text("count")).hasMessage(path + ": count is UINT32, want a text");
      assertThatThrownBy(() -> m.integer("real", 0))
          .hasMessage(path + ": real is FLOAT32, want an integer");
      assertThatThrownBy(() -> m.integer("count", 8))
          .hasMessage(path + ": count is 7, want an integer >= 8");
      assertThatThrownBy(() -> m.number("count"))
          .hasMessage(path + ": count is UINT32, want a real number");
      assertThatThrownBy(() -> m.number("nan"))
          .hasMessage(path + ": nan is NaN, want a finite number");
      assertThatThrownBy(() -> m.texts("numbers"))
          .hasMessage(path + ": numbers is an array of UINT32, want STRING");
      assertThatThrownBy(() -> m.wholes("words"))
          .hasMessage(path + ": words is an array of STRING, want integers");
      assertThatThrownBy(() -> m.text("bad text"))
          .hasMessage(path + ": bad text is not UTF-8 text");
      assertThatThrownBy(() -> m.integer("per layer", 1))
          .hasMessage(
              path + ": per layer differs between layers (4 and 8), which is not supported");
      assertThatThrownBy(() -> m.text("absent")).hasMessage(path + ": absent is missing");
    }
  }
}
