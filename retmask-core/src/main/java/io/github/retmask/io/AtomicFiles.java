package io.github.retmask.io;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/// Files that appear whole or not at all. The bytes go to `.NAME.partial` in the same folder, are
/// forced to the disk, and take the final name in one move; whatever stood there before stays until
/// that move.
///
/// A failure removes the partial file. A killed process leaves it behind, and the next write to the
/// same name removes it: the writer holds a file lock on it, which ends with the process. Two
/// writers of one file at a time are refused.
///
/// A name that stands for something else than a regular file (`/dev/stdout`, a pipe) is written
/// straight to.
public final class AtomicFiles {
  private static final int CLAIM_ATTEMPTS = 5;

  private AtomicFiles() {}

  /// Writes the content of a file to a channel.
  @FunctionalInterface
  public interface ChannelBody {
    /// Called once; the channel is closed by the caller.
    void writeTo(FileChannel channel) throws IOException;
  }

  /// Writes the content of a file to a stream.
  @FunctionalInterface
  public interface StreamBody {
    /// Called once; the stream is buffered, and flushed and closed by the caller.
    void writeTo(OutputStream out) throws IOException;
  }

  /// Replaces `file` by these bytes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, byte[] bytes) throws IOException {
    write(file, out -> out.write(bytes));
  }

  /// Replaces `file` by this text in UTF-8.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, String text) throws IOException {
    write(file, text.getBytes(StandardCharsets.UTF_8));
  }

  /// Replaces `file` by what `body` writes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, StreamBody body) throws IOException {
    writeChannel(
        file,
        channel -> {
          // Not closed: that would close the channel before it is forced.
          OutputStream out = new BufferedOutputStream(Channels.newOutputStream(channel), 1 << 16);
          body.writeTo(out);
          out.flush();
        });
  }

  /// Replaces `file` by what `body` writes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void writeChannel(Path file, ChannelBody body) throws IOException {
    try {
      if (Files.exists(file) && !Files.isRegularFile(file)) {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
          body.writeTo(channel);
        }
        return;
      }
      // A link stays a link: what it points to is replaced.
      Path target = Files.exists(file) ? file.toRealPath() : file.toAbsolutePath();
      Path partial = target.resolveSibling("." + target.getFileName() + ".partial");
      try (FileChannel channel = claim(partial)) {
        try {
          body.writeTo(channel);
          channel.force(true);
          Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (Throwable failure) {
          deleteAfter(failure, partial);
          throw failure;
        }
      }
      syncDirectory(target.getParent());
    } catch (IOException e) {
      throw new IOException("%s: not written: %s".formatted(file, reason(e)), e);
    }
  }

  /// Creates `partial` and locks it; a leftover of a dead process is removed first. Nothing is ever
  /// written through a channel that did not create its file: an opened one may have been moved to a
  /// final name in the meantime.
  static FileChannel claim(Path partial) throws IOException {
    for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
      try {
        FileChannel channel =
            FileChannel.open(partial, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        if (lock(channel)) {
          return channel;
        }
        channel.close(); // another writer took it for a leftover and is removing it
      } catch (FileAlreadyExistsException e) {
        removeLeftover(partial);
      }
    }
    throw beingWritten(partial);
  }

  private static void removeLeftover(Path partial) throws IOException {
    try (FileChannel leftover = FileChannel.open(partial, StandardOpenOption.WRITE)) {
      if (!lock(leftover)) {
        throw beingWritten(partial);
      }
      Files.deleteIfExists(partial);
    } catch (NoSuchFileException e) {
      // its writer has just finished
    }
  }

  private static boolean lock(FileChannel channel) throws IOException {
    try {
      return channel.tryLock() != null;
    } catch (OverlappingFileLockException e) {
      return false;
    }
  }

  private static IOException beingWritten(Path partial) {
    return new IOException("another process is writing it (" + partial + ")");
  }

  /// Makes a rename in `directory` survive a power failure, where the system can do that.
  static void syncDirectory(Path directory) {
    try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException e) {
      // Windows opens no directories; the file is in place either way
    }
  }

  static void deleteAfter(Throwable failure, Path file) {
    try {
      Files.deleteIfExists(file);
    } catch (IOException e) {
      failure.addSuppressed(e);
    }
  }

  /// What went wrong in words; the messages of several exceptions are a bare path.
  public static String reason(IOException e) {
    return switch (e) {
      case NoSuchFileException none -> "no such file or folder: " + none.getFile();
      case AccessDeniedException denied -> "permission denied: " + denied.getFile();
      case FileAlreadyExistsException exists -> "already exists: " + exists.getFile();
      case NotDirectoryException file -> "not a folder: " + file.getFile();
      case FileSystemException other when other.getReason() != null ->
          other.getReason() + ": " + other.getFile();
      default -> e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    };
  }
}
