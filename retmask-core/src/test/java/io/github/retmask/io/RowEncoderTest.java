package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.tensor.DType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RowEncoderTest {
  private static byte[] encoded(DType dtype, float... row) {
    byte[] bytes = new byte[Math.toIntExact(dtype.bytes(row.length))];
    RowEncoder.encode(ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN), row, dtype, "w");
    return bytes;
  }

  /// Blocks of 36 magnitudes, one of zeros, and one of which many elements lie between two steps.
  private static float[] row() {
    Random random = new Random(11);
    float[] row = new float[32 * 1000];
    for (int i = 0; i < row.length; i++) {
      row[i] = (float) (random.nextGaussian() * Math.scalb(1.0, i / 32 % 36 - 20));
    }
    Arrays.fill(row, 64, 96, 0f);
    for (int i = 96; i < 128; i++) {
      row[i] = (i % 16 - 8) / 2f;
    }
    return row;
  }

  /// Checksums of what `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` of llama.cpp (in
  /// de.kherud:llama 4.2.0) write for the same row, and the bytes of its third and fourth block.
  @ParameterizedTest
  @CsvSource({
    "Q8_0, a83ce9ef, 00000000000000000000000000000000000000000000000000000000000000000000"
        + "08288191a1b1c0d0e0f000102030404f5f6f8191a1b1c0d0e0f000102030404f5f6f",
    "Q4_0, 1b93f5a9, 008088888888888888888888888888888888003800112233445566778899aabbccddeeff"
  })
  void bytesAreThoseOfLlamaCpp(DType dtype, String checksum, String blocks) {
    byte[] bytes = encoded(dtype, row());
    int block = dtype.blockBytes();
    assertThat(HexFormat.of().formatHex(bytes, 2 * block, 4 * block)).isEqualTo(blocks);
    CRC32 crc = new CRC32();
    crc.update(bytes);
    assertThat(Long.toHexString(crc.getValue())).isEqualTo(checksum);
  }

  @Test
  void aStepThatF16CannotHoldIsRefused() {
    float[] row = new float[32];
    row[3] = 1e7f;
    for (DType dtype : new DType[] {DType.Q8_0, DType.Q4_0}) {
      assertThatThrownBy(() -> encoded(dtype, row))
          .isInstanceOf(FormatException.class)
          .hasMessageStartingWith("w holds ")
          .hasMessageEndingWith("beyond what F16 holds (65504)");
    }
  }

  @Test
  void typesThatAreNotWrittenAreRefused() {
    assertThatThrownBy(() -> encoded(DType.Q6_K, new float[256]))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("Q6_K is not written");
  }
}
