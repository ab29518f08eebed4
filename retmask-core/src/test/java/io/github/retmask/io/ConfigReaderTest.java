package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ConfigReaderTest {
  @TempDir Path dir;

  private Path file;
  private ConfigReader config;

  @BeforeEach
  void write() throws IOException {
    file = dir.resolve("config.json");
    Files.writeString(
        file,
        """
        {"layers": 3, "eps": 1e-05, "factor": 8, "theta": "10000", "nothing": null, "tie": false,
         "eos": [1, 2], "bos": 7, "half": 1.5, "huge": 4294967296, "inf": Infinity, "nan": NaN,
         "beyond": 1e999, "rope": {"type": "linear", "factor": -Infinity}, "act": "gelu",
         "zero": 0, "one": 1.0, "empty": {}, "words": ["a", "b"], "numbers": [1, 2.5], "minus": -0.5, "bos_again": 7, "list": [{"a": 1}, {"a": "x"}], "mixed": [1, "2"], "long": "%s"}"""
            .formatted("y".repeat(100)));
    config = new ConfigReader(JsonFiles.read(file), file.toString());
  }

  private void assertRefused(Consumer<ConfigReader> read, String message) {
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read.accept(config))
        .withMessage(file + ": " + message);
  }

  @Test
  void valuesComeInTheirTypes() {
    assertThat(config.integer("layers", 1)).isEqualTo(3);
    assertThat(config.number("eps")).isEqualTo(1e-5);
    assertThat(config.number("factor")).isEqualTo(8.0);
    assertThat(config.flag("tie", true)).isFalse();
    assertThat(config.text("act")).isEqualTo("gelu");
    assertThat(config.integers("eos")).containsExactly(1, 2);
    assertThat(config.integers("bos")).containsExactly(7);
    assertThat(config.object("rope").text("type")).isEqualTo("linear");
    assertThat(config.texts("words")).containsExactly("a", "b");
    assertThat(config.positives("numbers")).containsExactly(1.0, 2.5);
    assertThat(config.objects("list").getFirst().integer("a", 0)).isEqualTo(1);
  }

  @Test
  void absentAndNullTakeTheDefault() {
    for (String key : List.of("absent", "nothing")) {
      assertThat(config.has(key)).isFalse();
      assertThat(config.isNull(key)).isEqualTo(key.equals("nothing"));
      assertThat(config.integer(key, 1, 5)).isEqualTo(5);
      assertThat(config.number(key, 0.5)).isEqualTo(0.5);
      assertThat(config.flag(key, true)).isTrue();
      assertThat(config.text(key, "d")).isEqualTo("d");
      assertThat(config.integers(key)).isEmpty();
      assertThat(config.objectOrNull(key)).isNull();
    }
  }

  @Test
  void presentButWrongIsAnErrorEvenWhereThereIsADefault() {
    assertRefused(c -> c.integer("layers", 4), "layers is 3, want an integer >= 4");
    assertRefused(c -> c.integer("half", 1, 9), "half is 1.5, want an integer >= 1");
    assertRefused(c -> c.integer("huge", 1, 9), "huge is 4294967296, want an integer >= 1");
    assertRefused(c -> c.integer("act", 1), "act is \"gelu\", want an integer >= 1");
    assertRefused(c -> c.integer("absent", 1), "absent is missing");
    assertRefused(c -> c.number("theta", 1), "theta is \"10000\", want a finite number");
    assertRefused(c -> c.flag("layers", true), "layers is 3, want true or false");
    assertRefused(c -> c.text("layers", "d"), "layers is 3, want a string");
    assertRefused(c -> c.text("nothing"), "nothing is missing");
    assertRefused(c -> c.texts("mixed"), "mixed is [1,\"2\"], want an array of strings");
    assertRefused(
        c -> c.positives("mixed"), "mixed is [1,\"2\"], want an array of numbers above 0");
    assertRefused(c -> c.positives("bos"), "bos is 7, want an array of numbers above 0");
    assertRefused(c -> c.object("eos"), "eos is [1,2], want a JSON object");
    assertRefused(c -> c.objects("bos"), "bos is 7, want an array of objects");
    assertRefused(
        c -> c.integers("mixed"), "mixed is [1,\"2\"], want an integer or an array of integers");
    assertRefused(
        c -> c.integer("long", 1),
        "long is \"%s..., want an integer >= 1".formatted("y".repeat(56)));
  }

  @Test
  void onlyFiniteNumbersAreNumbers() {
    for (String key : List.of("inf", "nan", "beyond")) {
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> config.number(key, 1))
          .withMessageStartingWith(file + ": " + key + " is ")
          .withMessageEndingWith(", want a finite number");
    }
  }

  @Test
  void rangesAreChecked() {
    assertThat(config.integerBetween("layers", 1, 3)).isEqualTo(3);
    assertThat(config.positive("eps")).isEqualTo(1e-5);
    assertThat(config.positive("absent", 2)).isEqualTo(2.0);
    assertRefused(
        c -> c.integerBetween("layers", 1, 2), "layers is 3, want an integer from 1 to 2");
    assertRefused(c -> c.integerBetween("layers", 4, 9), "layers is 3, want an integer >= 4");
    assertRefused(c -> c.positive("zero"), "zero is 0, want a number above 0");
    assertRefused(c -> c.positive("minus", 1), "minus is -0.5, want a number above 0");
    assertRefused(c -> c.positive("absent"), "absent is missing");
  }

  @Test
  void olderSpellingCountsWhereTheNewerIsAbsent() {
    assertThat(config.spelled("absent", "layers")).isEqualTo("layers");
    assertThat(config.spelled("nothing", "layers")).isEqualTo("layers");
    assertThat(config.spelled("layers", "absent")).isEqualTo("layers");
    assertThat(config.spelled("new", "absent")).isEqualTo("new");
    assertThat(config.spelled("bos", "bos_again")).isEqualTo("bos");
    assertRefused(
        c -> c.spelled("bos", "layers"), "bos is 7, but layers, the older name of it, is 3");
  }

  @Test
  void nestedKeysAreNamedWithTheirPath() {
    assertRefused(c -> c.object("rope").text("x"), "rope.x is missing");
    assertRefused(
        c -> c.objects("list").get(1).integer("a", 1), "list[].a is \"x\", want an integer >= 1");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> config.object("rope").number("factor"))
        .withMessageStartingWith(file + ": rope.factor is ");
  }

  @Test
  void unsupportedOptionsAreNamed() {
    assertRefused(
        c -> c.requireText("act", "silu", "silu"), "act is \"gelu\", only \"silu\" is supported");
    assertRefused(c -> c.requireOff("layers"), "layers is 3, which is not supported");
    assertRefused(c -> c.requireOff("act"), "act is \"gelu\", which is not supported");
    assertRefused(c -> c.requireOff("eos"), "eos is [1,2], which is not supported");
    assertRefused(c -> c.requireOne("half"), "half is 1.5, only 1 is supported");
    assertRefused(c -> c.requireOne("act"), "act is \"gelu\", want a finite number");
    config.requireText("absent", "silu", "silu");
    for (String off : List.of("absent", "nothing", "tie", "zero", "empty")) {
      config.requireOff(off);
    }
    config.requireOne("absent");
    config.requireOne("one");
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> config.requireKnown(List.of("layers", "eps")))
        .withMessage(file + ": factor is unknown; known: layers, eps");
  }
}
