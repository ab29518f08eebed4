package io.github.retmask.generate;

import java.util.Collections;
import java.util.EnumMap;
import java.util.Map;

/// What became of the records of a pair file's sources.
///
/// @param records records read
/// @param pairs pairs written
/// @param dropped records without a pair, by reason
/// @param chosenTokens tokens of all chosen answers written
/// @param rejectedTokens tokens of all rejected answers written
public record PairReport(
    long records,
    long pairs,
    Map<DropReason, Long> dropped,
    long chosenTokens,
    long rejectedTokens) {

  public PairReport {
    Map<DropReason, Long> ordered = new EnumMap<>(DropReason.class);
    ordered.putAll(dropped);
    dropped = Collections.unmodifiableMap(ordered);
  }

  /// `12 records, 9 pairs, 3 dropped (redacted 1, identical_pair 2)`.
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder("%d records, %d pairs".formatted(records, pairs));
    if (!dropped.isEmpty()) {
      long all = dropped.values().stream().mapToLong(Long::longValue).sum();
      text.append(", %d dropped (".formatted(all));
      dropped.forEach((reason, count) -> text.append(reason.text() + " " + count + ", "));
      text.setLength(text.length() - 2);
      text.append(')');
    }
    return text.toString();
  }
}
