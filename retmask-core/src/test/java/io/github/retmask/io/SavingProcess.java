package io.github.retmask.io;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/// A process of its own that writes, to be killed or starved of disk space by a test.
final class SavingProcess {
  private SavingProcess() {}

  /// `save FROM TO` copies a checkpoint and exits with 1 and one line on a failure; `half TO` prepares
  /// half a checkpoint folder and `file TO` half a file, print a line and wait.
  public static void main(String[] args) throws IOException {
    Path last = Path.of(args[args.length - 1]);
    switch (args[0]) {
      case "save" -> {
        try (Checkpoint checkpoint = Checkpoint.open(Path.of(args[1]))) {
          checkpoint.save(last, Map.of(), IfPresent.REPLACE);
        } catch (IOException e) {
          System.out.println(e.getMessage());
          System.exit(1);
        }
      }
      case "half" ->
          CheckpointFolder.write(
              last,
              IfPresent.REPLACE,
              folder -> {
                Files.writeString(folder.resolve("model.safetensors"), "half");
                waitForTheEnd();
              });
      case "file" -> AtomicFiles.writeChannel(last, SavingProcess::half);
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  private static void half(FileChannel channel) throws IOException {
    channel.write(java.nio.ByteBuffer.wrap(new byte[100]));
    waitForTheEnd();
  }

  /// Until the test kills this process, or ends and so closes the input.
  private static void waitForTheEnd() throws IOException {
    System.out.println("writing");
    System.in.read();
  }
}
