package io.github.retmask.model;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.List;

/// Kernels that count what goes through their linear layers.
public final class CountedMatmuls {
  private final Kernels counting;
  private long rows;
  private long mostRows;

  /// Closing the counting kernels closes these.
  public CountedMatmuls(Kernels kernels) {
    counting =
        (Kernels)
            Proxy.newProxyInstance(
                Kernels.class.getClassLoader(),
                new Class<?>[] {Kernels.class},
                (_, method, args) -> {
                  switch (method.getName()) {
                    case "matmul" -> count((Tensor) args[1], 1);
                    case "matmuls" -> count((Tensor) args[0], ((List<?>) args[1]).size());
                    default -> {}
                  }
                  try {
                    return method.invoke(kernels, args);
                  } catch (InvocationTargetException e) {
                    throw e.getCause();
                  }
                });
  }

  private void count(Tensor x, int products) {
    rows += x.dim(0) * products;
    mostRows = Math.max(mostRows, x.dim(0));
  }

  public Kernels kernels() {
    return counting;
  }

  public void reset() {
    rows = 0;
    mostRows = 0;
  }

  /// Rows of all inputs together.
  public long rows() {
    return rows;
  }

  /// Rows of the largest input.
  public long mostRows() {
    return mostRows;
  }
}
