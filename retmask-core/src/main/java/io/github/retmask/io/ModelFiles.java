package io.github.retmask.io;

import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;

/// Where a model comes from: a configuration in the form of config.json, and tensors under the names
/// that Hugging Face's checkpoints have. Safe for use by many threads.
public interface ModelFiles extends AutoCloseable {

  /// The folder or file as it was named on opening.
  Path path();

  /// The files that hold the weights.
  List<Path> weightFiles();

  /// The configuration, an object.
  ConfigReader config();

  /// A tensor that must have this shape, as a read-only view that lives until [#close].
  ///
  /// @throws FormatException when there is no such tensor, or it has another shape or an element type
  ///     that cannot be read
  Tensor tensor(String name, long... dims);

  /// All tensors as they are stored.
  List<Stored> stored();

  /// A tensor as it is stored.
  ///
  /// @param dtype element type as spelled in the file
  /// @param data its bytes
  record Stored(String name, String dtype, Shape shape, MemorySegment data) {}

  /// Ends the life of all tensors.
  @Override
  void close();
}
