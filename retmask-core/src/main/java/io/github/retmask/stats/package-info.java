/// Intervals for the numbers the project reports.
@org.jspecify.annotations.NullMarked
package io.github.retmask.stats;
