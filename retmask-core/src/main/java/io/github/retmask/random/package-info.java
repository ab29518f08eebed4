/// Random numbers that are the same on every JVM: one published generator, and noise addressed by
/// what it is for instead of by when it is drawn.
@org.jspecify.annotations.NullMarked
package io.github.retmask.random;
