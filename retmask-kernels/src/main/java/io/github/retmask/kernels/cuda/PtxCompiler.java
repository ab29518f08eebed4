package io.github.retmask.kernels.cuda;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jcuda.nvptxcompiler.JNvPTXCompiler;
import jcuda.nvptxcompiler.nvPTXCompilerHandle;

/// The PTX compiler of CUDA 12.0 that comes with JCuda, for reports and tests: no driver, no GPU and no
/// nvcc needed. A user's driver compiles with its own.
public final class PtxCompiler {
  private static final Pattern KERNEL =
      Pattern.compile(
          "Compiling entry function '(?<kernel>\\w+)'.*?(?<stack>\\d+) bytes stack frame, "
              + "(?<stores>\\d+) bytes spill stores, (?<loads>\\d+) bytes spill loads"
              + ".*?Used (?<registers>\\d+) registers(?<rest>[^\\n]*)",
          Pattern.DOTALL);
  private static final Pattern SHARED = Pattern.compile("(\\d+) bytes smem");

  /// What a kernel takes.
  ///
  /// @param mostThreads the largest block that it is compiled for
  /// @param registers of a thread
  /// @param sharedBytes of a block, beside what a launch asks for
  /// @param stackBytes of a thread
  /// @param spilledBytes stores and loads of registers that did not suffice
  public record Usage(
      int mostThreads, int registers, int sharedBytes, int stackBytes, int spilledBytes) {}

  static {
    CudaLibrary.loadBinding("JNvPTXCompiler", "jcuda.nvptxcompiler.JNvPTXCompiler");
    JNvPTXCompiler.setExceptionsEnabled(false);
  }

  private PtxCompiler() {}

  /// What the compiler's report says of each kernel of a module.
  ///
  /// @param target such as `sm_90`
  /// @throws IllegalStateException with the compiler's words when it refuses the module
  public static Map<String, Usage> usage(String ptx, String target) {
    Map<String, PtxEntry> entries = PtxEntry.parse(ptx);
    String report = compile(ptx, target);
    Map<String, Usage> used = new TreeMap<>();
    for (Matcher m = KERNEL.matcher(report); m.find(); ) {
      Matcher shared = SHARED.matcher(m.group("rest"));
      PtxEntry entry = entries.get(m.group("kernel"));
      if (entry == null) {
        throw new IllegalStateException("no entry of the PTX is called " + m.group("kernel"));
      }
      used.put(
          entry.name(),
          new Usage(
              entry.mostThreads(),
              Integer.parseInt(m.group("registers")),
              shared.find() ? Integer.parseInt(shared.group(1)) : 0,
              Integer.parseInt(m.group("stack")),
              Integer.parseInt(m.group("stores")) + Integer.parseInt(m.group("loads"))));
    }
    if (!used.keySet().equals(entries.keySet())) {
      throw new IllegalStateException(
          "the report is of %s, want one of %s".formatted(used.keySet(), entries.keySet()));
    }
    return used;
  }

  private static String compile(String ptx, String target) {
    byte[] text = (ptx + "\0").getBytes(StandardCharsets.ISO_8859_1);
    nvPTXCompilerHandle compiler = new nvPTXCompilerHandle();
    int rc = JNvPTXCompiler.nvPTXCompilerCreate(compiler, text.length - 1, text);
    if (rc != 0) {
      throw new IllegalStateException("the PTX compiler does not start: error " + rc);
    }
    try {
      String[] options = {"--gpu-name=" + target, "--verbose"};
      rc = JNvPTXCompiler.nvPTXCompilerCompile(compiler, options.length, options);
      long[] size = new long[1];
      if (rc != 0) {
        JNvPTXCompiler.nvPTXCompilerGetErrorLogSize(compiler, size);
      } else {
        JNvPTXCompiler.nvPTXCompilerGetInfoLogSize(compiler, size);
      }
      byte[] log = new byte[Math.toIntExact(size[0]) + 1];
      if (rc != 0) {
        JNvPTXCompiler.nvPTXCompilerGetErrorLog(compiler, log);
      } else {
        JNvPTXCompiler.nvPTXCompilerGetInfoLog(compiler, log);
      }
      String report = new String(log, StandardCharsets.ISO_8859_1);
      if (rc != 0) {
        throw new IllegalStateException("the PTX compiler fails for " + target + ": " + report);
      }
      return report;
    } finally {
      JNvPTXCompiler.nvPTXCompilerDestroy(compiler);
    }
  }
}
