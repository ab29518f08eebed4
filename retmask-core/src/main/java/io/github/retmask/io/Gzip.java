package io.github.retmask.io;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import java.util.zip.ZipException;

/// Files that may be compressed. Reading looks at the first two bytes, writing at the name.
final class Gzip {
  private static final int BUFFER = 1 << 16;
  private static final int LEVEL = 6;

  private Gzip() {}

  /// Opens a plain or gzip-compressed file. Damaged or incomplete compressed data are a
  /// [FormatException] that names the file.
  static InputStream open(Path file) throws IOException {
    InputStream raw;
    try {
      raw = new BufferedInputStream(Files.newInputStream(file), BUFFER);
    } catch (IOException e) {
      throw notRead(file, e);
    }
    try {
      raw.mark(2);
      boolean compressed = raw.read() == 0x1f && raw.read() == 0x8b;
      raw.reset();
      return compressed ? new Compressed(raw, file) : raw;
    } catch (IOException e) {
      raw.close();
      throw notRead(file, e);
    }
  }

  private static IOException notRead(Path file, IOException e) {
    return new IOException("%s: not read: %s".formatted(file, AtomicFiles.reason(e)), e);
  }

  /// A stream that compresses when the name of `file` ends in `.gz`: no time, no name, level 6, so
  /// equal content gives equal bytes. The caller finishes it ([#finish]).
  static OutputStream wrap(Path file, OutputStream out) throws IOException {
    return file.toString().endsWith(".gz") ? new FixedLevel(out) : out;
  }

  /// Writes what a stream of [#wrap] still holds, and leaves the stream below open.
  static void finish(OutputStream out) throws IOException {
    if (out instanceof GZIPOutputStream gzip) {
      gzip.finish();
    }
    out.flush();
  }

  private static final class FixedLevel extends GZIPOutputStream {
    FixedLevel(OutputStream out) throws IOException {
      super(out, BUFFER);
      def.setLevel(LEVEL);
    }
  }

  /// Translates what the decompressor reports.
  private static final class Compressed extends FilterInputStream {
    private final Path file;

    Compressed(InputStream raw, Path file) throws IOException {
      super(raw);
      this.file = file;
      try {
        in = new BufferedInputStream(new GZIPInputStream(raw, BUFFER), BUFFER);
      } catch (EOFException | ZipException e) {
        raw.close();
        throw damaged(e);
      }
    }

    @Override
    public int read() throws IOException {
      try {
        return in.read();
      } catch (EOFException | ZipException e) {
        throw damaged(e);
      }
    }

    @Override
    public int read(byte[] bytes, int offset, int length) throws IOException {
      try {
        return in.read(bytes, offset, length);
      } catch (EOFException | ZipException e) {
        throw damaged(e);
      }
    }

    private FormatException damaged(IOException e) {
      return e instanceof EOFException
          ? new FormatException(file + ": the compressed data end early: the file is incomplete", e)
          : new FormatException(
              "%s: damaged gzip data: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
  }
}
