package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.TreeMap;

/// Writes safetensors files: tensors in the order in which they were added, metadata sorted by key,
/// the header padded with blanks to a multiple of 8 bytes. The same tensors give the same bytes.
///
/// Data go from where they lie to the file in pieces; no tensor is copied as a whole. The format
/// has no gaps between tensors: after a 16-bit tensor with an odd number of elements the next ones
/// are not 4-byte aligned, so add such tensors last.
public final class SafeTensorsWriter {
  /// The metadata that Hugging Face's loaders ask for.
  public static final Map<String, String> PYTORCH = Map.of("format", "pt");

  private static final JsonFactory JSON = new JsonFactory();
  private static final int PIECE_BYTES = 8 << 20;
  private static final int HEADER_ALIGNMENT = 8;

  private final Map<String, String> metadata;
  private final SequencedMap<String, Item> items = new LinkedHashMap<>();

  /// Takes the bytes of a tensor in order.
  @FunctionalInterface
  public interface Sink {
    /// Takes the next bytes; the segment may change afterwards.
    void write(MemorySegment bytes) throws IOException;
  }

  /// Makes the bytes of a tensor while the file is written.
  @FunctionalInterface
  public interface Source {
    /// Called once; hands over all bytes, row-major and little-endian.
    void writeTo(Sink sink) throws IOException;
  }

  /// A tensor to write.
  private sealed interface Item {
    String name();

    String dtype();

    Shape shape();

    /// Length in the file.
    long bytes();
  }

  /// A tensor in memory, rounded on the way when `rounding` says so.
  private record Stored(
      String name, String dtype, Shape shape, MemorySegment data, Rounding rounding)
      implements Item {
    @Override
    public long bytes() {
      return rounding.bytes(data.byteSize());
    }
  }

  /// A tensor that is made when its turn comes.
  private record Made(String name, DType type, Shape shape, Source source) implements Item {
    @Override
    public String dtype() {
      return type.name();
    }

    @Override
    public long bytes() {
      return Math.multiplyExact(shape.size(), type.bytes());
    }
  }

  /// An empty file.
  ///
  /// @param metadata the file's `__metadata__`; left out when empty
  public SafeTensorsWriter(Map<String, String> metadata) {
    this.metadata = new TreeMap<>(metadata);
  }

  /// Adds a host tensor. It must stay as it is until [#writeTo] returns.
  ///
  /// @throws IllegalArgumentException when the name is taken or cannot be written, or for a block
  ///     type
  public SafeTensorsWriter add(Tensor tensor) {
    return add(tensor, tensor.dtype());
  }

  /// Adds a tensor that is stored as `stored`: its own type, or BF16 or F16 for an F32 tensor,
  /// rounded to nearest, ties to even. It must stay as it is until [#writeTo] returns.
  ///
  /// @throws IllegalArgumentException when the name is taken or cannot be written, or for another
  ///     pair of types
  public SafeTensorsWriter add(Tensor tensor, DType stored) {
    return add(
        new Stored(
            tensor.name(),
            stored.name(),
            tensor.shape(),
            tensor.toHost().segment(),
            Rounding.between(tensor, stored)));
  }

  /// Adds a tensor of any element type as it lies in another file, which must stay open until
  /// [#writeTo] returns.
  ///
  /// @throws FormatException when that file has no such tensor
  /// @throws IllegalArgumentException when the name is taken
  public SafeTensorsWriter add(SafeTensors from, String name) {
    SafeTensors.Entry entry = from.entry(name);
    return add(new Stored(name, entry.dtype(), entry.shape(), from.bytes(name), Rounding.NONE));
  }

  /// Adds a tensor that is made while it is written, so that it never has to lie in memory as a
  /// whole. Tensors added before it are written before it is made, those added after it afterwards:
  /// its source may still fill them.
  ///
  /// @throws IllegalArgumentException when the name is taken or cannot be written
  public SafeTensorsWriter add(String name, DType dtype, Shape shape, Source source) {
    return add(new Made(name, dtype, shape, source));
  }

  private SafeTensorsWriter add(Item item) {
    String name = item.name();
    if (name.equals(SafeTensorsHeader.METADATA)) {
      throw new IllegalArgumentException("tensor name " + name + " is reserved by the format");
    }
    if (isBlock(item.dtype())) {
      throw new IllegalArgumentException(
          "tensor %s is %s, which a safetensors file cannot hold"
              .formatted(FormatException.quote(name), item.dtype()));
    }
    if (!StandardCharsets.UTF_8.newEncoder().canEncode(name)) {
      throw new IllegalArgumentException(
          "tensor name %s is not Unicode text".formatted(FormatException.quote(name)));
    }
    if (items.putIfAbsent(name, item) != null) {
      throw new IllegalArgumentException(
          "two tensors are named %s".formatted(FormatException.quote(name)));
    }
    return this;
  }

  private static boolean isBlock(String dtype) {
    return Arrays.stream(DType.values()).anyMatch(t -> t.isBlock() && t.name().equals(dtype));
  }

  /// Writes the file through [AtomicFiles].
  ///
  /// @throws IOException one line that names the file and says why it was not written
  /// @throws IllegalArgumentException when a finite value lies beyond the 16-bit type it should be
  ///     rounded to, or the header would exceed what readers accept
  public void writeTo(Path file) throws IOException {
    MemorySegment head = MemorySegment.ofArray(head());
    AtomicFiles.writeChannel(file, channel -> write(channel, head, items.values()));
  }

  /// Writes `source` again with some of its tensors replaced: the same header, byte for byte.
  ///
  /// @param replaced by name; of the source's shape, and its type or F32 for BF16 and F16
  static void rewrite(FileChannel channel, SafeTensors source, Map<String, Tensor> replaced)
      throws IOException {
    List<Item> items = new ArrayList<>();
    for (SafeTensors.Entry entry : source.entries()) {
      String name = entry.name();
      Tensor tensor = replaced.get(name);
      items.add(
          tensor == null
              ? new Stored(name, entry.dtype(), entry.shape(), source.bytes(name), Rounding.NONE)
              : new Stored(
                  name,
                  entry.dtype(),
                  entry.shape(),
                  tensor.toHost().segment(),
                  Rounding.between(tensor, DType.valueOf(entry.dtype()))));
    }
    write(channel, source.head(), items);
  }

  private static void write(FileChannel channel, MemorySegment head, Collection<Item> items)
      throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment piece = arena.allocate(PIECE_BYTES, Long.BYTES);
      writeFully(channel, head);
      for (Item item : items) {
        switch (item) {
          case Stored stored -> write(channel, stored, piece);
          case Made made -> write(channel, made);
        }
      }
    }
  }

  private static void write(FileChannel channel, Stored item, MemorySegment piece)
      throws IOException {
    if (item.rounding == Rounding.NONE) {
      writeFully(channel, item.data);
      return;
    }
    long elements = item.data.byteSize() / Float.BYTES;
    long most = PIECE_BYTES / Short.BYTES;
    for (long from = 0; from < elements; from += most) {
      long count = Math.min(most, elements - from);
      item.rounding.round(item.name, item.data, from, piece, count);
      writeFully(channel, piece.asSlice(0, count * Short.BYTES));
    }
  }

  private static void write(FileChannel channel, Made item) throws IOException {
    long[] written = {0};
    item.source.writeTo(
        bytes -> {
          writeFully(channel, bytes);
          written[0] += bytes.byteSize();
        });
    if (written[0] != item.bytes()) {
      throw new IllegalStateException(
          "tensor %s %s%s: its source wrote %d bytes, want %d"
              .formatted(item.name, item.type, item.shape, written[0], item.bytes()));
    }
  }

  private static void writeFully(FileChannel channel, MemorySegment bytes) throws IOException {
    for (long from = 0; from < bytes.byteSize(); from += PIECE_BYTES) {
      long length = Math.min(PIECE_BYTES, bytes.byteSize() - from);
      ByteBuffer buffer = bytes.asSlice(from, length).asByteBuffer();
      while (buffer.hasRemaining()) {
        channel.write(buffer);
      }
    }
  }

  /// Header length and header.
  private byte[] head() throws IOException {
    ByteArrayOutputStream header = new ByteArrayOutputStream();
    header.writeBytes(new byte[Long.BYTES]);
    try (JsonGenerator json = JSON.createGenerator(header)) {
      json.writeStartObject();
      if (!metadata.isEmpty()) {
        json.writeObjectFieldStart(SafeTensorsHeader.METADATA);
        for (Map.Entry<String, String> entry : metadata.entrySet()) {
          json.writeStringField(entry.getKey(), entry.getValue());
        }
        json.writeEndObject();
      }
      long offset = 0;
      for (Item item : items.values()) {
        long[] dims = item.shape().dims();
        json.writeObjectFieldStart(item.name());
        json.writeStringField("dtype", item.dtype());
        json.writeFieldName("shape");
        json.writeArray(dims, 0, dims.length);
        json.writeFieldName("data_offsets");
        json.writeArray(new long[] {offset, offset + item.bytes()}, 0, 2);
        json.writeEndObject();
        offset += item.bytes();
      }
      json.writeEndObject();
    }
    while (header.size() % HEADER_ALIGNMENT != 0) {
      header.write(' ');
    }
    byte[] head = header.toByteArray();
    long length = head.length - Long.BYTES;
    if (length > SafeTensors.MAX_HEADER_BYTES) {
      throw new IllegalArgumentException(
          "%d tensors need a header of %d bytes, want at most %d"
              .formatted(items.size(), length, SafeTensors.MAX_HEADER_BYTES));
    }
    ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN).putLong(0, length);
    return head;
  }
}
