package io.github.retmask.io;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/// A safetensors file, memory-mapped. Layout: header length N as an unsigned 64-bit little-endian
/// integer, N bytes of JSON, then the tensors without any gap. Format:
/// <https://github.com/huggingface/safetensors>.
///
/// [#open] checks the whole header against the file, so a tensor that is handed out lies inside the
/// file and has the length its shape says. Its values are not looked at. A tensor is a read-only view
/// of the mapped file: nothing is copied, and pages are read when they are first touched. Changing or
/// truncating the file while it is open is not detected; files replaced by [AtomicFiles] are safe.
///
/// Safe for use by many threads.
public final class SafeTensors implements AutoCloseable {
  /// Longest header that the format allows.
  static final long MAX_HEADER_BYTES = 100_000_000;

  private static final long ALIGNMENT = 4; // what Storage.Host promises to kernels

  private final Path file;
  private final Arena arena;
  private final boolean ownsArena;
  private final MemorySegment mapped;
  private final SafeTensorsHeader header;
  private final Map<String, Tensor> realigned = new ConcurrentHashMap<>();

  /// What the header says of one tensor.
  ///
  /// @param name tensor name
  /// @param dtype element type as spelled in the file; see [#readable]
  /// @param shape extents
  /// @param begin first byte, counted from the end of the header
  /// @param end byte after the last
  public record Entry(String name, String dtype, Shape shape, long begin, long end) {
    /// Length of the tensor.
    public long bytes() {
      return end - begin;
    }

    /// The element type, or null when it is one that a [Tensor] cannot have, such as I64 or BOOL.
    public @Nullable DType readable() {
      return switch (dtype) {
        case "F32" -> DType.F32;
        case "BF16" -> DType.BF16;
        case "F16" -> DType.F16;
        case "I32" -> DType.I32;
        default -> null;
      };
    }

    @Override
    public String toString() {
      return FormatException.quote(name) + " " + dtype + shape;
    }
  }

  private SafeTensors(
      Path file, Arena arena, boolean ownsArena, MemorySegment mapped, SafeTensorsHeader header) {
    this.file = file;
    this.arena = arena;
    this.ownsArena = ownsArena;
    this.mapped = mapped;
    this.header = header;
  }

  /// Opens a file; its tensors live until [#close].
  ///
  /// @throws FormatException when the file is missing or is no valid safetensors file
  /// @throws IOException when the system refuses to read or map it
  public static SafeTensors open(Path file) throws IOException {
    Arena arena = Arena.ofShared();
    try {
      return open(file, arena, true);
    } catch (Throwable failure) {
      arena.close();
      throw failure;
    }
  }

  /// Opens a file; its tensors live as long as `arena`, which the caller closes.
  ///
  /// @throws FormatException when the file is missing or is no valid safetensors file
  /// @throws IOException when the system refuses to read or map it
  public static SafeTensors open(Path file, Arena arena) throws IOException {
    return open(file, arena, false);
  }

  private static SafeTensors open(Path file, Arena arena, boolean ownsArena) throws IOException {
    JsonFiles.requireFile(file);
    MemorySegment mapped;
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
    } catch (IOException e) {
      throw new IOException("%s: not read: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
    return new SafeTensors(file, arena, ownsArena, mapped, SafeTensorsHeader.read(file, mapped));
  }

  /// The file as it was named on opening.
  public Path file() {
    return file;
  }

  /// The `__metadata__` map in file order, empty when the file has none.
  public SequencedMap<String, String> metadata() {
    return Collections.unmodifiableSequencedMap(header.metadata());
  }

  /// All tensors, in the order in which their data lie in the file.
  public List<Entry> entries() {
    return List.copyOf(header.entries().values());
  }

  /// Whether the file has a tensor of this name.
  public boolean contains(String name) {
    return header.entries().containsKey(name);
  }

  /// What the header says of a tensor.
  ///
  /// @throws FormatException when the file has no such tensor
  public Entry entry(String name) {
    Entry entry = header.entries().get(name);
    if (entry == null) {
      throw new FormatException(
          "%s: no tensor %s; it has %d tensors"
              .formatted(file, FormatException.quote(name), header.entries().size()));
    }
    return entry;
  }

  /// A tensor, as a read-only view of the file. Where the file puts a tensor at an address that is
  /// no multiple of 4 (it may), the tensor is a copy in this file's arena.
  ///
  /// @throws FormatException when the file has no such tensor, or its element type is none of F32,
  ///     BF16, F16 and I32
  public Tensor tensor(String name) {
    Entry entry = entry(name);
    DType dtype = entry.readable();
    if (dtype == null) {
      throw new FormatException(
          "%s: tensor %s is %s, want F32, BF16, F16 or I32"
              .formatted(file, FormatException.quote(name), entry.dtype()));
    }
    MemorySegment bytes = bytes(entry);
    return bytes.address() % ALIGNMENT == 0
        ? Tensor.host(name, dtype, entry.shape(), bytes)
        : realigned.computeIfAbsent(
            name,
            _ ->
                Tensor.host(
                    name,
                    dtype,
                    entry.shape(),
                    arena.allocate(bytes.byteSize(), ALIGNMENT).copyFrom(bytes).asReadOnly()));
  }

  /// The bytes of a tensor of any element type, as they lie in the file.
  ///
  /// @throws FormatException when the file has no such tensor
  public MemorySegment bytes(String name) {
    return bytes(entry(name));
  }

  private MemorySegment bytes(Entry entry) {
    return mapped.asSlice(header.dataStart() + entry.begin(), entry.bytes());
  }

  /// Everything before the first tensor: header length and header.
  MemorySegment head() {
    return mapped.asSlice(0, header.dataStart());
  }

  /// Unmaps the file when this reader opened its own arena; its tensors must not be used after that.
  @Override
  public void close() {
    if (ownsArena) {
      arena.close();
    }
  }
}
