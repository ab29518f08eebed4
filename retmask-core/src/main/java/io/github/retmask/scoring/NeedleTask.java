package io.github.retmask.scoring;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import java.io.IOException;
import java.nio.charset.MalformedInputException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/// A sentence to hide, where to hide it, and the question that asks for it.
///
/// @param name names the task in trials
/// @param needle the sentence, as it goes into the haystack
/// @param question what the model is asked
/// @param answer the part of the needle that answers it (`real_needle` in published files)
/// @param haystack the text to hide it in, as the file has it
public record NeedleTask(
    String name, String needle, String question, String answer, String haystack) {

  /// Reads a folder in the published layout: `needles.jsonl`, and for its i-th line the texts of
  /// folder `part<i>`, i from 1. The tasks are named 1, 2, …
  ///
  /// @throws FormatException naming file and line of what is not as it should be
  /// @throws IOException when a file cannot be read
  public static List<NeedleTask> readFolder(Path folder) throws IOException {
    List<NeedleTask> tasks = new ArrayList<>();
    for (NeedleTask task : read(folder.resolve("needles.jsonl"), "")) {
      String haystack = readText(folder.resolve("part" + (tasks.size() + 1)));
      tasks.add(
          new NeedleTask(task.name(), task.needle(), task.question(), task.answer(), haystack));
    }
    return tasks;
  }

  /// Reads `{"needle", "question", "real_needle"}` lines, to be hidden in one text.
  ///
  /// @param haystack the text, such as [#readText] gives
  /// @throws FormatException naming file and line of what is not as it should be
  /// @throws IOException when the file cannot be read
  public static List<NeedleTask> read(Path needles, String haystack) throws IOException {
    List<NeedleTask> tasks = new ArrayList<>();
    try (JsonLines.Reader lines = JsonLines.read(needles)) {
      for (ObjectNode line = lines.next(); line != null; line = lines.next()) {
        tasks.add(
            new NeedleTask(
                Integer.toString(tasks.size() + 1),
                text(lines, line, "needle"),
                text(lines, line, "question"),
                text(lines, line, "real_needle"),
                haystack));
      }
    }
    if (tasks.isEmpty()) {
      throw new FormatException(needles + ": no needles in it");
    }
    return tasks;
  }

  /// The text of a file, or of a folder's `.txt` files in the order of their names, one after the
  /// other.
  ///
  /// @throws FormatException when there is no text, or it is not UTF-8
  /// @throws IOException when a file cannot be read
  public static String readText(Path fileOrFolder) throws IOException {
    List<Path> files = List.of(fileOrFolder);
    if (Files.isDirectory(fileOrFolder)) {
      try (Stream<Path> entries = Files.list(fileOrFolder)) {
        files = entries.filter(f -> f.toString().endsWith(".txt")).sorted().toList();
      }
    } else if (!Files.exists(fileOrFolder)) {
      throw new FormatException(fileOrFolder + ": no such file or folder");
    }
    StringBuilder text = new StringBuilder();
    for (Path file : files) {
      try {
        text.append(Files.readString(file));
      } catch (MalformedInputException e) {
        throw new FormatException(file + ": not UTF-8 text", e);
      }
    }
    if (text.toString().isBlank()) {
      throw new FormatException(
          fileOrFolder + ": no text in it, want .txt files to hide needles in");
    }
    return text.toString();
  }

  private static String text(JsonLines.Reader lines, ObjectNode line, String key) {
    if (!line.path(key).isTextual() || line.get(key).textValue().isBlank()) {
      throw lines.problem("\"" + key + "\" is " + line.get(key) + ", want a text");
    }
    return line.get(key).textValue();
  }
}
