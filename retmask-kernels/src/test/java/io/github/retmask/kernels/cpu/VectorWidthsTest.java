package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;
import static org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder.request;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SequencedMap;
import org.junit.jupiter.api.Test;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;

/// The whole contract at every width of vectors that this processor has, each in a JVM of its own.
/// [VectorKernelsTest] holds it at the preferred one.
class VectorWidthsTest {
  @Test
  void theContractHoldsAtEveryWidth() throws Exception {
    SequencedMap<Integer, Process> running = new LinkedHashMap<>();
    for (int bits = 128; bits < Lanes.FLOAT.vectorBitSize(); bits *= 2) {
      running.put(
          bits,
          FreshJvm.start(VectorWidthsTest.class, "-ea", "-D" + Lanes.BITS_PROPERTY + "=" + bits));
    }
    for (Map.Entry<Integer, Process> width : running.entrySet()) {
      Process process = width.getValue();
      String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertThat(process.waitFor()).as(out).isZero();
      assertThat(out).contains("tests at %d bits: ".formatted(width.getKey()));
    }
  }

  /// Runs the contract in this JVM; exit code 1 when a test fails, or hardly any was found.
  static void main(String[] args) {
    SummaryGeneratingListener listener = new SummaryGeneratingListener();
    LauncherFactory.create()
        .execute(request().selectors(selectClass(Contract.class)).build(), listener);
    var summary = listener.getSummary();
    summary.printFailuresTo(new PrintWriter(System.out, true), 20);
    System.out.printf(
        "tests at %d bits: %d succeeded%n",
        Lanes.FLOAT.vectorBitSize(), summary.getTestsSucceededCount());
    boolean good = summary.getTotalFailureCount() == 0 && summary.getTestsSucceededCount() > 300;
    System.exit(good ? 0 : 1);
  }

  /// The contract, but for its comparisons between JVMs.
  static class Contract extends KernelsContract {
    @Override
    protected Kernels open(int threads) {
      return new VectorBackend().open(threads);
    }

    @Override
    protected boolean isFoundByName() {
      return false;
    }
  }
}
