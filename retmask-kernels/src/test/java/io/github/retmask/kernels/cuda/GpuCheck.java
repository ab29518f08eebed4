package io.github.retmask.kernels.cuda;

import static org.junit.platform.engine.discovery.ClassNameFilter.includeClassNamePatterns;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectPackage;

import io.github.retmask.backend.Kernels;
import java.io.PrintWriter;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/// Runs the tests of this package on a machine without Maven: `GpuCheck [CLASS...]`, all of them or the
/// classes named. Prints what failed and the totals, and says which device the results are of.
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
    String pattern = args.length == 0 ? ".*Test" : ".*\\.(" + String.join("|", args) + ")";
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectPackage(GpuCheck.class.getPackageName()))
            .filters(includeClassNamePatterns(pattern))
            .build();
    SummaryGeneratingListener listener = new SummaryGeneratingListener();
    CudaDriver.take(); // for the whole run, or each test would open the device again
    LauncherFactory.create().execute(request, listener);
    TestExecutionSummary summary = listener.getSummary();
    summary.printFailuresTo(new PrintWriter(System.out, true), 8);
    System.out.printf(
        "%d passed, %d failed, %d skipped%n",
        summary.getTestsSucceededCount(),
        summary.getTestsFailedCount(),
        summary.getTestsSkippedCount() + summary.getTestsAbortedCount());
    System.exit(
        summary.getTotalFailureCount() == 0 && summary.getTestsSucceededCount() > 0 ? 0 : 1);
  }
}
