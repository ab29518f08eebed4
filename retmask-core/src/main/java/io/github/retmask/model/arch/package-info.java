/// One file per model family: its config.json as a [io.github.retmask.model.ModelConfig], its
/// checkpoint's tensor names as [io.github.retmask.model.Weights]. Nothing else knows a family.
@org.jspecify.annotations.NullMarked
package io.github.retmask.model.arch;
