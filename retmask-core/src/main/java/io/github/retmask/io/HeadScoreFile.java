package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/// Head scores in the layout of nightdessert/Retrieval_Head and YoumiMa/RetMask: one line
/// `{"0-0": [score, …], "0-1": […], …}`, a list a head, a score a successful trial; plain or gzip.
public final class HeadScoreFile {
  private HeadScoreFile() {}

  /// Reads a file; the model's size is told by the largest layer and head in it.
  ///
  /// @throws FormatException naming file and head, when the file is not whole JSON, a key is not
  ///     `LAYER-HEAD` or occurs twice, a score is not a finite number of 0 or more, lists differ in
  ///     length or are empty, or a head of the layers x heads grid is missing
  /// @throws IOException when the file cannot be read
  public static HeadScores read(Path file) throws IOException {
    SortedMap<HeadId, double[]> lists = new TreeMap<>();
    try (InputStream in = Gzip.open(file);
        JsonParser parser = Json.READER.createParser(in)) {
      parser.disable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION); // reported by head below
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw bad(file, "want {\"LAYER-HEAD\": [score, …], …}");
      }
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        HeadId id = head(file, parser.currentName());
        if (lists.put(id, list(file, id, parser)) != null) {
          throw bad(file, "head " + id + " occurs twice");
        }
      }
      if (parser.nextToken() != null) {
        throw bad(file, "more text after the scores");
      }
    } catch (JsonProcessingException e) {
      throw new FormatException(file + ": not JSON: " + Json.reason(e), e);
    }
    return scores(file, lists);
  }

  /// Writes `scores` in the published layout, whole or not at all; compressed when the name ends in
  /// `.gz`. Equal scores give equal bytes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, HeadScores scores) throws IOException {
    AtomicFiles.write(
        file,
        out -> {
          OutputStream stream = Gzip.wrap(file, out);
          stream.write('{');
          StringBuilder list = new StringBuilder();
          for (HeadId id : scores.ids()) {
            list.setLength(0);
            list.append(id.layer() + id.head() == 0 ? "" : ", ")
                .append('"')
                .append(id)
                .append("\": [");
            String separator = "";
            for (double score : scores.scores(id)) {
              // The published files hold an integer 0 where nothing hit.
              list.append(separator).append(score == 0 ? "0" : Double.toString(score));
              separator = ", ";
            }
            stream.write(list.append(']').toString().getBytes(StandardCharsets.US_ASCII));
          }
          stream.write('}');
          Gzip.finish(stream);
        });
  }

  private static HeadId head(Path file, String key) {
    try {
      HeadId id = HeadId.parse(key);
      if (id.toString().equals(key)) {
        return id;
      }
    } catch (IllegalArgumentException e) {
      // falls through to the one message below
    }
    throw bad(file, "key " + FormatException.quote(key) + ": want LAYER-HEAD, such as 12-7");
  }

  private static double[] list(Path file, HeadId id, JsonParser parser) throws IOException {
    if (parser.nextToken() != JsonToken.START_ARRAY) {
      throw bad(file, "head " + id + " has " + parser.getText() + ", want a list of scores");
    }
    double[] list = new double[64];
    int length = 0;
    while (parser.nextToken() != JsonToken.END_ARRAY) {
      double score = parser.currentToken().isNumeric() ? parser.getDoubleValue() : Double.NaN;
      if (!(score >= 0 && score < Double.POSITIVE_INFINITY)) {
        throw bad(
            file,
            "head %s, trial %d: %s is no score: want a finite number, 0 or more"
                .formatted(id, length, parser.getText()));
      }
      if (length == list.length) {
        list = Arrays.copyOf(list, length * 2);
      }
      list[length++] = score;
    }
    return Arrays.copyOf(list, length);
  }

  private static HeadScores scores(Path file, SortedMap<HeadId, double[]> lists) {
    if (lists.isEmpty()) {
      throw bad(file, "no heads in it");
    }
    int layers = lists.lastKey().layer() + 1;
    int heads = lists.keySet().stream().mapToInt(HeadId::head).max().orElseThrow() + 1;
    HeadId first = lists.firstKey();
    int trials = lists.get(first).length;
    if ((long) layers * heads != lists.size()) {
      HeadId missing = new HeadId(0, 0);
      while (lists.containsKey(missing)) {
        missing =
            missing.head() + 1 < heads
                ? new HeadId(missing.layer(), missing.head() + 1)
                : new HeadId(missing.layer() + 1, 0);
      }
      throw bad(
          file,
          "%d heads for %d layers x %d heads: %s is the first one missing"
              .formatted(lists.size(), layers, heads, missing));
    }
    double[][] byHead = new double[lists.size()][];
    for (Map.Entry<HeadId, double[]> entry : lists.entrySet()) {
      HeadId id = entry.getKey();
      if (entry.getValue().length != trials) {
        throw bad(
            file,
            "head %s has %d scores, head %s has %d: want one a trial for every head"
                .formatted(id, entry.getValue().length, first, trials));
      }
      byHead[id.layer() * heads + id.head()] = entry.getValue();
    }
    if (trials == 0) {
      throw bad(file, "empty lists: no trial succeeded");
    }
    return HeadScores.ofHeads(layers, heads, byHead);
  }

  private static FormatException bad(Path file, String problem) {
    return new FormatException(file + ": " + problem);
  }
}
