package io.github.retmask.tokenizer;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Loads the native Hugging Face tokenizers out of the DJL jar, once per process.
///
/// DJL's own loader is passed by on purpose: on its way it asks the network for the address of a
/// cloud instance (unless a process-wide property forbids it), and on a machine with CUDA it wants
/// to download another build of the library. Tokenizing needs neither.
///
/// On the module path, native access is to be enabled for this module and for `ai.djl.tokenizers`.
final class TokenizerLibrary {
  private static final @Nullable String PROBLEM = load();

  private TokenizerLibrary() {}

  /// The native functions.
  ///
  /// @throws UnsupportedOperationException if the library does not run on this machine
  static TokenizersLibrary get() {
    if (PROBLEM != null) {
      throw new UnsupportedOperationException(PROBLEM);
    }
    return TokenizersLibrary.LIB;
  }

  private static @Nullable String load() {
    String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String system = os.startsWith("windows") ? "win" : os.startsWith("mac") ? "osx" : "linux";
    String arch =
        System.getProperty("os.arch").replace("amd64", "x86_64").replace("arm64", "aarch64");
    String platform = system + "-" + arch;
    var names = new ArrayList<String>();
    if (system.equals("win")) {
      names.addAll(List.of("libwinpthread-1.dll", "libgcc_s_seh-1.dll", "libstdc++-6.dll"));
    }
    names.add(System.mapLibraryName("tokenizers"));
    try {
      // The folder lives only until the library is mapped into memory.
      Path folder = Files.createTempDirectory("retmask-tokenizers");
      try {
        for (String name : names) {
          extractAndLoad("/native/lib/" + platform + "/cpu/" + name, folder.resolve(name));
        }
      } finally {
        discard(folder);
      }
      return null;
    } catch (FileNotFoundException e) {
      return "the tokenizer library has no build for " + platform;
    } catch (IOException | UnsatisfiedLinkError e) {
      return "the tokenizer library did not load through java.io.tmpdir "
          + System.getProperty("java.io.tmpdir")
          + " (another folder, not mounted noexec, may do): "
          + e.getMessage();
    }
  }

  @SuppressWarnings("restricted") // native access is what this class is for
  private static void extractAndLoad(String resource, Path file) throws IOException {
    try (InputStream in = TokenizersLibrary.class.getResourceAsStream(resource)) {
      if (in == null) {
        throw new FileNotFoundException(resource);
      }
      Files.copy(in, file);
    }
    System.load(file.toAbsolutePath().toString());
    discard(file);
  }

  private static void discard(Path path) {
    try {
      Files.deleteIfExists(path);
    } catch (IOException e) {
      path.toFile().deleteOnExit(); // Windows keeps a loaded library's file
    }
  }
}
