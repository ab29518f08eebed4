package io.github.retmask.kernels.cpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// Tells the compiler that a segment lies outside the heap, which it must know to keep vectors that
/// come from it in registers.
///
/// It usually learns so from what it saw run. But until C2 has compiled them, `reinterpretAs...`
/// methods of vectors go through a segment on the heap, and from then on vector accesses to any
/// segment are compiled for both kinds: 12 instead of 26 GB/s (JDK 25). The cast settles it.
final class OffHeap {
  /// What arenas allocate; the class of mapped files is a subclass of it. A kernel casts by this class
  /// itself: a method of ours in between is not inlined where the profile has its call as rare.
  static final Class<? extends MemorySegment> KIND = Arena.global().allocate(8).getClass();

  private OffHeap() {}

  static boolean holds(MemorySegment segment) {
    return KIND.isInstance(segment);
  }
}
