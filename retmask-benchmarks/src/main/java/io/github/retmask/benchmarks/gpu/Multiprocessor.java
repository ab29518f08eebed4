package io.github.retmask.benchmarks.gpu;

import io.github.retmask.kernels.cuda.PtxCompiler;
import java.util.List;

/// What one multiprocessor holds at a time, after the table of technical specifications in NVIDIA's
/// CUDA C++ Programming Guide.
///
/// @param target as the compiler names it
/// @param warps resident at most
/// @param blocks resident at most
/// @param sharedBytes of all blocks together
record Multiprocessor(String target, int warps, int blocks, int sharedBytes) {
  /// A100; L4, L40 and GeForce 40; H100 and H200.
  static final List<Multiprocessor> ALL =
      List.of(
          new Multiprocessor("sm_80", 64, 32, 164 << 10),
          new Multiprocessor("sm_89", 48, 24, 100 << 10),
          new Multiprocessor("sm_90", 64, 32, 228 << 10));

  private static final int WARP = 32;
  private static final int PARTITIONS = 4; // each with a quarter of the registers
  private static final int REGISTERS = 65_536;
  private static final int REGISTER_UNIT = 256; // of a warp
  private static final int SHARED_UNIT = 128;
  private static final int SHARED_OF_SYSTEM = 1024; // of a block, beside its own

  /// Blocks of a launch that are resident together; 0 when not even one fits.
  int blocksOf(PtxCompiler.Usage usage, int threads, int dynamicBytes) {
    int warpsOfBlock = Math.ceilDiv(threads, WARP);
    int registersOfWarp = Math.ceilDiv(usage.registers() * WARP, REGISTER_UNIT) * REGISTER_UNIT;
    int warpsByRegisters = REGISTERS / PARTITIONS / registersOfWarp * PARTITIONS;
    int shared =
        Math.ceilDiv(usage.sharedBytes() + dynamicBytes + SHARED_OF_SYSTEM, SHARED_UNIT)
            * SHARED_UNIT;
    return Math.min(
        Math.min(blocks, sharedBytes / shared), Math.min(warps, warpsByRegisters) / warpsOfBlock);
  }
}
