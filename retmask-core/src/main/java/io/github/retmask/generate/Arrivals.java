package io.github.retmask.generate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;

/// Lets consecutive requests of one prompt begin together, so that the prompt is read once for all.
///
/// Requests are taken from the stream only while rows are free for them. The first ones of a prompt
/// wait for as many as the prompt before had; a prompt that turns out to have fewer begins at once.
final class Arrivals {
  private final Iterator<GenerationRequest> requests;
  private final int most;
  private final List<GenerationRequest> waiting = new ArrayList<>(); // of one prompt
  private int usual = 1; // requests of a prompt

  /// @param rows that run at a time; half of them, but at least two, begin together at most, so that
  ///   the others do not stand still meanwhile
  Arrivals(Iterator<GenerationRequest> requests, int rows) {
    this.requests = requests;
    this.most = Math.min(rows, Math.max(2, rows / 2));
  }

  /// The requests that begin now.
  ///
  /// @param free rows without a request, at least as many as wait
  /// @param idle whether no other request runs: then some begin, unless there are none any more
  List<GenerationRequest> begin(int free, boolean idle) {
    List<GenerationRequest> begun = new ArrayList<>();
    while (begun.size() + waiting.size() < free && requests.hasNext()) {
      GenerationRequest next = requests.next();
      if (!waiting.isEmpty() && (waiting.size() == most || !isOfWaiting(next))) {
        usual = waiting.size();
        flush(begun);
      }
      waiting.add(next);
    }
    usual = Math.max(usual, waiting.size());
    if (waiting.size() == usual || (idle && begun.isEmpty()) || !requests.hasNext()) {
      flush(begun);
    }
    return begun;
  }

  private boolean isOfWaiting(GenerationRequest request) {
    return Arrays.equals(request.prompt(), waiting.getFirst().prompt());
  }

  private void flush(List<GenerationRequest> begun) {
    begun.addAll(waiting);
    waiting.clear();
  }
}
