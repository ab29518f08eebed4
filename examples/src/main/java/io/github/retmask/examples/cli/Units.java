package io.github.retmask.examples.cli;

import java.util.Locale;

/// Numbers for people.
final class Units {
  private Units() {}

  /// `1.5 GiB`, `340.0 MiB`, `12.3 KiB` or `96 bytes`.
  static String bytes(long bytes) {
    String[] names = {"KiB", "MiB", "GiB", "TiB"};
    double value = bytes;
    int unit = -1;
    while (value >= 1024 && unit + 1 < names.length) {
      value /= 1024;
      unit++;
    }
    return unit < 0 ? bytes + " bytes" : String.format(Locale.ROOT, "%.1f %s", value, names[unit]);
  }

  /// `8,030,261,248`.
  static String count(long count) {
    return String.format(Locale.ROOT, "%,d", count);
  }
}
