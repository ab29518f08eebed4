package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.InputStream;
import java.lang.classfile.Attributes;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.MethodModel;
import java.lang.classfile.attribute.CodeAttribute;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import jdk.incubator.vector.Vector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

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

  /// C2 inlines a method that is called often up to `FreqInlineSize`, 325 bytes.
  @ParameterizedTest
  @ValueSource(
      classes = {FloatDots.class, BFloat16Dots.class, WideDots.class, Q8Dots.class, Q4Dots.class})
  void kernelsThatShareACallerAreTooLongToBeInlined(Class<?> kernel) throws Exception {
    ClassModel model;
    try (InputStream file = kernel.getResourceAsStream(kernel.getSimpleName() + ".class")) {
      model = ClassFile.of().parse(file.readAllBytes());
    }
    int seen = 0;
    for (MethodModel method : model.methods()) {
      String name = method.methodName().stringValue();
      if (name.equals("one") || name.equals("two")) {
        CodeAttribute code = method.findAttribute(Attributes.code()).orElseThrow();
        assertThat(code.codeLength()).as(name).isGreaterThan(325);
        seen++;
      }
    }
    assertThat(seen).isEqualTo(kernel == WideDots.class ? 1 : 2);
  }
}
