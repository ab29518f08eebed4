package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SafeTensorsTest {
  private static final String TWO =
      """
      {"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},\
      "b":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]}}""";

  @TempDir Path dir;

  private Path file(byte[] bytes) throws IOException {
    return Files.write(dir.resolve("t.safetensors"), bytes);
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
  void everyGoldenTensorHasTheValuesThatItsBytesSpell(String name) throws IOException {
    Path path = TestFiles.golden("").resolve(name);
    byte[] raw = Files.readAllBytes(path);
    ByteBuffer bytes = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN);
    int header = Math.toIntExact(bytes.getLong(0));
    JsonNode tree = new ObjectMapper().readTree(raw, 8, header);
    try (SafeTensors tensors = SafeTensors.open(path)) {
      int described = tree.size() - (tree.has("__metadata__") ? 1 : 0);
      assertThat(tensors.entries()).hasSize(described).isNotEmpty();
      for (SafeTensors.Entry entry : tensors.entries()) {
        JsonNode description = tree.get(entry.name());
        Tensor tensor = tensors.tensor(entry.name());
        assertThat(tensor.name()).isEqualTo(entry.name());
        assertThat(tensor.dtype().name()).isEqualTo(description.get("dtype").asText());
        assertThat(tensor.shape().toString())
            .isEqualTo(description.get("shape").toString().replace(",", ", "));
        int at = 8 + header + description.get("data_offsets").get(0).asInt();
        float[] wanted = new float[Math.toIntExact(tensor.size())];
        for (int i = 0; i < wanted.length; i++) {
          wanted[i] =
              switch (tensor.dtype()) {
                case F32 -> bytes.getFloat(at + 4 * i);
                case BF16 -> Float.intBitsToFloat(bytes.getShort(at + 2 * i) << 16);
                case F16 -> Float.float16ToFloat(bytes.getShort(at + 2 * i));
                case I32 -> bytes.getInt(at + 4 * i);
                case Q8_0, Q4_0, Q4_K, Q6_K -> throw new AssertionError("no safetensors type");
              };
        }
        assertThat(tensor.toFloats()).isEqualTo(wanted);
      }
    }
  }

  @Test
  void tensorsAreReadOnlyViewsOfTheMappedFileInTheOrderOfTheirData() throws IOException {
    String backwards =
        """
        {"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]},\
        "a":{"dtype":"I32","shape":[],"data_offsets":[0,4]},\
        "none":{"dtype":"F16","shape":[3,0],"data_offsets":[4,4]}}   \s""";
    try (SafeTensors tensors = SafeTensors.open(file(TestFiles.safetensors(backwards, 8)))) {
      assertThat(tensors.entries())
          .extracting(SafeTensors.Entry::name)
          .containsExactly("a", "none", "b");
      assertThat(tensors.metadata()).isEmpty();
      assertThat(tensors.contains("c")).isFalse();
      assertThat(tensors.tensor("a").shape()).isEqualTo(Shape.of());
      assertThat(tensors.tensor("a").getInt(0)).isEqualTo(0x03020100);
      assertThat(tensors.tensor("none").size()).isZero();
      assertThat(tensors.tensor("b").segment().isMapped()).isTrue();
      assertThat(tensors.tensor("b").segment().isReadOnly()).isTrue();
      assertThat(tensors.entry("b")).hasToString("\"b\" I32[1]");
    }
  }

  @Test
  void metadataKeepsItsOrder() throws IOException {
    String header = "{\"__metadata__\":{\"z\":\"1\",\"format\":\"pt\",\"ä\":\"\"}}";
    try (SafeTensors tensors = SafeTensors.open(file(TestFiles.safetensors(header, 0)))) {
      assertThat(tensors.metadata().sequencedEntrySet())
          .extracting(Object::toString)
          .containsExactly("z=1", "format=pt", "ä=");
    }
  }

  @Test
  void otherElementTypesAreListedAndTheirBytesGivenButNoTensor() throws IOException {
    String header =
        """
        {"ids":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},\
        "flags":{"dtype":"BOOL","shape":[3],"data_offsets":[16,19]},\
        "q":{"dtype":"F4","shape":[2,3],"data_offsets":[19,22],"block":[16,{"x":null}]}}""";
    Path path = file(TestFiles.safetensors(header, 22));
    try (SafeTensors tensors = SafeTensors.open(path)) {
      assertThat(tensors.entry("ids").readable()).isNull();
      assertThat(tensors.entry("ids").bytes()).isEqualTo(16);
      assertThat(tensors.bytes("flags").byteSize()).isEqualTo(3);
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> tensors.tensor("ids"))
          .withMessage(path + ": tensor \"ids\" is I64, want F32, BF16, F16 or I32");
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> tensors.tensor("idz"))
          .withMessage(path + ": no tensor \"idz\"; it has 3 tensors");
    }
  }

  @Test
  void tensorAtAnOddAddressIsCopiedOnceAndReadsTheSame() throws IOException {
    byte[] bytes = TestFiles.safetensors(TWO + " ", 34);
    int start = bytes.length - 34;
    assertThat(start % 4).as("the case is only one when data start unaligned").isNotZero();
    try (SafeTensors tensors = SafeTensors.open(file(bytes))) {
      Tensor a = tensors.tensor("a");
      assertThat(a.segment().address() % 4).isZero();
      assertThat(tensors.tensor("a").segment().address()).isEqualTo(a.segment().address());
      ByteBuffer data = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
      for (int i = 0; i < 6; i++) {
        assertThat(a.get(i)).isEqualTo(data.getFloat(start + 4 * i));
      }
    }
  }

  @Test
  void tensorsEndWithTheirReaderOrWithTheArenaItWasGiven() throws IOException {
    Path path = file(TestFiles.safetensors(TWO, 34));
    SafeTensors own = SafeTensors.open(path);
    Tensor gone = own.tensor("b");
    own.close();
    assertThatIllegalStateException().isThrownBy(() -> gone.get(0));
    Tensor kept;
    try (Arena arena = Arena.ofShared()) {
      try (SafeTensors given = SafeTensors.open(path, arena)) {
        kept = given.tensor("b");
      }
      assertThat(kept.dtype()).isEqualTo(DType.BF16);
      assertThat(kept.get(1)).isFinite();
    }
    assertThatIllegalStateException().isThrownBy(() -> kept.get(0));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '\0',
      textBlock =
          """
          [] | the header is not a JSON object
          {} x | the header is not JSON: Unrecognized token 'x'
          {}{} | text after the end of the header's JSON object
          {"a":{"dtype":"F32" | the header is not JSON: Unexpected end-of-input
          {"a":3} | tensor "a": described by VALUE_NUMBER_INT, want an object
          {"a":{"shape":[],"data_offsets":[0,4]}} | tensor "a": no dtype
          {"a":{"dtype":"F32","data_offsets":[0,4]}} | tensor "a": no shape
          {"a":{"dtype":"F32","shape":[1]}} | tensor "a": no data_offsets
          {"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}} | tensor "a": dtype is not a string
          {"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}} | tensor "a": unknown dtype "F33"
          {"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}} | tensor "a": dtype given twice
          {"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}} | tensor "a": shape is not a list
          {"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}} | tensor "a": shape contains "1.0", want whole numbers
          {"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}} | tensor "a": shape contains "1", want whole numbers
          {"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}} | tensor "a": shape contains "-1", want whole numbers
          {"a":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}} | tensor "a": shape contains "18446744073709551617"
          {"a":{"dtype":"F32","shape":[null],"data_offsets":[0,4]}} | tensor "a": shape contains "null"
          {"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}} | tensor "a": shape [4294967296, 4294967296] is beyond counting
          {"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}} | tensor "a": shape [4611686018427387904] is beyond counting
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}} | tensor "a": F32[2] takes 8 bytes, but data_offsets [0, 4) hold 4 bytes
          {"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}} | tensor "a": F4[3] takes 12 bits
          {"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}} | tensor "a": data_offsets [0], want [begin, end]
          {"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}} | tensor "a": data_offsets [4, 0], want [begin, end]
          {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}} | tensor "a": data_offsets has more than 2 numbers
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} | tensor "a": data_offsets [0, 8) but the file has 4 bytes of data; it is cut short
          {"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}} | tensor "a": data_offsets [2, 4) leave a gap; the tensor before it ends at 0
          {"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}} | 2 bytes after the last tensor
          {} | 4 bytes after the last tensor
          {"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}} | tensor "b": data_offsets [0, 2) overlap another tensor; the tensor before it ends at 2
          {"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}} | tensor "a": described twice
          {"__metadata__":[]} | __metadata__ is not a JSON object
          {"__metadata__":{"a":1}} | __metadata__ "a" is not a string
          {"__metadata__":{"a":"1","a":"2"}} | __metadata__ has "a" twice
          {"__metadata__":{},"__metadata__":{}} | two __metadata__ in the header
          {"\\udc00":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} | the header is not JSON: Unexpected low surrogate in field name
          """)
  void brokenHeaderIsOneLineThatNamesFileAndFault(String header, String fault) throws IOException {
    Path path = file(TestFiles.safetensors(header, 4));
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(path).close())
        .withMessageStartingWith(path + ": ")
        .withMessageContaining(fault)
        .satisfies(e -> assertThat(e.getMessage()).doesNotContain("\n"));
  }

  @Test
  void headerLengthIsCheckedBeforeAnythingIsAllocated() throws IOException {
    for (long length : new long[] {0, 1, 100, 100_000_000, 100_000_001, 1L << 40, -1L}) {
      byte[] bytes = TestFiles.safetensors("{}", 0);
      ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(0, length);
      Path path = file(bytes);
      long before = TestFiles.allocatedBytes();
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> SafeTensors.open(path).close())
          .withMessageContaining(Long.toUnsignedString(length));
      assertThat(TestFiles.allocatedBytes() - before).isLessThan(10_000_000);
    }
  }

  @Test
  void headerMustBeUtf8() throws IOException {
    byte[] bytes = TestFiles.safetensors("{\"__metadata__\":{\"a\":\"xx\"}}", 0);
    bytes[new String(bytes, StandardCharsets.ISO_8859_1).indexOf("xx")] = (byte) 0xc0;
    Path path = file(bytes);
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(path).close())
        .withMessage(path + ": the header is not UTF-8 text");
  }

  @Test
  void endlessNamesAreCutInMessages() throws IOException {
    String header = "{\"%s\":{}}".formatted("n".repeat(20_000));
    Path path = file(TestFiles.safetensors(header, 0));
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(path).close())
        .withMessage(path + ": tensor \"" + "n".repeat(160) + "...\": no dtype");
  }

  @Test
  void missingFileAndFolderAreNamed() {
    Path missing = dir.resolve("none.safetensors");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(missing).close())
        .withMessage(missing + ": no such file");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(dir).close())
        .withMessage(dir + ": not a regular file");
  }

  @Test
  void everyTruncationIsRefused() throws IOException {
    byte[] whole = TestFiles.safetensors(TWO, 34);
    SafeTensors.open(file(whole)).close();
    for (int length = 0; length < whole.length; length++) {
      Path path = file(Arrays.copyOf(whole, length));
      assertThatExceptionOfType(FormatException.class)
          .as("cut to %d of %d bytes", length, whole.length)
          .isThrownBy(() -> SafeTensors.open(path).close())
          .withMessageStartingWith(path + ": ");
    }
    Path longer = file(Arrays.copyOf(whole, whole.length + 1));
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> SafeTensors.open(longer).close())
        .withMessage(longer + ": 1 bytes after the last tensor");
  }

  /// Flipped bits, overwritten bytes, swapped digits and lies about lengths: whatever still opens
  /// gives tensors that lie in the file; everything else is a FormatException.
  @Test
  void mutatedFilesOpenSoundOrAreRefused() throws IOException {
    byte[] whole = TestFiles.safetensors(TWO, 34);
    int header = whole.length - 34 - 8;
    Random random = new Random(7);
    int opened = 0;
    int refused = 0;
    for (int round = 0; round < 4000; round++) {
      byte[] bytes = whole.clone();
      for (int edits = 1 + random.nextInt(3); edits > 0; edits--) {
        int at = 8 + random.nextInt(header);
        switch (random.nextInt(5)) {
          case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
          case 1 -> bytes[at] = (byte) random.nextInt();
          case 2 -> {
            while (bytes[at] < '0' || bytes[at] > '9') {
              at = 8 + random.nextInt(header);
            }
            bytes[at] = (byte) ('0' + random.nextInt(10));
          }
          case 3 -> bytes[random.nextInt(8)] = (byte) random.nextInt();
          default -> bytes = Arrays.copyOf(bytes, Math.max(0, bytes.length - random.nextInt(4)));
        }
        header = Math.min(whole.length - 34, bytes.length) - 8;
      }
      Path path = file(bytes);
      long before = TestFiles.allocatedBytes();
      try (SafeTensors tensors = SafeTensors.open(path)) {
        opened++;
        for (SafeTensors.Entry entry : tensors.entries()) {
          assertThat(tensors.bytes(entry.name()).byteSize()).isEqualTo(entry.bytes());
          if (entry.readable() != null && entry.shape().size() > 0) {
            tensors.tensor(entry.name()).get(entry.shape().size() - 1);
          }
        }
      } catch (FormatException e) {
        refused++;
        assertThat(e.getMessage()).startsWith(path + ": ").doesNotContain("\n");
      }
      assertThat(TestFiles.allocatedBytes() - before).isLessThan(10_000_000);
    }
    assertThat(opened).isGreaterThan(20);
    assertThat(refused).isGreaterThan(2000);
  }
}
