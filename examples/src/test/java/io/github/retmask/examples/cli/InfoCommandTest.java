package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

class InfoCommandTest {
  private static final Path LLAMA = Cli.golden("llama");

  /// Rows by their name.
  private static Map<String, String> info(Object... options) {
    Object[] args = new Object[options.length + 2];
    args[0] = "info";
    args[1] = LLAMA;
    System.arraycopy(options, 0, args, 2, options.length);
    return Cli.ok(args)
        .out()
        .lines()
        .collect(
            Collectors.toMap(line -> line.substring(0, 13).strip(), line -> line.substring(14)));
  }

  @Test
  void memoryIsThatOfTheContextAskedFor() throws IOException {
    Map<String, String> rows = info("--context", 513);
    // 512 cached positions, 3 layers, 2 key/value heads of 8 elements, keys and values, 4 bytes
    assertThat(rows.get("keys, values")).isEqualTo("192.0 KiB");
    assertThat(rows.get("context")).isEqualTo("513 positions");
    assertThat(rows.get("weights"))
        .startsWith("BF16, ")
        .contains("in 1 file of " + Units.bytes(Files.size(LLAMA.resolve("model.safetensors"))));
    assertThat(rows.get("total")).matches("[0-9.]+ [KM]iB with the weights");
    assertThat(rows.get("free memory"))
        .matches("[0-9.]+ [GT]iB, of which [0-9.]+ [GT]iB may be used: fits");
  }

  @Test
  void withoutAContextItIsTheLongest() throws IOException {
    int most =
        JsonFiles.read(LLAMA.resolve("config.json")).get("max_position_embeddings").intValue();
    assertThat(info().get("context")).isEqualTo(Units.count(most) + " positions");
    Cli tooLong = Cli.run("info", LLAMA, "--context", most + 1);
    assertThat(tooLong.code()).isEqualTo(2);
    assertThat(tooLong.error()).contains("--context", "want 1 to " + most);
  }
}
