package io.github.retmask.kernels.cuda;

import static org.junit.platform.engine.discovery.ClassNameFilter.includeClassNamePatterns;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectPackage;

import io.github.retmask.backend.Kernels;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/// Runs the tests of this package on a machine without Maven: `GpuCheck [--part I/N] [CLASS...]`, all of
/// them or the classes named, or the I-th of N parts of their methods. Prints what failed and the totals,
/// and says which device the results are of. An error of the device spoils all that follows in a process:
/// parts keep the others apart.
public final class GpuCheck {
  private GpuCheck() {}

  static void main(String[] args) {
    String why = TestGpu.isReal() ? CudaLibrary.whyUnavailable() : null;
    if (why != null) {
      System.err.println("gpu check: " + why);
      System.exit(1);
    }
    try (Kernels kernels = TestGpu.open(1)) {
      System.out.println(
          "device: " + kernels.device() + (TestGpu.isReal() ? "" : " (emulated, no GPU)"));
    }
    List<String> classes = new ArrayList<>(List.of(args));
    int part = 0;
    int parts = 1;
    if (!classes.isEmpty() && classes.getFirst().equals("--part")) {
      String[] numbers = classes.get(1).split("/");
      part = Integer.parseInt(numbers[0]) - 1;
      parts = Integer.parseInt(numbers[1]);
      classes = classes.subList(2, classes.size());
    }
    String pattern = classes.isEmpty() ? ".*Test" : ".*\\.(" + String.join("|", classes) + ")";
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectPackage(GpuCheck.class.getPackageName()))
            .filters(includeClassNamePatterns(pattern), partOf(part, parts))
            .build();
    SummaryGeneratingListener listener = new SummaryGeneratingListener();
    CudaDriver.take(); // for the whole run, or each test would open the device again
    LauncherFactory.create().execute(request, listener);
    TestExecutionSummary summary = listener.getSummary();
    summary.printFailuresTo(new PrintWriter(System.out, true), 12);
    System.out.printf(
        "%d passed, %d failed, %d skipped%n",
        summary.getTestsSucceededCount(),
        summary.getTestsFailedCount(),
        summary.getTestsSkippedCount() + summary.getTestsAbortedCount());
    boolean passed = summary.getTotalFailureCount() == 0 && summary.getTestsSucceededCount() > 0;
    System.out.println(passed ? "PASSED" : "FAILED");
    System.exit(passed ? 0 : 1);
  }

  /// The methods whose names fall into a part.
  private static PostDiscoveryFilter partOf(int part, int parts) {
    return test ->
        FilterResult.includedIf(
            test.getSource()
                .filter(MethodSource.class::isInstance)
                .map(MethodSource.class::cast)
                .map(m -> (m.getClassName() + m.getMethodName()).hashCode())
                .map(hash -> Math.floorMod(hash * 31 ^ hash >>> 16, parts) == part)
                .orElse(true));
  }
}
