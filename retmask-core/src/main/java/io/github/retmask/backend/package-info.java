/// The seam between what is computed and how fast. [io.github.retmask.backend.Kernels] is the
/// contract, [io.github.retmask.backend.Ops] checks and delegates, a
/// [io.github.retmask.backend.Backend] provides an implementation.
@org.jspecify.annotations.NullMarked
package io.github.retmask.backend;
