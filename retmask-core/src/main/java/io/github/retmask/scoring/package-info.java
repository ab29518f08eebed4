/// Which heads retrieve: one file per scoring method, and the trials that they read.
@org.jspecify.annotations.NullMarked
package io.github.retmask.scoring;
