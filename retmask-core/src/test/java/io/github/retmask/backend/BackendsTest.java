package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BackendsTest {
  private @Nullable String requiredBefore;

  @BeforeEach
  void requireNothing() {
    requiredBefore = System.getProperty(Backends.REQUIRE_PROPERTY);
    System.clearProperty(Backends.REQUIRE_PROPERTY);
  }

  @AfterEach
  void restore() {
    if (requiredBefore == null) {
      System.clearProperty(Backends.REQUIRE_PROPERTY);
    } else {
      System.setProperty(Backends.REQUIRE_PROPERTY, requiredBefore);
    }
  }

  @Test
  void theReferenceBackendIsAlwaysThereAndLast() {
    assertThat(Backends.all().getLast().name()).isEqualTo("reference");
    try (Kernels kernels = Backends.open("reference", 3)) {
      assertThat(kernels.name()).isEqualTo("reference");
    }
  }

  @Test
  void anUnknownNameListsWhatIsPresent() {
    assertThatThrownBy(() -> Backends.open("abacus", 1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("backend \"abacus\" is not on the class path; present: [")
        .hasMessageEndingWith("reference]");
  }

  @Test
  void fewerThanOneThreadIsRefused() {
    assertThatThrownBy(() -> Backends.open("reference", 0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("threads 0: want at least 1");
  }

  @Test
  void aRequiredBackendThatIsNotThereFailsInsteadOfFallingBack() {
    System.setProperty(Backends.REQUIRE_PROPERTY, "abacus");
    assertThatThrownBy(() -> Backends.open(Backends.AUTO, 1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("\"abacus\"");
    assertThatThrownBy(Backends::open).isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void aNameIsStrongerThanTheRequirement() {
    System.setProperty(Backends.REQUIRE_PROPERTY, "abacus");
    try (Kernels kernels = Backends.open("reference", 1)) {
      assertThat(kernels.name()).isEqualTo("reference");
    }
  }

  // --- with providers -------------------------------------------------------------------------

  /// Ranks above all others but never runs.
  public static final class Broken implements Backend {
    public Broken() {}

    @Override
    public String name() {
      return "broken";
    }

    @Override
    public int rank() {
      return 2_000_000;
    }

    @Override
    public String whyUnavailable() {
      return "no such machine; build one";
    }

    @Override
    public Kernels open(int threads) {
      throw new AssertionError("opened although unavailable");
    }
  }

  /// Runs, and ranks next.
  public static final class Good implements Backend {
    public Good() {}

    @Override
    public String name() {
      return "good";
    }

    @Override
    public int rank() {
      return 1_000_000;
    }

    @Override
    public @Nullable String whyUnavailable() {
      return null;
    }

    @Override
    public Kernels open(int threads) {
      throw new IllegalStateException("good opened with " + threads);
    }
  }

  private static <T> T withProviders(Path folder, Callable<T> body) throws Exception {
    Path services = Files.createDirectories(folder.resolve("META-INF/services"));
    Files.writeString(
        services.resolve(Backend.class.getName()),
        Good.class.getName() + "\n" + Broken.class.getName() + "\n");
    Thread thread = Thread.currentThread();
    ClassLoader before = thread.getContextClassLoader();
    try (URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()}, before)) {
      thread.setContextClassLoader(loader);
      return body.call();
    } finally {
      thread.setContextClassLoader(before);
    }
  }

  @Test
  void providersAreOrderedByRank(@TempDir Path folder) throws Exception {
    assertThat(withProviders(folder, () -> Backends.all().stream().map(Backend::name).toList()))
        .startsWith("broken", "good")
        .endsWith("reference");
  }

  @Test
  void autoTakesTheBestThatRunsHere(@TempDir Path folder) {
    assertThatThrownBy(() -> withProviders(folder, () -> Backends.open("auto", 5)))
        .hasMessage("good opened with 5");
  }

  @Test
  void aBackendAskedForButUnavailableSaysWhy(@TempDir Path folder) {
    assertThatThrownBy(() -> withProviders(folder, () -> Backends.open("broken", 1)))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("backend \"broken\" unavailable: no such machine; build one");
    System.setProperty(Backends.REQUIRE_PROPERTY, "broken");
    assertThatThrownBy(() -> withProviders(folder, () -> Backends.open("auto", 1)))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("no such machine");
  }
}
