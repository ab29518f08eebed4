/// The CUDA backend: launchers of the kernels in `src/main/cuda`, one class per op, and the driver
/// layer under them.
package io.github.retmask.kernels.cuda;
