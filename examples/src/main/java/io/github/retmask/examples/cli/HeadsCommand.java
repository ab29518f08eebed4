package io.github.retmask.examples.cli;

import io.github.retmask.heads.Control;
import io.github.retmask.heads.ControlHeads;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.io.HeadScoreFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `retmask heads`: the best heads of a score file, or a control set of as many others.
@Command(
    name = "heads",
    description = "Print the retrieval heads of a score file, or a control set of as many heads.",
    footer = {
      "",
      "Scores are averaged over trials. Retrieval heads come best first, control heads by "
          + "layer.",
      "The same seed draws the same control heads on every machine; several draws are "
          + "separated by empty lines, or are the entries of one JSON array.",
      "",
      "Examples:",
      "  retmask heads scores.json --threshold 0.1",
      "  retmask heads scores.json --top-k 20 --control non-retrieval --seed 42 --json"
    })
final class HeadsCommand implements Callable<Integer> {
  private final Console console;

  @Parameters(
      index = "0",
      paramLabel = "SCORES",
      description = "Score file in the published layout, plain or .gz.")
  private Path scores = Path.of("");

  @ArgGroup(multiplicity = "1")
  private Selection selection = new Selection();

  @Option(
      names = "--control",
      paramLabel = "KIND",
      description =
          "Print as many other heads instead: random (any), non-retrieval, layer-matched or bottom.")
  private @Nullable String control;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of the control draws (default: 42).")
  private @Nullable Long seed;

  @Option(names = "--draws", paramLabel = "N", description = "Control sets to draw (default: 1).")
  private @Nullable Integer draws;

  @Option(names = "--json", description = "Print [[layer, head], ...].")
  private boolean json;

  /// Which heads count as retrieval heads.
  private static final class Selection {
    @Option(
        names = "--threshold",
        paramLabel = "SCORE",
        required = true,
        description = "Heads with this mean score or more.")
    private @Nullable Double threshold;

    @Option(
        names = "--top-k",
        paramLabel = "K",
        required = true,
        description = "The K heads with the highest mean scores.")
    private @Nullable Integer topK;
  }

  HeadsCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (control == null && (seed != null || draws != null)) {
      throw new UsageException("--seed and --draws belong to --control");
    }
    int count = draws == null ? 1 : draws;
    if (count < 1) {
      throw new UsageException("--draws " + count + ": want at least 1");
    }
    Control kind = kind();
    HeadScores read = HeadScoreFile.read(scores);
    List<HeadId> retrieval = select(read);
    if (retrieval.isEmpty() && selection.threshold != null) {
      HeadId best = read.ranking().getFirst();
      console.note(
          "retmask heads: no head reaches %s; the best one, %s, has %.4f"
              .formatted(selection.threshold, best, read.mean(best)));
    }
    if (kind == null) {
      print(List.of(retrieval));
    } else {
      print(drawn(new ControlHeads(read, retrieval), kind, count));
    }
    return ExitCode.OK;
  }

  private @Nullable Control kind() {
    try {
      return control == null ? null : Control.parse(control);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--" + e.getMessage());
    }
  }

  private List<HeadId> select(HeadScores read) {
    if (selection.topK != null) {
      int all = read.layers() * read.heads();
      if (selection.topK < 0 || selection.topK > all) {
        throw new UsageException(
            "--top-k %d: want 0 to %d, the heads of the file".formatted(selection.topK, all));
      }
      return read.top(selection.topK);
    }
    double threshold = selection.threshold == null ? Double.NaN : selection.threshold;
    if (!Double.isFinite(threshold)) {
      throw new UsageException("--threshold " + threshold + ": want a finite number");
    }
    return read.atLeast(threshold);
  }

  private List<List<HeadId>> drawn(ControlHeads heads, Control kind, int count) {
    try {
      return heads.draw(kind, count, seed == null ? 42 : seed).stream()
          .map(ControlHeads.Draw::heads)
          .toList();
    } catch (IllegalArgumentException e) {
      throw new UsageException("--control: " + e.getMessage());
    }
  }

  private void print(List<List<HeadId>> sets) {
    if (json) {
      String all = sets.stream().map(HeadsCommand::json).collect(Collectors.joining(", "));
      console.line(sets.size() == 1 ? all : "[" + all + "]");
      return;
    }
    for (int s = 0; s < sets.size(); s++) {
      if (s > 0) {
        console.line("");
      }
      sets.get(s).forEach(head -> console.line(head.toString()));
    }
  }

  private static String json(List<HeadId> heads) {
    return heads.stream()
        .map(id -> "[%d, %d]".formatted(id.layer(), id.head()))
        .collect(Collectors.joining(", ", "[", "]"));
  }
}
