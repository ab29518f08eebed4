package io.github.retmask.benchmarks.peers;

import java.util.Random;

/// Texts of which every character is one token, its code being the token's id.
final class Prompts {
  private static final String CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

  private Prompts() {}

  /// A text of so many tokens.
  static String text(int tokens) {
    Random random = new Random(tokens);
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < tokens; i++) {
      text.append(CHARACTERS.charAt(random.nextInt(CHARACTERS.length())));
    }
    return text.toString();
  }

  /// Its tokens.
  static int[] ids(int tokens) {
    return text(tokens).chars().toArray();
  }
}
