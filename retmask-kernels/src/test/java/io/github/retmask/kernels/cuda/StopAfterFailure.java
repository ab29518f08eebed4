package io.github.retmask.kernels.cuda;

import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestWatcher;

/// Leaves out all tests after one has failed. Of use to [Mutants] alone, which asks JUnit to look for
/// it.
public final class StopAfterFailure implements ExecutionCondition, TestWatcher {
  private static volatile boolean failed;

  /// Forgets earlier failures.
  static void reset() {
    failed = false;
  }

  @Override
  public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
    return failed
        ? ConditionEvaluationResult.disabled("a test has failed")
        : ConditionEvaluationResult.enabled("no failure yet");
  }

  @Override
  public void testFailed(ExtensionContext context, Throwable cause) {
    failed = true;
  }
}
