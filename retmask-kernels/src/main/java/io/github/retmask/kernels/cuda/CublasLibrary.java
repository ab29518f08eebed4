package io.github.retmask.kernels.cuda;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/// Finds cuBLAS, which no driver comes with, and loads JCuda's binding to it. The binding asks for the
/// library of CUDA 12; where only that of CUDA 13 is, with the same functions under another version,
/// the unpacked binding is changed to ask for that one.
@SuppressWarnings("restricted") // native code is what this class is about
final class CublasLibrary {
  /// System property that names a library, or says `none` for our own kernels.
  static final String PROPERTY = "retmask.cuda.cublas";

  /// The same as an environment variable.
  static final String VARIABLE = "RETMASK_CUDA_CUBLAS";

  private static final String V12 = "libcublas.so.12";
  private static final String V13 = "libcublas.so.13";

  private static final Logger LOG = LoggerFactory.getLogger(CublasLibrary.class);

  private static boolean loaded;
  private static boolean told;

  private CublasLibrary() {}

  /// Loads what the property names, else what is found; null when that went well, else why not, in one
  /// line, which is logged the first time.
  static synchronized @Nullable String load() {
    if (loaded) {
      return null;
    }
    String named = System.getProperty(PROPERTY, System.getenv(VARIABLE));
    String why =
        named == null
            ? loadFound()
            : named.equals("none") ? PROPERTY + " says none" : loadFrom(Path.of(named));
    loaded = why == null;
    if (!loaded && !told) {
      LOG.info("cuda: products by our own kernels, not by cuBLAS: {}", why);
      told = true;
    }
    return why;
  }

  private static @Nullable String loadFound() {
    if (CudaLibrary.usesNamedDriver()) { // whose cuBLAS the system's is not
      return "none is named beside the driver";
    }
    String why = "no " + V12 + " and no " + V13 + " on this machine";
    for (String name : new String[] {V12, V13}) {
      if (isOnThePath(name)) {
        return bind(name);
      }
      for (Path folder : usualPlaces()) {
        if (Files.isRegularFile(folder.resolve(name))) {
          why = loadFrom(folder.resolve(name));
          if (why == null) {
            return null;
          }
        }
      }
    }
    return why;
  }

  private static boolean isOnThePath(String name) {
    try {
      SymbolLookup.libraryLookup(name, Arena.global());
      return true;
    } catch (IllegalArgumentException _) {
      return false;
    }
  }

  /// What is loaded meets later needs by its name, whatever folder it came from: that of cuBLAS for
  /// its second half too.
  private static @Nullable String loadFrom(Path library) {
    try {
      Path file = library.toRealPath();
      String name = file.getFileName().toString().startsWith(V13) ? V13 : V12;
      Path half = file.resolveSibling(name.replace("libcublas", "libcublasLt"));
      if (Files.isRegularFile(half)) {
        System.load(half.toRealPath().toString());
      }
      System.load(file.toString());
      return bind(name);
    } catch (IOException | UnsatisfiedLinkError e) {
      return library + " cannot be loaded: " + e.getMessage();
    }
  }

  private static @Nullable String bind(String name) {
    try {
      CudaLibrary.loadBinding(
          "JCublas2",
          "jcuda.jcublas.JCublas2",
          elf -> name.equals(V12) ? elf : ElfNeeds.renamed(elf, V12, name));
      return null;
    } catch (IllegalStateException | LinkageError e) {
      return "JCuda's binding cannot be loaded with " + name + ": " + e.getMessage();
    }
  }

  /// Folders of CUDA toolkits, and of the Python packages that carry cuBLAS.
  private static List<Path> usualPlaces() {
    List<Path> places = new ArrayList<>();
    places.addAll(matches(Path.of("/usr/local"), "cuda*", "lib64"));
    List<Path> roots = new ArrayList<>(List.of(Path.of("/usr/lib"), Path.of("/usr/local/lib")));
    for (String variable : new String[] {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
      String prefix = System.getenv(variable);
      if (prefix != null) {
        roots.add(Path.of(prefix, "lib"));
        places.add(Path.of(prefix, "lib"));
      }
    }
    roots.addAll(pythonsOnThePath());
    roots.add(Path.of("/opt/conda/lib"));
    roots.add(Path.of(System.getProperty("user.home"), ".local", "lib"));
    for (Path root : roots) {
      for (String packages : new String[] {"site-packages", "dist-packages"}) {
        for (String inside : new String[] {"nvidia/cublas/lib", "nvidia/cu13/lib"}) {
          places.addAll(matches(root, "python3*", packages + "/" + inside));
        }
      }
    }
    return places;
  }

  /// Where the pythons that a shell finds keep their packages; virtual environments have their own.
  private static List<Path> pythonsOnThePath() {
    List<Path> roots = new ArrayList<>();
    for (String folder : System.getenv().getOrDefault("PATH", "").split(":")) {
      Path python = Path.of(folder, "python3");
      if (folder.startsWith("/") && Files.isExecutable(python)) {
        roots.add(python.resolve("../../lib").normalize());
        try {
          roots.add(python.toRealPath().resolve("../../lib").normalize());
        } catch (IOException _) {
          // the one it points to is gone
        }
      }
    }
    return roots;
  }

  private static List<Path> matches(Path folder, String glob, String inside) {
    List<Path> found = new ArrayList<>();
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, glob)) {
      entries.forEach(entry -> found.add(entry.resolve(inside)));
    } catch (IOException _) {
      return List.of(); // no such folder
    }
    found.sort(null);
    return found.reversed(); // the newest first
  }
}
