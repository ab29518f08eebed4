/// One screen each: the steps of RetMask as programs on the library's own classes.
@org.jspecify.annotations.NullMarked
package io.github.retmask.examples;
