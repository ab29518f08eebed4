package io.github.retmask.gguf;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/// A metadata value; strings and arrays stay in the mapped file until they are asked for.
///
/// What is wrong with a value is thrown as an [IllegalArgumentException] that goes on after its key:
/// "is ..., want ...". Whoever knows file and key puts them in front.
sealed interface GgufValue {
  ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// The types of values: `gguf_metadata_value_type` of the format, in the order of their numbers.
  enum Kind {
    UINT8(1),
    INT8(1),
    UINT16(2),
    INT16(2),
    UINT32(4),
    INT32(4),
    FLOAT32(4),
    BOOL(1),
    STRING(0),
    ARRAY(0),
    UINT64(8),
    INT64(8),
    FLOAT64(8);

    private static final Kind[] ALL = values();
    private final int bytes;

    Kind(int bytes) {
      this.bytes = bytes;
    }

    /// The kind of this number, unsigned.
    ///
    /// @throws IllegalArgumentException when there is none
    static Kind of(int number) {
      if (number < 0 || number >= ALL.length) {
        throw new IllegalArgumentException(
            "has unknown value type %s, want 0 to %d"
                .formatted(Integer.toUnsignedString(number), ALL.length - 1));
      }
      return ALL[number];
    }

    /// Bytes of a value; 0 where they differ from value to value.
    int bytes() {
      return bytes;
    }

    boolean isInteger() {
      return switch (this) {
        case UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64 -> true;
        case FLOAT32, FLOAT64, BOOL, STRING, ARRAY -> false;
      };
    }
  }

  /// What kind of value it is.
  Kind kind();

  /// A whole number that fits a signed 64-bit one.
  record Whole(Kind kind, long value) implements GgufValue {}

  /// A real number.
  record Real(Kind kind, double value) implements GgufValue {}

  /// A truth value.
  record Flag(boolean value) implements GgufValue {
    @Override
    public Kind kind() {
      return Kind.BOOL;
    }
  }

  /// A text.
  ///
  /// @param bytes UTF-8, not yet checked
  record Text(MemorySegment bytes) implements GgufValue {
    @Override
    public Kind kind() {
      return Kind.STRING;
    }
  }

  /// A list of values of one kind that is no list.
  ///
  /// @param item kind of the items
  /// @param bytes the items one after another, lengths of strings included; all lie inside the file
  record Items(Kind item, int count, MemorySegment bytes) implements GgufValue {
    @Override
    public Kind kind() {
      return Kind.ARRAY;
    }

    /// The items as texts.
    List<String> texts() {
      if (item != Kind.STRING) {
        throw new IllegalArgumentException("is an array of %s, want STRING".formatted(item));
      }
      List<String> texts = new ArrayList<>(count);
      long at = 0;
      for (int i = 0; i < count; i++) {
        long length = bytes.get(LONG, at);
        texts.add(text(bytes.asSlice(at + Long.BYTES, length), i));
        at += Long.BYTES + length;
      }
      return texts;
    }

    private static String text(MemorySegment bytes, int index) {
      try {
        return utf8(bytes);
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException("item %d %s".formatted(index, e.getMessage()), e);
      }
    }

    /// The items as whole numbers.
    long[] wholes() {
      if (!item.isInteger()) {
        throw new IllegalArgumentException("is an array of %s, want integers".formatted(item));
      }
      long[] values = new long[count];
      for (int i = 0; i < count; i++) {
        values[i] = whole(item, bytes, (long) i * item.bytes());
      }
      return values;
    }

    /// The items as real numbers.
    double[] reals() {
      if (item != Kind.FLOAT32 && item != Kind.FLOAT64) {
        throw new IllegalArgumentException("is an array of %s, want FLOAT32".formatted(item));
      }
      double[] values = new double[count];
      for (int i = 0; i < count; i++) {
        values[i] = real(item, bytes, (long) i * item.bytes());
      }
      return values;
    }

    /// The items as truth values.
    boolean[] flags() {
      if (item != Kind.BOOL) {
        throw new IllegalArgumentException("is an array of %s, want BOOL".formatted(item));
      }
      boolean[] values = new boolean[count];
      for (int i = 0; i < count; i++) {
        values[i] = flag(bytes.get(ValueLayout.JAVA_BYTE, i));
      }
      return values;
    }
  }

  /// An integer in a file.
  static long whole(Kind kind, MemorySegment from, long at) {
    return switch (kind) {
      case UINT8 -> Byte.toUnsignedLong(from.get(ValueLayout.JAVA_BYTE, at));
      case INT8 -> from.get(ValueLayout.JAVA_BYTE, at);
      case UINT16 -> Short.toUnsignedLong(from.get(SHORT, at));
      case INT16 -> from.get(SHORT, at);
      case UINT32 -> Integer.toUnsignedLong(from.get(INT, at));
      case INT32 -> from.get(INT, at);
      case INT64 -> from.get(LONG, at);
      case UINT64 -> {
        long value = from.get(LONG, at);
        if (value < 0) {
          throw new IllegalArgumentException(
              "is %s, want at most 2^63-1".formatted(Long.toUnsignedString(value)));
        }
        yield value;
      }
      case FLOAT32, FLOAT64, BOOL, STRING, ARRAY ->
          throw new IllegalArgumentException("is %s, want an integer".formatted(kind));
    };
  }

  /// A real number in a file.
  static double real(Kind kind, MemorySegment from, long at) {
    return kind == Kind.FLOAT32
        ? Float.intBitsToFloat(from.get(INT, at))
        : Double.longBitsToDouble(from.get(LONG, at));
  }

  /// A truth value in a file, one byte.
  static boolean flag(byte value) {
    if (value != 0 && value != 1) {
      throw new IllegalArgumentException(
          "is a BOOL of byte %d, want 0 or 1".formatted(value & 255));
    }
    return value == 1;
  }

  /// Checked text.
  static String utf8(MemorySegment bytes) {
    if (bytes.byteSize() > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException("is a text of %d bytes".formatted(bytes.byteSize()));
    }
    try {
      ByteBuffer buffer = bytes.asByteBuffer();
      return StandardCharsets.UTF_8
          .newDecoder()
          .onMalformedInput(CodingErrorAction.REPORT)
          .onUnmappableCharacter(CodingErrorAction.REPORT)
          .decode(buffer)
          .toString();
    } catch (CharacterCodingException e) {
      throw new IllegalArgumentException("is not UTF-8 text", e);
    }
  }
}
