package io.github.retmask.gguf;

import io.github.retmask.gguf.GgufFile.Entry;
import io.github.retmask.gguf.GgufValue.Kind;
import io.github.retmask.io.FormatException;
import io.github.retmask.tensor.Shape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;

/// One pass over the header of a GGUF file: magic, version, counts, metadata, descriptions of the
/// tensors. What is allowed follows the format's description and the reference reader, gguf.cpp in
/// ggml; no count is believed before the file's length justifies it.
final class GgufHeader {
  static final int MAGIC = 0x46554747; // "GGUF" in little endian
  static final String ALIGNMENT = "general.alignment";
  static final int DEFAULT_ALIGNMENT = 32;

  private static final int MAX_ALIGNMENT = 1 << 20;
  private static final int MAX_KEYS = 1 << 16; // real files have some dozens
  private static final int MAX_TENSORS = 1 << 20;
  private static final int MAX_KEY_BYTES = (1 << 16) - 1; // the format's limit
  private static final int MAX_NAME_BYTES = 63; // GGML_MAX_NAME, with its closing zero
  private static final int MAX_RANK = 4; // GGML_MAX_DIMS

  private final Path file;
  private final MemorySegment mapped;
  private final long size;
  private final SequencedMap<String, GgufValue> values = new LinkedHashMap<>();
  private final SequencedMap<String, Entry> tensors = new LinkedHashMap<>();
  private long at;
  private MemorySegment data = MemorySegment.NULL;

  GgufHeader(Path file, MemorySegment mapped) {
    this.file = file;
    this.mapped = mapped;
    this.size = mapped.byteSize();
  }

  GgufMetadata metadata() {
    return new GgufMetadata(file, values);
  }

  SequencedMap<String, Entry> tensors() {
    return tensors;
  }

  /// Everything after the header.
  MemorySegment data() {
    return data;
  }

  void read() {
    if (size < 4 || mapped.get(GgufValue.INT, 0) != MAGIC) {
      throw bad("no GGUF file: it does not begin with the letters GGUF");
    }
    at = 4;
    int version = u32("the version");
    if (version != 2 && version != 3) {
      throw bad(
          (version & 0xffff) == 0 && version != 0
              ? "a big-endian GGUF file, want a little-endian one"
              : "GGUF version %s, want 2 or 3".formatted(Integer.toUnsignedString(version)));
    }
    int tensorCount = count("tensors", u64("the number of tensors"), 32, MAX_TENSORS);
    int keyCount = count("metadata keys", u64("the number of metadata keys"), 13, MAX_KEYS);
    for (int i = 0; i < keyCount; i++) {
      readKey(i);
    }
    int alignment = alignment();
    for (int i = 0; i < tensorCount; i++) {
      readTensor(i, alignment);
    }
    long padding = -at & alignment - 1;
    long start = Math.min(size, at + padding);
    data = mapped.asSlice(start, size - start);
    requireApart();
  }

  private void readKey(int index) {
    String key = string("metadata key " + index, MAX_KEY_BYTES);
    if (key.isEmpty()) {
      throw bad("metadata key %d is empty".formatted(index));
    }
    GgufValue value;
    try {
      value = value(key, Kind.of(u32(key)));
    } catch (IllegalArgumentException e) {
      throw new FormatException(
          "%s: %s %s".formatted(file, FormatException.quote(key), e.getMessage()), e);
    }
    if (values.put(key, value) != null) {
      throw bad("metadata key %s is there twice".formatted(FormatException.quote(key)));
    }
  }

  private GgufValue value(String key, Kind kind) {
    return switch (kind) {
      case STRING -> new GgufValue.Text(bytes(FormatException.quote(key), u64(key)));
      case ARRAY -> items(key);
      default -> {
        long from = at;
        need(key, kind.bytes());
        at += kind.bytes();
        yield switch (kind) {
          case FLOAT32, FLOAT64 -> new GgufValue.Real(kind, GgufValue.real(kind, mapped, from));
          case BOOL -> new GgufValue.Flag(GgufValue.flag(mapped.get(ValueLayout.JAVA_BYTE, from)));
          default -> new GgufValue.Whole(kind, GgufValue.whole(kind, mapped, from));
        };
      }
    };
  }

  private GgufValue items(String key) {
    Kind item = Kind.of(u32(key));
    if (item == Kind.ARRAY) {
      throw new IllegalArgumentException("is an array of arrays, which is not supported");
    }
    int least = item == Kind.STRING ? Long.BYTES : item.bytes();
    int count = count("items in " + FormatException.quote(key), u64(key), least, Integer.MAX_VALUE);
    long from = at;
    if (item != Kind.STRING) {
      at += (long) count * item.bytes();
    } else {
      for (int i = 0; i < count; i++) {
        bytes(FormatException.quote(key), u64(key));
      }
    }
    return new GgufValue.Items(item, count, mapped.asSlice(from, at - from));
  }

  private int alignment() {
    int alignment = metadata().integerOr(ALIGNMENT, 0, DEFAULT_ALIGNMENT);
    if (alignment < 8 || alignment > MAX_ALIGNMENT || Integer.bitCount(alignment) != 1) {
      throw metadata()
          .error(
              ALIGNMENT,
              "is %d, want a power of two from 8 to %d".formatted(alignment, MAX_ALIGNMENT));
    }
    return alignment;
  }

  private void readTensor(int index, int alignment) {
    String name = string("the name of tensor " + index, MAX_NAME_BYTES);
    String what = "tensor " + FormatException.quote(name);
    int rank = u32(what);
    if (rank < 1 || rank > MAX_RANK) {
      throw bad(
          "%s has %s extents, want 1 to %d"
              .formatted(what, Integer.toUnsignedString(rank), MAX_RANK));
    }
    long[] dims = new long[rank];
    for (int i = rank - 1; i >= 0; i--) {
      dims[i] = u64(what);
      if (dims[i] < 1) {
        throw bad(
            "%s has an extent of %s, want 1 to 2^63-1"
                .formatted(what, Long.toUnsignedString(dims[i])));
      }
    }
    int number = u32(what);
    GgufType type = GgufType.of(number);
    if (type == null) {
      throw bad("%s has unknown type %s".formatted(what, Integer.toUnsignedString(number)));
    }
    if (dims[rank - 1] % type.blockSize() != 0) {
      throw bad(
          "%s is %s%s, want a multiple of %d elements innermost"
              .formatted(what, type.name(), Arrays.toString(dims), type.blockSize()));
    }
    Shape shape;
    long bytes;
    try {
      shape = Shape.of(dims);
      bytes = Math.multiplyExact(shape.size() / type.blockSize(), type.blockBytes());
    } catch (ArithmeticException e) {
      throw new FormatException(
          "%s: %s: shape %s is beyond counting".formatted(file, what, Arrays.toString(dims)), e);
    }
    long offset = u64(what);
    if (offset < 0 || offset % alignment != 0) {
      throw bad(
          "%s begins at byte %s of the data, want a multiple of %d"
              .formatted(what, Long.toUnsignedString(offset), alignment));
    }
    if (tensors.put(name, new Entry(name, type, shape, offset, bytes)) != null) {
      throw bad(what + " is there twice");
    }
  }

  /// Every tensor must lie inside the data, and none inside another.
  private void requireApart() {
    List<Entry> sorted = new ArrayList<>(tensors.values());
    sorted.sort(Comparator.comparingLong(Entry::offset));
    long covered = 0;
    String before = "";
    for (Entry entry : sorted) {
      if (entry.offset() > data.byteSize() || entry.bytes() > data.byteSize() - entry.offset()) {
        throw bad(
            "tensor %s takes %d bytes from byte %d of the data on, but the file has %d bytes of data; it is cut short"
                .formatted(entry, entry.bytes(), entry.offset(), data.byteSize()));
      }
      if (entry.offset() < covered) {
        throw bad(
            "tensor %s begins at byte %d of the data, inside tensor %s"
                .formatted(entry, entry.offset(), FormatException.quote(before)));
      }
      covered = entry.offset() + entry.bytes();
      before = entry.name();
    }
  }

  /// Believes a count when so many things of at least `least` bytes can follow.
  private int count(String what, long count, int least, int most) {
    if (count < 0 || count > (size - at) / least || count > most) {
      throw bad(
          "%s %s in a file of %d bytes, of which %d follow"
              .formatted(Long.toUnsignedString(count), what, size, size - at));
    }
    return (int) count;
  }

  private String string(String what, int most) {
    long length = u64(what);
    if (length < 0 || length > most) {
      throw bad(
          "%s is %s bytes long, want at most %d"
              .formatted(what, Long.toUnsignedString(length), most));
    }
    try {
      return GgufValue.utf8(bytes(what, length));
    } catch (IllegalArgumentException e) {
      throw new FormatException("%s: %s %s".formatted(file, what, e.getMessage()), e);
    }
  }

  private MemorySegment bytes(String what, long length) {
    need(what, length);
    MemorySegment bytes = mapped.asSlice(at, length);
    at += length;
    return bytes;
  }

  private int u32(String what) {
    need(what, Integer.BYTES);
    at += Integer.BYTES;
    return mapped.get(GgufValue.INT, at - Integer.BYTES);
  }

  private long u64(String what) {
    need(what, Long.BYTES);
    at += Long.BYTES;
    return mapped.get(GgufValue.LONG, at - Long.BYTES);
  }

  private void need(String what, long bytes) {
    if (bytes < 0 || bytes > size - at) {
      throw bad(
          "%s needs %s bytes from byte %d on, but the file has %d; it is cut short"
              .formatted(what, Long.toUnsignedString(bytes), at, size));
    }
  }

  private FormatException bad(String what) {
    return new FormatException(file + ": " + what);
  }
}
