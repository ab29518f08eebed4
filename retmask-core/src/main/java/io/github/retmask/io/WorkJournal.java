package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedInputStream;
import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.zip.CRC32C;

/// Finished items of a long piece of work, kept in `OUTPUT.partial` beside the final file, so that
/// the same command run again goes on where it was killed.
///
/// Every line is `{"sum":"0123abcd","item":{…}}`; the sum is the CRC-32C of the four bytes of the
/// previous line's sum (0 before the first) and the bytes of the item, so it vouches for everything
/// up to its line. The first item holds the options of the command; later ones are the caller's. A
/// line goes out in one write; what a killed process left unfinished at the end fails its sum and is
/// dropped. Items survive the death of the process at any byte; after a power failure the last ones
/// may be missing.
///
/// One process at a time works on a journal (file lock). Methods may be called from any thread.
public final class WorkJournal implements Closeable {
  private static final byte[] BEFORE_SUM = "{\"sum\":\"".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] BEFORE_ITEM = "\",\"item\":".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] AFTER_ITEM = "}\n".getBytes(StandardCharsets.US_ASCII);
  private static final int SUM_DIGITS = 8;
  private static final int ITEM = BEFORE_SUM.length + SUM_DIGITS + BEFORE_ITEM.length;
  private static final int VERSION = 1;

  private final Path file;
  private final FileChannel channel;
  private long[] ends = new long[16]; // where the line of each item ends; [0] is the options' line
  private int lines;
  private int sum;

  /// What to do with the journal of an earlier run.
  public enum Existing {
    /// Keep its items; refuse it when its options differ.
    RESUME,
    /// Throw it away.
    RESTART
  }

  /// Produces the final files from the finished items.
  @FunctionalInterface
  public interface Publication {
    /// Called once; writes every file atomically itself.
    void publish() throws IOException;
  }

  private WorkJournal(Path file, FileChannel channel) {
    this.file = file;
    this.channel = channel;
  }

  /// Where the journal of `output` is kept.
  public static Path path(Path output) {
    return output.resolveSibling(output.getFileName() + ".partial");
  }

  /// Opens the journal of `output`, or begins one.
  ///
  /// @param options everything that determines the result, by name; not such things as the thread
  ///     count
  /// @throws FormatException when the existing journal was begun with other options (it names them),
  ///     the file is no journal, or a new journal would end in replacing an output that is there
  /// @throws IOException when it cannot be read or written, or another process holds it
  public static WorkJournal open(Path output, Map<String, String> options, Existing existing)
      throws IOException {
    if (Files.exists(output) && !Files.isRegularFile(output)) {
      throw new IOException(output + ": not a regular file, results cannot replace it");
    }
    Path file = path(output);
    FileChannel channel;
    try {
      channel =
          FileChannel.open(
              file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
    } catch (IOException e) {
      throw new IOException("%s: not opened: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
    try {
      lock(file, channel);
      if (existing == Existing.RESTART) {
        channel.truncate(0);
      }
      WorkJournal journal = new WorkJournal(file, channel);
      journal.recover();
      if (journal.lines == 0) {
        if (existing == Existing.RESUME && Files.exists(output) && Files.size(output) > 0) {
          if (channel.size() == 0) {
            Files.delete(file); // begun by this call
          }
          throw new FormatException(
              output
                  + ": is there already, and not as a result of this command; choose another name, or replace it with --restart");
        }
        journal.begin(options);
      } else {
        journal.checkOptions(options);
        channel.truncate(journal.end());
      }
      return journal;
    } catch (Throwable failure) {
      channel.close();
      throw failure;
    }
  }

  /// Number of finished items.
  public synchronized int size() {
    return lines - 1;
  }

  /// Reads back a finished item.
  ///
  /// @param index from 0, in the order of [#append]
  public synchronized ObjectNode item(int index) {
    if (index < 0 || index >= size()) {
      throw new IndexOutOfBoundsException("item " + index + " of " + size());
    }
    try {
      return read(index + 1);
    } catch (IOException e) {
      throw new UncheckedIOException("%s: not read: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
  }

  /// Adds a finished item.
  ///
  /// @throws IOException when it cannot be written; the items before it are kept
  public synchronized void append(ObjectNode item) throws IOException {
    byte[] json = Json.WRITER.writeValueAsBytes(item);
    int next = sum(sum, json, 0, json.length);
    ByteBuffer line = ByteBuffer.allocate(ITEM + json.length + AFTER_ITEM.length);
    line.put(BEFORE_SUM)
        .put(HexFormat.of().toHexDigits(next).getBytes(StandardCharsets.US_ASCII))
        .put(BEFORE_ITEM)
        .put(json)
        .put(AFTER_ITEM)
        .flip();
    long start = end();
    try {
      for (long at = start; line.hasRemaining(); ) {
        at += channel.write(line, at);
      }
    } catch (IOException e) {
      throw new IOException(
          "%s: not written: %s; %d finished items are kept, run the same command again to go on"
              .formatted(file, AtomicFiles.reason(e), Math.max(0, size())),
          e);
    }
    accept(start + ITEM + json.length + AFTER_ITEM.length, next);
  }

  /// Ends the work: `publication` writes the final files, then the journal is removed and closed.
  /// When it fails the journal stays, so the next run only has to publish.
  ///
  /// @throws IOException from `publication`, or when the journal cannot be removed
  public synchronized void finish(Publication publication) throws IOException {
    publication.publish();
    try {
      Files.delete(file);
    } catch (IOException e) {
      throw new IOException("%s: not removed: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
    channel.close();
  }

  /// Leaves the journal for a later run; nothing to do after [#finish].
  @Override
  public synchronized void close() throws IOException {
    if (channel.isOpen()) {
      try (channel) {
        channel.force(false);
      }
    }
  }

  private static void lock(Path file, FileChannel channel) throws IOException {
    boolean locked;
    try {
      locked = channel.tryLock() != null;
    } catch (OverlappingFileLockException e) {
      locked = false;
    }
    // A journal that was finished between opening and locking is gone from its folder.
    if (!locked || !Files.exists(file)) {
      throw new IOException(file + ": another process is working on it");
    }
  }

  private void begin(Map<String, String> options) throws IOException {
    channel.truncate(0);
    ObjectNode header = JsonNodeFactory.instance.objectNode();
    header.put("journal", VERSION);
    ObjectNode values = header.putObject("options");
    new TreeMap<>(options).forEach(values::put);
    append(header);
  }

  /// Finds the lines whose sums hold, from the first on.
  private void recover() throws IOException {
    channel.position(0);
    // Not closed: that would close the channel.
    InputStream in = new BufferedInputStream(Channels.newInputStream(channel), 1 << 16);
    byte[] line = new byte[1 << 12];
    int length = 0;
    boolean whole = true;
    for (int b = in.read(); b >= 0 && whole; b = in.read()) {
      if (length == line.length) {
        line = Arrays.copyOf(line, length * 2);
      }
      line[length++] = (byte) b;
      if (b == '\n') {
        whole = check(line, length);
        length = whole ? 0 : length;
      }
    }
    // Nothing kept: an unfinished first line is fine, anything else is not ours to overwrite.
    if (lines == 0) {
      int known = Math.min(length, BEFORE_SUM.length);
      if (!whole || !Arrays.equals(line, 0, known, BEFORE_SUM, 0, known)) {
        throw new FormatException(
            file + ": is no journal of unfinished work; remove it, or begin anew with --restart");
      }
    }
  }

  private boolean check(byte[] line, int length) {
    int itemEnd = length - AFTER_ITEM.length;
    if (itemEnd < ITEM
        || !matches(line, 0, BEFORE_SUM)
        || !matches(line, ITEM - BEFORE_ITEM.length, BEFORE_ITEM)
        || !matches(line, itemEnd, AFTER_ITEM)) {
      return false;
    }
    int next = sum(sum, line, ITEM, itemEnd - ITEM);
    String digits = new String(line, BEFORE_SUM.length, SUM_DIGITS, StandardCharsets.US_ASCII);
    if (!digits.equals(HexFormat.of().toHexDigits(next))) {
      return false;
    }
    accept(end() + length, next);
    return true;
  }

  private static boolean matches(byte[] line, int at, byte[] wanted) {
    return Arrays.equals(line, at, at + wanted.length, wanted, 0, wanted.length);
  }

  private static int sum(int previous, byte[] bytes, int offset, int length) {
    CRC32C crc = new CRC32C();
    crc.update(ByteBuffer.allocate(Integer.BYTES).putInt(previous).flip());
    crc.update(bytes, offset, length);
    return (int) crc.getValue();
  }

  private void accept(long end, int next) {
    if (lines == ends.length) {
      ends = Arrays.copyOf(ends, lines * 2);
    }
    ends[lines++] = end;
    sum = next;
  }

  private long end() {
    return lines == 0 ? 0 : ends[lines - 1];
  }

  private ObjectNode read(int line) throws IOException {
    long start = (line == 0 ? 0 : ends[line - 1]) + ITEM;
    ByteBuffer json = ByteBuffer.allocate(Math.toIntExact(ends[line] - AFTER_ITEM.length - start));
    for (long at = start; json.hasRemaining(); ) {
      int read = channel.read(json, at);
      if (read < 0) {
        throw new IOException("shorter than it was");
      }
      at += read;
    }
    try {
      return (ObjectNode) Json.READER.readTree(json.array());
    } catch (JsonProcessingException | ClassCastException e) {
      throw new FormatException(file + " line " + (line + 1) + ": not the object written there", e);
    }
  }

  private void checkOptions(Map<String, String> options) throws IOException {
    ObjectNode header = read(0);
    if (header.path("journal").asInt() != VERSION || !header.path("options").isObject()) {
      throw new FormatException(
          file + ": journal of another version of this program; begin anew with --restart");
    }
    SortedMap<String, String> begun = new TreeMap<>();
    header.get("options").properties().forEach(e -> begun.put(e.getKey(), e.getValue().asText()));
    SortedMap<String, String> names = new TreeMap<>(begun);
    names.putAll(options);
    List<String> differences = new ArrayList<>();
    for (String name : names.keySet()) {
      String then = begun.get(name);
      String now = options.get(name);
      if (then == null) {
        differences.add("without " + name + ", now " + name + "=" + now);
      } else if (now == null) {
        differences.add("with " + name + "=" + then + ", now without");
      } else if (!then.equals(now)) {
        differences.add("with " + name + "=" + then + ", now " + now);
      }
    }
    if (!differences.isEmpty()) {
      throw new FormatException(
          "%s: begun %s; repeat those options to go on, or begin anew with --restart"
              .formatted(file, String.join("; ", differences)));
    }
  }
}
