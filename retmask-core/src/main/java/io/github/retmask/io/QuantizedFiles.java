package io.github.retmask.io;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BiFunction;
import java.util.stream.LongStream;

/// A model whose matrices are rounded to blocks when they are first asked for, one after the other,
/// and kept in memory, where the backend has a form of its own for them as a copy in that. Vectors
/// (norms, biases) stay as they are stored, and so do matrices whose rows are no whole blocks of 32 and
/// those that are of a block type already.
///
/// What was read of a matrix is given back to the system at once, so that the peak is what is kept and
/// one matrix. Only copies that the source had to make (queries and keys in GGUF files of the llama
/// architecture, data at odd addresses) stay beside it.
public final class QuantizedFiles implements ModelFiles {
  private static final Set<String> ROUNDED = Set.of("F32", "BF16", "F16");
  private static final long ALIGNMENT = 64; // one cache line
  private static final long PIECE_ELEMENTS = 1 << 18; // a few ms of work for a thread

  private final ModelFiles source;
  private final Quantization to;
  private final String output;
  private final boolean isParallel;
  private final Progress progress;
  private final long all; // elements of matrices
  private final AtomicLong done = new AtomicLong();
  private final TensorArena placed;
  private final BiFunction<Tensor, TensorArena, Tensor> place;
  private final List<Arena> kept = new ArrayList<>(); // of matrices that are used where they are
  private final Map<String, Tensor> matrices = Collections.synchronizedMap(new LinkedHashMap<>());

  /// Hears how far the loading is.
  @FunctionalInterface
  public interface Progress {
    /// Hears nothing.
    Progress NONE = (_, _) -> {};

    /// @param done elements of matrices that are loaded
    /// @param all elements of all of them
    void at(long done, long all);
  }

  /// @param source closed with this
  /// @param output name of the matrix that gives the logits
  /// @param isParallel whether all cores may round, or the caller alone; changes no bit
  /// @param placed memory of what `place` copies; closed with this
  /// @param place gives a rounded matrix as it is to be used, itself or a copy
  public QuantizedFiles(
      ModelFiles source,
      Quantization to,
      String output,
      boolean isParallel,
      Progress progress,
      TensorArena placed,
      BiFunction<Tensor, TensorArena, Tensor> place) {
    this.source = source;
    this.to = to;
    this.output = output;
    this.isParallel = isParallel;
    this.progress = progress;
    this.placed = placed;
    this.place = place;
    this.all =
        source.stored().stream()
            .filter(tensor -> tensor.shape().rank() == 2)
            .mapToLong(tensor -> tensor.shape().size())
            .sum();
  }

  /// A matrix before and after.
  ///
  /// @param stored as the file has it
  /// @param used as the model has it; the same where it was not rounded
  public record Matrix(Tensor stored, Tensor used) {
    /// Whether the two differ in type.
    public boolean isRounded() {
      return stored.dtype() != used.dtype();
    }
  }

  /// What matrices are rounded to.
  public Quantization quantization() {
    return to;
  }

  /// All matrices that were asked for, in that order.
  public List<Matrix> matrices() {
    List<Matrix> list = new ArrayList<>();
    matrices.forEach(
        (name, used) -> list.add(new Matrix(source.tensor(name, used.shape().dims()), used)));
    return list;
  }

  /// By how much rounding changed a matrix. Reads it again.
  public RoundingError error(Matrix matrix) {
    RoundingError error =
        RoundingError.between(matrix.stored(), matrix.used().toHost(), isParallel);
    unload(matrix.stored());
    return error;
  }

  @Override
  public Path path() {
    return source.path();
  }

  @Override
  public List<Path> weightFiles() {
    return source.weightFiles();
  }

  @Override
  public ConfigReader config() {
    return source.config();
  }

  /// As [ModelFiles#tensor], rounded.
  ///
  /// @throws FormatException also when a matrix holds a value that blocks are not made for
  @Override
  public Tensor tensor(String name, long... dims) {
    Tensor stored = source.tensor(name, dims); // checks the shape every time
    return dims.length == 2 ? matrices.computeIfAbsent(name, _ -> matrix(stored)) : stored;
  }

  private Tensor matrix(Tensor stored) {
    Tensor used =
        isRounded(stored.dtype().name(), stored.shape())
            ? rounded(stored, to.of(stored.name().equals(output)))
            : stored;
    progress.at(done.addAndGet(stored.size()), all);
    return used;
  }

  private static boolean isRounded(String dtype, Shape shape) {
    return shape.rank() == 2
        && ROUNDED.contains(dtype)
        && shape.dim(1) % DType.Q8_0.blockSize() == 0; // Q4_0 has blocks of the same size
  }

  private Tensor rounded(Tensor stored, DType dtype) {
    Arena memory = Arena.ofShared();
    boolean isKept = false;
    try {
      Tensor rounded = rounded(stored, dtype, memory);
      Tensor used = place.apply(rounded, placed);
      isKept = used == rounded;
      return used;
    } finally {
      if (isKept) {
        kept.add(memory);
      } else {
        memory.close();
      }
    }
  }

  private Tensor rounded(Tensor stored, DType dtype, Arena memory) {
    MemorySegment bytes = memory.allocate(dtype.bytes(stored.size()), ALIGNMENT);
    long rows = stored.dim(0);
    long rowsOfPiece = Math.max(1, PIECE_ELEMENTS / Math.max(1, stored.dim(1)));
    long rowBytes = dtype.bytes(stored.dim(1));
    String what = "%s: tensor %s".formatted(source.path(), FormatException.quote(stored.name()));
    LongStream pieces = LongStream.range(0, (rows + rowsOfPiece - 1) / rowsOfPiece);
    (isParallel ? pieces.parallel() : pieces)
        .forEach(
            piece -> {
              long from = piece * rowsOfPiece;
              long to = Math.min(rows, from + rowsOfPiece);
              var target =
                  bytes
                      .asSlice(from * rowBytes, (to - from) * rowBytes)
                      .asByteBuffer()
                      .order(ByteOrder.LITTLE_ENDIAN);
              for (long row = from; row < to; row++) {
                RowEncoder.encode(target, stored.slice(row, row + 1).toFloats(), dtype, what);
              }
            });
    unload(stored);
    return Tensor.host(stored.name(), dtype, stored.shape(), bytes.asReadOnly());
  }

  /// Gives back the memory of a part of a file; it is read anew if it is looked at again.
  private static void unload(Tensor stored) {
    if (stored.segment().isMapped()) {
      stored.segment().unload();
    }
  }

  /// As the source has them, with the type that a matrix is rounded to beside the stored one; so the
  /// fingerprint tells rounded models from others without reading what was rounded.
  @Override
  public List<Stored> stored() {
    return source.stored().stream()
        .map(
            tensor ->
                isRounded(tensor.dtype(), tensor.shape())
                    ? new Stored(
                        tensor.name(),
                        tensor.dtype() + " as " + to.of(tensor.name().equals(output)),
                        tensor.shape(),
                        tensor.data())
                    : tensor)
        .toList();
  }

  @Override
  public void close() {
    kept.forEach(Arena::close);
    placed.close();
    source.close();
  }
}
