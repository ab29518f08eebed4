package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import jdk.incubator.vector.Vector;
import org.junit.jupiter.api.Test;

/// Methods of the vector library are always inlined, ours only where the profile and the size of the
/// code say so; a vector that goes through one that is not becomes an object.
class VectorsStayInMethodsTest {

  @Test
  void noMethodTakesOrReturnsAVector() throws Exception {
    Path classes =
        Path.of(VectorBackend.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    String folder = VectorBackend.class.getPackageName().replace('.', '/');
    List<String> files;
    try (Stream<Path> found = Files.list(classes.resolve(folder))) {
      files = found.map(file -> file.getFileName().toString()).toList();
    }
    int seen = 0;
    List<String> offending = new ArrayList<>();
    for (String file : files) {
      if (!file.endsWith(".class") || file.equals("package-info.class")) {
        continue;
      }
      String name = VectorBackend.class.getPackageName() + "." + file.replace(".class", "");
      for (Method method : Class.forName(name).getDeclaredMethods()) {
        seen++;
        if (Stream.concat(Stream.of(method.getReturnType()), Stream.of(method.getParameterTypes()))
            .anyMatch(Vector.class::isAssignableFrom)) {
          offending.add(method.toString());
        }
      }
    }
    assertThat(seen).isGreaterThan(100);
    assertThat(offending).isEmpty();
  }
}
