/// The whole method on the bundled model, and what it found: tables, a page, and JSON.
@org.jspecify.annotations.NullMarked
package io.github.retmask.examples.quickstart;
