package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.io.SafeTensors;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MaskCommandTest {
  private static final String IDS = "312,39,68,279,78,264,78,81,75,67,5,6,7";

  @TempDir private Path dir;

  /// BF16 with H D = C, F32, F16 with H D != C.
  @ParameterizedTest
  @ValueSource(strings = {"llama", "planted"})
  void theCopyHasTheLogitsOfTheMask(String family) throws IOException {
    Path model = Cli.golden(family);
    Path copy = dir.resolve("masked");
    Cli.ok("mask", model, "--mask", "0-1,1-0,2-3", "--out", copy);
    Path byMask = dir.resolve("mask.safetensors");
    Path byCopy = dir.resolve("copy.safetensors");
    Cli.ok("logits", model, "--ids", IDS, "--mask", "0-1,1-0,2-3", "--out", byMask);
    Cli.ok("logits", copy, "--ids", IDS, "--out", byCopy);
    assertThat(byCopy).hasSameBinaryContentAs(byMask);
  }

  @Test
  void onlyColumnsOfMaskedHeadsDiffer() throws IOException {
    Path model = Cli.golden("llama");
    Path copy = dir.resolve("masked");
    Cli.ok("mask", model, "--mask", "1-2", "--out", copy);
    byte[] before = Files.readAllBytes(model.resolve("model.safetensors"));
    byte[] after = Files.readAllBytes(copy.resolve("model.safetensors"));
    assertThat(after).hasSameSizeAs(before);
    try (SafeTensors file = SafeTensors.open(model.resolve("model.safetensors"))) {
      String name = "model.layers.1.self_attn.o_proj.weight";
      Tensor weight = file.tensor(name); // BF16 [48,48], head dimension 8
      long data =
          before.length
              - file.entries().stream().mapToLong(SafeTensors.Entry::end).max().orElseThrow()
              + file.entry(name).begin();
      for (int i = 0; i < before.length; i++) {
        long element = Math.floorDiv(i - data, 2L);
        boolean masked =
            element >= 0 && element < weight.size() && element % 48 >= 16 && element % 48 < 24;
        assertThat(after[i]).as("byte %d", i).isEqualTo(masked ? 0 : before[i]);
      }
    }
    for (String name : Cli.names(copy)) {
      if (!name.equals("model.safetensors")) {
        assertThat(copy.resolve(name)).hasSameBinaryContentAs(model.resolve(name));
      }
    }
  }

  @Test
  void scaledHeadsHaveScaledColumns() throws IOException {
    Path model = Cli.golden("llama");
    Path copy = dir.resolve("scaled");
    Cli.ok("mask", model, "--mask", "0-0,0-5", "--mask-kind", "scale=0.5", "--out", copy);
    String name = "model.layers.0.self_attn.o_proj.weight";
    try (SafeTensors before = SafeTensors.open(model.resolve("model.safetensors"));
        SafeTensors after = SafeTensors.open(copy.resolve("model.safetensors"))) {
      float[] wanted = before.tensor(name).toFloats();
      for (int i = 0; i < wanted.length; i++) {
        int head = i % 48 / 8;
        wanted[i] *= head == 0 || head == 5 ? 0.5f : 1f; // exact in BF16
      }
      assertThat(after.tensor(name).dtype()).isEqualTo(before.tensor(name).dtype());
      assertThat(after.tensor(name).toFloats()).isEqualTo(wanted);
    }
  }

  @Test
  void aFolderWithFilesIsReplacedOnlyOnRequest() throws IOException {
    Path model = Cli.golden("llama");
    Path copy = dir.resolve("masked");
    Object[] args = {"mask", model, "--mask", "1-2", "--out", copy};
    Cli.ok(args);
    Cli again = Cli.run(args);
    assertThat(again.code()).isEqualTo(1);
    assertThat(again.error()).startsWith("retmask mask: ").contains("not written");
    Object[] replacing = Arrays.copyOf(args, args.length + 1);
    replacing[args.length] = "--replace";
    Cli.ok(replacing);
  }

  @ParameterizedTest
  @ValueSource(strings = {"uniform", "local=4,16"})
  void kindsThatWeightsCannotSayAreRefused(String kind) {
    Path out = dir.resolve("x");
    Cli cli =
        Cli.run("mask", Cli.golden("llama"), "--mask", "1-2", "--mask-kind", kind, "--out", out);
    assertThat(cli.code()).isEqualTo(2);
    assertThat(cli.error()).contains("--mask-kind " + kind).contains("only zero and scale");
    assertThat(out).doesNotExist();
  }
}
