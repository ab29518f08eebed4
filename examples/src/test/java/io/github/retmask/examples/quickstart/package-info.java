@org.jspecify.annotations.NullMarked
package io.github.retmask.examples.quickstart;
