/// JMH benchmarks of the shipped kernels, one class per op, and programs that measure
/// the machine and whole models.
@org.jspecify.annotations.NullMarked
package io.github.retmask.benchmarks;
