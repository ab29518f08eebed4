package io.github.retmask.gguf;

import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.FormatException;
import io.github.retmask.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.SequencedMap;

/// A GGUF file of version 2 or 3, little endian, memory-mapped.
///
/// [#open] checks the whole header against the file: a tensor that is handed out lies inside the
/// file, apart from all others, and has the length its shape says. Metadata arrays and tensors stay
/// in the file until they are asked for, so that what is allocated is a small multiple of the header.
record GgufFile(
    Path file,
    Arena arena,
    GgufMetadata metadata,
    SequencedMap<String, Entry> tensors,
    MemorySegment data)
    implements AutoCloseable {

  /// What the header says of one tensor.
  ///
  /// @param shape extents, outermost first; the file lists them innermost first
  /// @param offset first byte, counted from the beginning of the data
  record Entry(String name, GgufType type, Shape shape, long offset, long bytes) {
    @Override
    public String toString() {
      return FormatException.quote(name) + " " + type.name() + shape;
    }
  }

  /// Opens a file.
  ///
  /// @throws FormatException when it is missing or no valid GGUF file
  /// @throws IOException when the system refuses to read or map it
  static GgufFile open(Path file) throws IOException {
    if (!Files.isRegularFile(file)) {
      throw new FormatException(
          file + ": " + (Files.exists(file) ? "not a regular file" : "no such file"));
    }
    Arena arena = Arena.ofShared();
    try {
      MemorySegment mapped;
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
        mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      } catch (IOException e) {
        throw new IOException("%s: not read: %s".formatted(file, AtomicFiles.reason(e)), e);
      }
      GgufHeader header = new GgufHeader(file, mapped);
      header.read();
      return new GgufFile(file, arena, header.metadata(), header.tensors(), header.data());
    } catch (Throwable failure) {
      arena.close();
      throw failure;
    }
  }

  /// The bytes of a tensor, as they lie in the file.
  MemorySegment bytes(Entry entry) {
    return data.asSlice(entry.offset, entry.bytes);
  }

  /// Unmaps the file; nothing read from it must be used after that.
  @Override
  public void close() {
    arena.close();
  }
}
