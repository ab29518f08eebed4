package io.github.retmask.gguf;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.gguf.GgufFile.Entry;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.ModelFiles;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.concurrent.ConcurrentHashMap;

/// A model in a GGUF file, as a checkpoint: the families llama (Mistral too), qwen2, qwen3, olmo2 (and
/// OLMo 3) and phi3, with tensors of F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K.
///
/// Tensors are views of the mapped file in the type they have there; only the matrices of queries and
/// keys of the llama architecture are copies, because their rows lie there in another order, see
/// [HeadRows].
public final class GgufModel implements ModelFiles {
  private static final String SPLITS = "split.count";
  private static final long COPY_ALIGNMENT = 64;

  private final GgufFile file;
  private final GgufFamily family;
  private final ObjectNode config;
  private final SequencedMap<String, Entry> entries; // by checkpoint name
  private final Map<String, MemorySegment> reordered = new ConcurrentHashMap<>();

  private GgufModel(
      GgufFile file, GgufFamily family, ObjectNode config, SequencedMap<String, Entry> entries) {
    this.file = file;
    this.family = family;
    this.config = config;
    this.entries = entries;
  }

  /// Opens a file.
  ///
  /// @throws FormatException naming the key or tensor that is missing, broken or not supported
  /// @throws IOException when the system refuses to read or map it
  public static GgufModel open(Path path) throws IOException {
    GgufFile file = GgufFile.open(path);
    try {
      GgufMetadata metadata = file.metadata();
      if (metadata.integerOr(SPLITS, 0, 1) > 1) {
        throw metadata.error(
            SPLITS,
            "is %d; a model in parts is not supported, merge them with llama-gguf-split"
                .formatted(metadata.integer(SPLITS, 0)));
      }
      GgufFamily family = GgufFamily.of(metadata);
      return new GgufModel(file, family, new GgufConfig(file, family).read(), named(file, family));
    } catch (Throwable failure) {
      file.close();
      throw failure;
    }
  }

  /// A tensor that nobody asks for would be a part of the model left out.
  private static SequencedMap<String, Entry> named(GgufFile file, GgufFamily family) {
    SequencedMap<String, Entry> named = new LinkedHashMap<>();
    for (Entry entry : file.tensors().values()) {
      String name = family.checkpointName(entry.name());
      if (name != null) {
        named.put(name, entry);
      } else if (!entry.name().startsWith("rope_")) {
        throw new FormatException(
            "%s: tensor %s has no place in a model of architecture %s"
                .formatted(
                    file.file(), FormatException.quote(entry.name()), family.architecture()));
      }
    }
    return named;
  }

  @Override
  public Path path() {
    return file.file();
  }

  @Override
  public List<Path> weightFiles() {
    return List.of(file.file());
  }

  /// The metadata in the form of config.json.
  @Override
  public ConfigReader config() {
    return new ConfigReader(config, file.file().toString());
  }

  @Override
  public Tensor tensor(String name, long... dims) {
    Entry entry = entries.get(name);
    if (entry == null) {
      String wanted = family.fileName(name);
      throw new FormatException(
          "%s: no tensor %s in the %d tensors of this file"
              .formatted(
                  file.file(),
                  FormatException.quote(wanted == null ? name : wanted),
                  file.tensors().size()));
    }
    DType dtype = entry.type().readable();
    boolean isVector = entry.shape().rank() == 1;
    if (dtype == null || isVector && dtype.isBlock()) {
      throw new FormatException(
          "%s: tensor %s is %s, want F32, F16, BF16%s"
              .formatted(
                  file.file(),
                  FormatException.quote(entry.name()),
                  entry.type().name(),
                  isVector ? "" : ", Q8_0, Q4_0, Q4_K or Q6_K"));
    }
    Shape wanted = Shape.of(dims);
    if (!entry.shape().equals(wanted)) {
      throw new FormatException(
          "%s: tensor %s is %s, want %s"
              .formatted(file.file(), FormatException.quote(entry.name()), entry.shape(), wanted));
    }
    return Tensor.host(name, dtype, wanted, bytes(name, entry));
  }

  private MemorySegment bytes(String name, Entry entry) {
    if (!family.permuted() || !HeadRows.concerns(name)) {
      return file.bytes(entry);
    }
    return reordered.computeIfAbsent(name, _ -> reorder(name, entry));
  }

  private MemorySegment reorder(String name, Entry entry) {
    String key = HeadRows.isQuery(name) ? "num_attention_heads" : "num_key_value_heads";
    int heads = config.get(key).intValue();
    long rows = entry.shape().dim(0);
    if (rows % (2L * heads) != 0) {
      throw new FormatException(
          "%s: tensor %s has %d rows, want %d heads of an even number of rows"
              .formatted(file.file(), FormatException.quote(entry.name()), rows, heads));
    }
    MemorySegment copy = file.arena().allocate(entry.bytes(), COPY_ALIGNMENT);
    new HeadRows(heads, rows).toCheckpoint(copy, file.bytes(entry));
    return copy.asReadOnly();
  }

  @Override
  public List<Stored> stored() {
    List<Stored> stored = new ArrayList<>();
    entries.forEach(
        (name, entry) ->
            stored.add(new Stored(name, entry.type().name(), entry.shape(), file.bytes(entry))));
    return stored;
  }

  /// Unmaps the file; its tensors must not be used after that.
  @Override
  public void close() {
    file.close();
  }
}
