package io.github.retmask.kernels.cuda;

import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/// A kernel as the text of its PTX declares it.
///
/// @param name what the driver finds it by
/// @param parameters one letter each: `l` for 64 bits, which addresses are too, `i` for 32, `f` and `d`
///     for floats and doubles
/// @param mostThreads the largest block it is compiled for
record PtxEntry(String name, String parameters, int mostThreads) {
  private static final Pattern ENTRY =
      Pattern.compile("\\.entry (\\w+)\\s*\\(([^)]*)\\)([^{]*)\\{", Pattern.DOTALL);
  private static final Pattern PARAMETER = Pattern.compile("\\.param \\.([usbf])(32|64)\\b");
  private static final Pattern THREADS = Pattern.compile("\\.maxntid (\\d+), 1, 1");
  private static final int DEFAULT_THREADS = 1024;

  /// The kernels of a module, by name.
  static Map<String, PtxEntry> parse(String ptx) {
    Map<String, PtxEntry> entries = new HashMap<>();
    for (Matcher entry = ENTRY.matcher(ptx); entry.find(); ) {
      StringBuilder parameters = new StringBuilder();
      for (Matcher p = PARAMETER.matcher(entry.group(2)); p.find(); ) {
        boolean wide = p.group(2).equals("64");
        boolean real = p.group(1).equals("f");
        parameters.append(wide ? (real ? 'd' : 'l') : (real ? 'f' : 'i'));
      }
      Matcher threads = THREADS.matcher(entry.group(3));
      int most = threads.find() ? Integer.parseInt(threads.group(1)) : DEFAULT_THREADS;
      entries.put(entry.group(1), new PtxEntry(entry.group(1), parameters.toString(), most));
    }
    return entries;
  }
}
