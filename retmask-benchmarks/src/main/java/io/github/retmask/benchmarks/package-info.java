/// JMH benchmarks of the shipped kernels, one class per operation.
@org.jspecify.annotations.NullMarked
package io.github.retmask.benchmarks;
