package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class FormatExceptionTest {
  @Test
  void messageStaysOneLineWhateverAFileBringsIn() {
    String name = "a\nb\r\tc\u2028d\u202ee\0" + '\ud800';
    assertThat(new FormatException("f.bin: tensor " + name))
        .hasMessage("f.bin: tensor a\\u000ab\\u000d\\u0009c\\u2028d\\u202ee\\u0000\\ud800");
  }

  @Test
  void ordinaryTextPassesUnchanged() {
    String line = "/tmp/ünï/模型 \uD83D\uDE00.safetensors: \"x\" is [2, 3], want 4";
    assertThat(new FormatException(line, new IllegalStateException())).hasMessage(line);
  }
}
