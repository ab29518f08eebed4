package io.github.retmask.probe;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;

/// A program in a JVM of its own: prints why it cannot have the vector backend and what it gets.
/// Outside the packages of our modules, so that it can stand on the class path beside them.
public final class BackendProbe {
  private BackendProbe() {}

  static void main(String[] args) {
    for (Backend backend : Backends.all()) {
      if (backend.name().equals("vector")) {
        System.out.println("why: " + backend.whyUnavailable());
      }
    }
    try (Kernels kernels = Backends.open(Backends.AUTO, 2)) {
      System.out.println("opened: " + kernels.name());
    }
  }
}
