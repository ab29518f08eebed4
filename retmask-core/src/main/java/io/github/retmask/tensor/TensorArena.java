package io.github.retmask.tensor;

/// Owner of the memory of many tensors that end together; who opens it closes it. There are three
/// lifetimes and no way to free one tensor alone.
public interface TensorArena extends AutoCloseable {

  /// How long the tensors of an arena live.
  enum Lifetime {
    /// Weights, gradients and optimiser state: until the model is closed.
    MODEL,
    /// Key/value caches: one conversation or one evaluation run.
    SESSION,
    /// Activations: one forward, or one forward and its backward. [TensorArena#reset] recycles the
    /// memory for the next step.
    STEP
  }

  /// A new tensor, all zero, aligned to 64 bytes.
  ///
  /// @throws OutOfMemoryError naming the tensor and the bytes asked for
  Tensor allocate(String name, DType dtype, long... dims);

  /// An all-zero F32 tensor.
  default Tensor floats(String name, long... dims) {
    return allocate(name, DType.F32, dims);
  }

  /// An I32 tensor of rank one that holds `values`.
  default Tensor ints(String name, int... values) {
    return allocate(name, DType.I32, values.length).copyFrom(values);
  }

  /// Ends the life of all tensors allocated so far and keeps the memory for the next ones. A tensor
  /// from before a reset must not be used after it.
  void reset();

  /// Bytes handed out since the last reset.
  long usedBytes();

  @Override
  void close();
}
