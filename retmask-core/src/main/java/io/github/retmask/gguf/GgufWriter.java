package io.github.retmask.gguf;

import io.github.retmask.gguf.GgufValue.Kind;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// Writes GGUF files of version 3, little endian, aligned to 32 bytes: metadata and tensors in the
/// order in which they were added. Tensors are made while the file is written and never lie in memory
/// as a whole.
final class GgufWriter {
  private static final int VERSION = 3;

  private final ByteArrayOutputStream metadata = new ByteArrayOutputStream();
  private final List<Item> items = new ArrayList<>();
  private int keys;

  /// Takes the bytes of a tensor in order; they may change afterwards.
  @FunctionalInterface
  interface Sink {
    void write(MemorySegment bytes) throws IOException;
  }

  /// Makes the bytes of a tensor.
  @FunctionalInterface
  interface Source {
    /// Called once.
    void writeTo(Sink sink) throws IOException;
  }

  private record Item(String name, GgufType type, Shape shape, Source source) {
    long bytes() {
      return Math.multiplyExact(shape.size() / type.blockSize(), type.blockBytes());
    }
  }

  void put(String key, String value) {
    begin(key, Kind.STRING);
    string(value);
  }

  void put(String key, int value) {
    begin(key, Kind.UINT32);
    u32(value);
  }

  void put(String key, float value) {
    begin(key, Kind.FLOAT32);
    u32(Float.floatToRawIntBits(value));
  }

  void put(String key, boolean value) {
    begin(key, Kind.BOOL);
    metadata.write(value ? 1 : 0);
  }

  void putTexts(String key, List<String> values) {
    beginArray(key, Kind.STRING, values.size());
    values.forEach(this::string);
  }

  void putInts(String key, int[] values) {
    beginArray(key, Kind.INT32, values.length);
    for (int value : values) {
      u32(value);
    }
  }

  void putFloats(String key, float[] values) {
    beginArray(key, Kind.FLOAT32, values.length);
    for (float value : values) {
      u32(Float.floatToRawIntBits(value));
    }
  }

  void putFlags(String key, boolean[] values) {
    beginArray(key, Kind.BOOL, values.length);
    for (boolean value : values) {
      metadata.write(value ? 1 : 0);
    }
  }

  private void begin(String key, Kind kind) {
    keys++;
    string(key);
    u32(kind.ordinal());
  }

  private void beginArray(String key, Kind item, int count) {
    begin(key, Kind.ARRAY);
    u32(item.ordinal());
    u64(metadata, count);
  }

  private void string(String value) {
    byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
    u64(metadata, bytes.length);
    metadata.writeBytes(bytes);
  }

  private void u32(int value) {
    metadata.writeBytes(little(4).putInt(value).array());
  }

  private static void u64(ByteArrayOutputStream to, long value) {
    to.writeBytes(little(8).putLong(value).array());
  }

  private static ByteBuffer little(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  /// Adds a tensor.
  void add(String name, GgufType type, Shape shape, Source source) {
    items.add(new Item(name, type, shape, source));
  }

  /// Writes the file through [AtomicFiles].
  ///
  /// @throws IOException one line that names the file and says why it was not written
  void writeTo(Path file) throws IOException {
    AtomicFiles.writeChannel(
        file,
        channel -> {
          write(channel, MemorySegment.ofArray(header()));
          for (Item item : items) {
            write(channel, item);
          }
        });
  }

  private byte[] header() {
    ByteArrayOutputStream header = new ByteArrayOutputStream();
    header.writeBytes(little(8).putInt(GgufHeader.MAGIC).putInt(VERSION).array());
    u64(header, items.size());
    u64(header, keys);
    header.writeBytes(metadata.toByteArray());
    long offset = 0;
    for (Item item : items) {
      byte[] name = item.name.getBytes(StandardCharsets.UTF_8);
      u64(header, name.length);
      header.writeBytes(name);
      header.writeBytes(little(4).putInt(item.shape.rank()).array());
      for (int axis = item.shape.rank() - 1; axis >= 0; axis--) {
        u64(header, item.shape.dim(axis));
      }
      header.writeBytes(little(4).putInt(item.type.id()).array());
      u64(header, offset);
      offset += item.bytes() + padding(item.bytes());
    }
    header.writeBytes(new byte[padding(header.size())]);
    return header.toByteArray();
  }

  private static int padding(long bytes) {
    return (int) (-bytes & GgufHeader.DEFAULT_ALIGNMENT - 1);
  }

  private static void write(FileChannel channel, Item item) throws IOException {
    long[] written = {0};
    item.source.writeTo(
        bytes -> {
          write(channel, bytes);
          written[0] += bytes.byteSize();
        });
    if (written[0] != item.bytes()) {
      throw new IllegalStateException(
          "tensor %s %s%s: its source wrote %d bytes, want %d"
              .formatted(item.name, item.type.name(), item.shape, written[0], item.bytes()));
    }
    write(channel, MemorySegment.ofArray(new byte[padding(item.bytes())]));
  }

  private static void write(FileChannel channel, MemorySegment bytes) throws IOException {
    ByteBuffer buffer = bytes.asByteBuffer();
    while (buffer.hasRemaining()) {
      channel.write(buffer);
    }
  }
}
