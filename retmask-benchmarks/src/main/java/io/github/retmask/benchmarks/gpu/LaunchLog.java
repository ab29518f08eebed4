package io.github.retmask.benchmarks.gpu;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/// Reads what the stand-in driver notes of launches: runs an op once and counts what it queues.
final class LaunchLog implements GpuOps.Watch, AutoCloseable {
  /// Names the file, for the driver and for us.
  static final String VARIABLE = "RETMASK_EMULATED_LAUNCHES";

  private final RandomAccessFile file;
  private Map<Entry, Integer> latest = Map.of();

  /// One kind of launch.
  record Entry(String kernel, int gridX, int gridY, int gridZ, int threads, int sharedBytes) {
    long blocks() {
      return (long) gridX * gridY * gridZ;
    }
  }

  LaunchLog(Path file) throws IOException {
    this.file = new RandomAccessFile(file.toFile(), "r");
  }

  /// Times nothing.
  @Override
  public double seconds(Runnable work) {
    read();
    work.run();
    latest = read();
    return Double.NaN;
  }

  /// What the latest op queued, and how often.
  Map<Entry, Integer> latest() {
    return latest;
  }

  private Map<Entry, Integer> read() {
    try {
      byte[] bytes = new byte[Math.toIntExact(file.length() - file.getFilePointer())];
      file.readFully(bytes);
      Map<Entry, Integer> launches = new LinkedHashMap<>();
      new String(bytes, StandardCharsets.US_ASCII)
          .lines()
          .map(LaunchLog::parse)
          .forEach(entry -> launches.merge(entry, 1, Integer::sum));
      return launches;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// `kernel gridX gridY gridZ threads sharedBytes`.
  private static Entry parse(String line) {
    String[] words = line.split(" ");
    int[] numbers = new int[words.length - 1];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = Integer.parseInt(words[i + 1]);
    }
    return new Entry(words[0], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
