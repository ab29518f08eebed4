package io.github.retmask.train;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Path;
import java.util.SequencedMap;

/// `metrics.jsonl`: a line of JSON per logged step, under the names that TRL logs. Nothing in it
/// depends on the clock, so the same training writes the same bytes. Locked while it is open: one
/// process trains into a folder.
final class MetricsLog implements AutoCloseable {
  private static final JsonFactory JSON = new JsonFactory();

  // Not a channel: an interrupt closes those.
  private final RandomAccessFile file;

  private final Path path;

  MetricsLog(Path path) throws IOException {
    this.path = path;
    this.file = new RandomAccessFile(path.toFile(), "rw");
    try {
      lock();
    } catch (Throwable failure) {
      file.close();
      throw failure;
    }
  }

  boolean isEmpty() throws IOException {
    return file.length() == 0;
  }

  /// Continues after so many bytes; what was written later is cut off.
  ///
  /// @param bytes length at the checkpoint that is continued
  void cut(long bytes) throws IOException {
    if (file.length() < bytes) {
      throw new IOException(
          "%s: has %d bytes, but had %d at the checkpoint; begin anew with --restart"
              .formatted(path, file.length(), bytes));
    }
    file.setLength(bytes);
    file.seek(bytes);
  }

  /// Held until the file is closed.
  private void lock() throws IOException {
    boolean free;
    try {
      free = file.getChannel().tryLock() != null;
    } catch (OverlappingFileLockException e) {
      free = false;
    }
    if (!free) {
      throw new IOException(path + ": another process is training into this folder");
    }
  }

  void write(Trainer.Progress at, SequencedMap<String, Double> means) throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    try (JsonGenerator json = JSON.createGenerator(line)) {
      json.writeStartObject();
      json.writeNumberField("step", at.step());
      json.writeNumberField("epoch", at.epoch());
      json.writeNumberField("loss", means.get("loss"));
      json.writeNumberField("learning_rate", at.learningRate());
      json.writeNumberField("grad_norm", at.gradNorm());
      for (var mean : means.entrySet()) {
        if (!mean.getKey().equals("loss")) {
          json.writeNumberField(mean.getKey(), mean.getValue());
        }
      }
      json.writeNumberField("num_tokens", at.numTokens());
      json.writeEndObject();
    }
    line.write('\n');
    file.write(line.toByteArray());
  }

  /// Forces what was written to the disk.
  ///
  /// @return length of the file
  long bytesOnDisk() throws IOException {
    file.getFD().sync();
    return file.length();
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
