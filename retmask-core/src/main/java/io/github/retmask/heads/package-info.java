/// Attention heads as values: which ones, switched how, scored how.
@org.jspecify.annotations.NullMarked
package io.github.retmask.heads;
