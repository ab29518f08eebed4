/// The CUDA backend: launchers of the kernels in `src/main/cuda`, one class per op, and the driver
/// layer under them.
@org.jspecify.annotations.NullMarked
package io.github.retmask.kernels.cuda;
