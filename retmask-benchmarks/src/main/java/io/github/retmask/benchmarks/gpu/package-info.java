/// Every op and whole models on a GPU, beside torch. Start [GpuBenchmark].
@org.jspecify.annotations.NullMarked
package io.github.retmask.benchmarks.gpu;
