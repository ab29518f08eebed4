import com.google.googlejavaformat.java.Formatter;
import com.google.googlejavaformat.java.FormatterException;
import com.google.googlejavaformat.java.ImportOrderer;
import com.google.googlejavaformat.java.JavaFormatterOptions;
import com.google.googlejavaformat.java.RemoveUnusedImports;
import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/// Checks or applies google-java-format on every Java file of the repository.
///
/// Run by the root pom, in a JVM of its own: the formatter parses with the javac of the JDK it runs
/// on, and Maven's own Java may be too old for this source.
///
/// Usage: `Format.java check|apply ROOT REPORT`. Exit code 3 and one line a file in REPORT when files
/// are not formatted; no REPORT when all are.
class Format {
  /// Documentation comments stay as written: tables of shapes and formulas are laid out by hand.
  private static final Formatter FORMATTER =
      new Formatter(JavaFormatterOptions.builder().formatJavadoc(false).build());

  public static void main(String[] args) throws IOException {
    boolean apply =
        switch (args[0]) {
          case "check" -> false;
          case "apply" -> true;
          default -> throw new IllegalArgumentException("want check or apply, got " + args[0]);
        };
    Path root = Path.of(args[1]).toRealPath();
    List<String> problems =
        sources(root).parallelStream()
            .map(f -> format(root, f, apply))
            .filter(Objects::nonNull)
            .toList();
    Path report = Path.of(args[2]);
    Files.deleteIfExists(report);
    if (!problems.isEmpty()) {
      problems.forEach(System.err::println);
      Files.write(report, problems);
      System.exit(3);
    }
  }

  /// All Java files; build output and dot folders are not entered.
  private static List<Path> sources(Path root) throws IOException {
    List<Path> sources = new ArrayList<>();
    Files.walkFileTree(
        root,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult preVisitDirectory(Path dir, BasicFileAttributes attributes) {
            String name = dir.getFileName().toString();
            boolean skip = !dir.equals(root) && (name.equals("target") || name.startsWith("."));
            return skip ? FileVisitResult.SKIP_SUBTREE : FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
            if (file.toString().endsWith(".java")) {
              sources.add(file);
            }
            return FileVisitResult.CONTINUE;
          }
        });
    return sources;
  }

  /// Returns what is wrong with `file`, or null when it is, or has been, formatted.
  private static String format(Path root, Path file, boolean apply) {
    Path name = root.relativize(file);
    try {
      String source = Files.readString(file);
      String ordered =
          ImportOrderer.reorderImports(
              RemoveUnusedImports.removeUnusedImports(source), JavaFormatterOptions.Style.GOOGLE);
      String formatted = FORMATTER.formatSource(ordered);
      if (formatted.equals(source)) {
        return null;
      }
      if (!apply) {
        return name + ": not formatted";
      }
      Path written = file.resolveSibling(file.getFileName() + ".tmp");
      Files.writeString(written, formatted);
      Files.move(
          written, file, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
      return null;
    } catch (FormatterException e) {
      return name + ": " + e.getMessage().lines().findFirst().orElse("does not parse");
    } catch (IOException e) {
      return name + ": " + e;
    }
  }
}
