package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.TensorArena;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Trainings in a process of their own, killed without warning at moments that nobody chose, end
/// with the same files as one that nobody killed.
class TrainingKillTest {
  private static final int KILLS = 6;

  @TempDir Path folder;

  @Test
  void aKilledTrainingEndsWithTheSameBytes() throws Exception {
    Path whole = folder.resolve("whole");
    assertThat(start(whole).waitFor()).isZero();
    Path out = folder.resolve("killed");
    SplitMix64 random = new SplitMix64(99);
    int killed = 0;
    for (int i = 0; i < KILLS; i++) {
      killed += killAt(out, 1 + random.nextInt(7), random.nextInt(3000)) ? 1 : 0;
    }
    assertThat(killed).as("runs that died before their end").isPositive();
    assertThat(start(out).waitFor()).isZero();
    assertThat(names(out)).isEqualTo(names(whole));
    for (String name : names(whole)) {
      assertThat(out.resolve(name)).hasSameBinaryContentAs(whole.resolve(name));
    }
  }

  /// Runs until it has reported so many events and some microseconds more.
  ///
  /// @return whether it was killed before it ended by itself
  private boolean killAt(Path out, int events, int micros) throws Exception {
    Process process = start(out);
    try (BufferedReader lines = process.inputReader()) {
      int seen = 0;
      while (seen < events && lines.readLine() != null) {
        seen++;
      }
      TimeUnit.MICROSECONDS.sleep(micros);
      process.destroyForcibly();
      return process.waitFor() != 0;
    }
  }

  private static Process start(Path out) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m"));
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED"));
    command.addAll(List.of("-cp", System.getProperty("java.class.path")));
    command.addAll(List.of(Child.class.getName(), out.toString()));
    ProcessBuilder builder = new ProcessBuilder(command);
    return builder.redirectError(ProcessBuilder.Redirect.INHERIT).start();
  }

  private static List<String> names(Path out) throws IOException {
    try (var files = Files.list(out)) {
      return files.map(f -> f.getFileName().toString()).sorted().toList();
    }
  }

  /// The training that is killed: prints a line for every event.
  static final class Child {
    private Child() {}

    public static void main(String[] args) throws Exception {
      Ops ops = new Ops(new ReferenceBackend().open(1));
      Path out = Path.of(args[0]);
      List<PreferencePair> pairs = new ArrayList<>();
      for (int p = 0; p < 9; p++) {
        pairs.add(new PreferencePair(new int[] {p, 1}, new int[] {2, p}, new int[] {3, p, 4}));
      }
      DpoTrainer.Options options =
          new DpoTrainer.Options(
              0.1,
              0,
              HeadMask.none(2, 3),
              3,
              2,
              20,
              GradientCheckpointing.OFF,
              1,
              new LrPlan(LrPlan.Shape.COSINE, 0.01, 0, 0.1),
              AdamW.Options.RETMASK,
              2,
              1);
      TrainingListener printer =
          new TrainingListener() {
            @Override
            public void step(Trainer.Progress progress) {
              System.out.println("step " + progress.step());
            }

            @Override
            public void references(int done, int all) {
              System.out.println("references " + done);
            }
          };
      try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
        DpoTrainer.train(
            TinyModel.config(false),
            TinyModel.weights(false, 1, arena),
            ops,
            options,
            PreferenceData.of(pairs, 8),
            out,
            TrainingStart.RESUME,
            weights -> {
              SafeTensorsWriter writer = new SafeTensorsWriter(Map.of());
              weights.tensors().forEach(writer::add);
              writer.writeTo(out.resolve("model.safetensors"));
            },
            printer);
      }
    }
  }
}
