package io.github.retmask.io;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/// Checkpoint folders that appear whole or not at all. All files are first written to a hidden
/// folder next to their place and forced to the disk; until then nothing else changes, so a full
/// disk costs nothing that was there before.
///
/// - A folder that does not exist yet (`DIR`) is prepared as `.DIR.partial` beside it and takes its
///   name in one move.
/// - In a folder that exists (it may be a mount point, which cannot be moved) the files are prepared
///   in `.checkpoint.partial` inside it and moved one by one: an older `config.json` and older
///   weights go first, the new `config.json` comes last. Interrupted between two moves, the folder
///   has no `config.json` and so is no checkpoint, and the same write begun again completes it.
///
/// What a killed process leaves behind is removed by the next write to the same folder.
public final class CheckpointFolder {
  static final String CONFIG = "config.json";
  static final String WEIGHTS = "model.safetensors";
  static final String INDEX = "model.safetensors.index.json";

  private static final Pattern SHARD = Pattern.compile("model-\\d+-of-\\d+\\.safetensors");
  private static final String PARTIAL_INSIDE = ".checkpoint.partial";
  private static final String LOCK = ".lock";

  private CheckpointFolder() {}

  /// Writes the files of a checkpoint.
  @FunctionalInterface
  public interface Body {
    /// Called once, with an empty folder to fill; plain writes suffice.
    void writeTo(Path folder) throws IOException;
  }

  /// Writes a folder.
  ///
  /// @throws IOException one line that names the folder and says why it was not written; it is then
  ///     as it was before
  public static void write(Path folder, IfPresent ifPresent, Body body) throws IOException {
    try {
      if (Files.exists(folder)) {
        writeInside(folder.toRealPath(), ifPresent, body);
      } else {
        writeNew(folder.toAbsolutePath().normalize(), body);
      }
    } catch (IOException e) {
      throw new IOException("%s: not written: %s".formatted(folder, AtomicFiles.reason(e)), e);
    }
  }

  private static void writeNew(Path folder, Body body) throws IOException {
    Path parent = folder.getParent();
    Files.createDirectories(parent);
    Path partial = parent.resolve("." + folder.getFileName() + ".partial");
    try (FileChannel _ = claim(partial)) {
      try {
        fill(partial, body);
        Files.delete(partial.resolve(LOCK));
        AtomicFiles.syncDirectory(partial);
        Files.move(partial, folder, StandardCopyOption.ATOMIC_MOVE);
      } catch (Throwable failure) {
        deleteAfter(failure, partial);
        throw failure;
      }
    }
    AtomicFiles.syncDirectory(parent);
  }

  private static void writeInside(Path folder, IfPresent ifPresent, Body body) throws IOException {
    if (!Files.isDirectory(folder)) {
      throw new IOException("it is a file; give a folder");
    }
    Path partial = folder.resolve(PARTIAL_INSIDE);
    boolean interrupted = Files.exists(partial) && !Files.exists(folder.resolve(CONFIG));
    if (ifPresent == IfPresent.REFUSE && !interrupted) {
      requireEmpty(folder);
    }
    try (FileChannel _ = claim(partial)) {
      try {
        fill(partial, body);
        Files.deleteIfExists(folder.resolve(CONFIG));
        for (String name : names(folder)) {
          if (isWeights(name)) {
            Files.delete(folder.resolve(name));
          }
        }
        for (Path file : files(partial)) {
          Path target = folder.resolve(partial.relativize(file));
          Files.createDirectories(target.getParent());
          Files.move(file, target, StandardCopyOption.ATOMIC_MOVE);
        }
        AtomicFiles.syncDirectory(folder);
      } catch (Throwable failure) {
        deleteAfter(failure, partial);
        throw failure;
      }
      deleteTree(partial);
    }
  }

  private static void requireEmpty(Path folder) throws IOException {
    List<String> names = names(folder);
    names.remove(PARTIAL_INSIDE);
    if (!names.isEmpty()) {
      throw new IOException(
          "it holds %d files already (%s%s); give a new folder, or ask to replace the checkpoint in it"
              .formatted(
                  names.size(),
                  String.join(", ", names.subList(0, Math.min(3, names.size()))),
                  names.size() > 3 ? ", ..." : ""));
    }
  }

  private static boolean isWeights(String name) {
    return name.equals(WEIGHTS) || name.equals(INDEX) || SHARD.matcher(name).matches();
  }

  /// Makes the folder, empty but for its lock.
  private static FileChannel claim(Path partial) throws IOException {
    Files.createDirectories(partial);
    FileChannel lock;
    try {
      lock = AtomicFiles.claim(partial.resolve(LOCK));
    } catch (IOException e) {
      AtomicFiles.deleteAfter(e, partial); // succeeds when empty, not when another writer fills it
      throw e;
    }
    try {
      for (Path leftover : list(partial)) {
        if (!leftover.endsWith(LOCK)) {
          deleteTree(leftover);
        }
      }
      return lock;
    } catch (Throwable failure) {
      lock.close();
      throw failure;
    }
  }

  private static void fill(Path partial, Body body) throws IOException {
    body.writeTo(partial);
    for (Path file : files(partial)) {
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
        channel.force(true);
      }
    }
  }

  /// All files below `partial` but the lock, sorted, config.json last.
  private static List<Path> files(Path partial) throws IOException {
    try (Stream<Path> walk = Files.walk(partial)) {
      Path config = partial.resolve(CONFIG);
      return walk.filter(Files::isRegularFile)
          .filter(file -> !file.equals(partial.resolve(LOCK)))
          .sorted(Comparator.<Path, Boolean>comparing(config::equals).thenComparing(file -> file))
          .toList();
    }
  }

  private static List<Path> list(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.sorted().toList();
    }
  }

  private static List<String> names(Path folder) throws IOException {
    List<String> names = new ArrayList<>();
    list(folder).forEach(file -> names.add(file.getFileName().toString()));
    return names;
  }

  private static void deleteAfter(Throwable failure, Path tree) {
    try {
      deleteTree(tree);
    } catch (IOException e) {
      failure.addSuppressed(e);
    }
  }

  /// Deletes a file or a folder with all that is in it; links are deleted, not followed.
  private static void deleteTree(Path tree) throws IOException {
    if (!Files.exists(tree)) {
      return;
    }
    Files.walkFileTree(
        tree,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            Files.delete(file);
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult postVisitDirectory(
              Path folder, @org.jspecify.annotations.Nullable IOException failure)
              throws IOException {
            if (failure != null) {
              throw failure;
            }
            Files.delete(folder);
            return FileVisitResult.CONTINUE;
          }
        });
  }
}
