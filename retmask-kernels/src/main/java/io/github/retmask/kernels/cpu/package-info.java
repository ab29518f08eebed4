/// The CPU backend on the Vector API.
///
/// Every output element is computed in an order that its own row fixes: sums over an inner
/// dimension are one chain of fused multiply-adds per output with outputs side by side in vector
/// lanes, sums within a row go through 16 virtual lanes and one fixed tree. So the bits depend
/// neither on the vector width of the machine, nor on the number of threads, nor on whether the
/// code is compiled yet.
@org.jspecify.annotations.NullMarked
package io.github.retmask.kernels.cpu;
