/// Tasks with known answers and the metrics that score them.
@org.jspecify.annotations.NullMarked
package io.github.retmask.eval;
