package io.github.retmask.io;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;

/// A Hugging Face checkpoint folder: `config.json`, and the weights in `model.safetensors` or in the
/// shards that `model.safetensors.index.json` lists. Where both are there, `model.safetensors` counts,
/// as it does for the transformers library.
///
/// [#open] reads and checks config.json, the index and all headers; weights are mapped, not loaded.
/// Safe for use by many threads.
public final class Checkpoint implements ModelFiles {
  /// Files that belong to a model besides its weights and are copied with it.
  private static final Set<String> COMPANIONS =
      Set.of(
          CheckpointFolder.CONFIG,
          CheckpointFolder.INDEX,
          "generation_config.json",
          "tokenizer.json",
          "tokenizer_config.json",
          "tokenizer.model",
          "special_tokens_map.json",
          "added_tokens.json",
          "vocab.json",
          "vocab.txt",
          "merges.txt",
          "chat_template.json",
          "language.json"); // of models of the synthetic language, which are evaluated by it

  private static final String MORE_TEMPLATES = "additional_chat_templates";

  private final Path folder;
  private final Arena arena;
  private final JsonNode config;
  private final List<SafeTensors> files;
  private final SequencedMap<String, SafeTensors> fileOf;

  private Checkpoint(
      Path folder,
      Arena arena,
      JsonNode config,
      List<SafeTensors> files,
      SequencedMap<String, SafeTensors> fileOf) {
    this.folder = folder;
    this.arena = arena;
    this.config = config;
    this.files = files;
    this.fileOf = fileOf;
  }

  /// Opens a checkpoint folder.
  ///
  /// @throws FormatException when something is missing, broken or contradictory
  /// @throws IOException when the system refuses to read
  public static Checkpoint open(Path folder) throws IOException {
    if (!Files.isDirectory(folder)) {
      throw new FormatException(
          "%s: %s; want a checkpoint folder with config.json and model.safetensors"
              .formatted(folder, Files.exists(folder) ? "not a folder" : "no such folder"));
    }
    Path configFile = folder.resolve(CheckpointFolder.CONFIG);
    if (!Files.exists(configFile)) {
      throw new FormatException(
          folder + ": no config.json; want a checkpoint folder in Hugging Face's layout");
    }
    JsonNode config = new ConfigReader(JsonFiles.read(configFile), configFile.toString()).json();
    Arena arena = Arena.ofShared();
    try {
      Path single = folder.resolve(CheckpointFolder.WEIGHTS);
      Path index = folder.resolve(CheckpointFolder.INDEX);
      if (Files.exists(single)) {
        SafeTensors file = SafeTensors.open(single, arena);
        return new Checkpoint(folder, arena, config, List.of(file), place(List.of(file)));
      }
      if (Files.exists(index)) {
        SequencedMap<String, String> shardOf = readIndex(index);
        List<SafeTensors> shards = openShards(index, shardOf, arena);
        SequencedMap<String, SafeTensors> fileOf = place(shards);
        requireListed(index, shardOf, fileOf);
        return new Checkpoint(folder, arena, config, shards, fileOf);
      }
      throw noWeights(folder);
    } catch (Throwable failure) {
      arena.close();
      throw failure;
    }
  }

  /// Tensor name to shard name, in file order.
  private static SequencedMap<String, String> readIndex(Path index) throws IOException {
    JsonNode weightMap = JsonFiles.read(index).path("weight_map");
    if (!weightMap.isObject() || weightMap.isEmpty()) {
      throw new FormatException(
          index + ": no weight_map; want an object of tensor names and the files they are in");
    }
    SequencedMap<String, String> shardOf = new LinkedHashMap<>();
    weightMap
        .properties()
        .forEach(
            entry -> {
              JsonNode shard = entry.getValue();
              if (!shard.isTextual() || !isPlainName(shard.textValue())) {
                throw new FormatException(
                    "%s: tensor %s is in %s, want the name of a .safetensors file in the same folder"
                        .formatted(
                            index,
                            FormatException.quote(entry.getKey()),
                            shard.isTextual()
                                ? FormatException.quote(shard.textValue())
                                : shard.getNodeType()));
              }
              shardOf.put(entry.getKey(), shard.textValue());
            });
    return shardOf;
  }

  /// Whether a shard name stays in its folder on every system, whatever its separators.
  private static boolean isPlainName(String name) {
    try {
      return name.endsWith(".safetensors")
          && !name.startsWith(".")
          && name.chars().noneMatch(c -> c == '/' || c == '\\' || c == ':')
          && Path.of(name).getNameCount() == 1;
    } catch (InvalidPathException e) {
      return false;
    }
  }

  private static List<SafeTensors> openShards(Path index, Map<String, String> shardOf, Arena arena)
      throws IOException {
    TreeMap<String, String> firstTensor = new TreeMap<>();
    shardOf.forEach((tensor, shard) -> firstTensor.putIfAbsent(shard, tensor));
    List<SafeTensors> shards = new ArrayList<>();
    for (Map.Entry<String, String> entry : firstTensor.entrySet()) {
      Path shard = index.resolveSibling(entry.getKey());
      if (!Files.exists(shard)) {
        throw new FormatException(
            "%s: shard %s is missing; it should hold tensor %s"
                .formatted(
                    index,
                    FormatException.quote(entry.getKey()),
                    FormatException.quote(entry.getValue())));
      }
      shards.add(SafeTensors.open(shard, arena));
    }
    return shards;
  }

  /// Tensor name to the file that has it, file by file in the order of the data.
  private static SequencedMap<String, SafeTensors> place(List<SafeTensors> files) {
    SequencedMap<String, SafeTensors> fileOf = new LinkedHashMap<>();
    for (SafeTensors file : files) {
      for (SafeTensors.Entry entry : file.entries()) {
        SafeTensors other = fileOf.putIfAbsent(entry.name(), file);
        if (other != null) {
          throw new FormatException(
              "%s: tensor %s is also in %s"
                  .formatted(
                      file.file(),
                      FormatException.quote(entry.name()),
                      other.file().getFileName()));
        }
      }
    }
    return fileOf;
  }

  private static void requireListed(
      Path index, Map<String, String> shardOf, Map<String, SafeTensors> fileOf) {
    shardOf.forEach(
        (tensor, shard) -> {
          SafeTensors file = fileOf.get(tensor);
          if (file == null || !file.file().endsWith(shard)) {
            throw new FormatException(
                "%s: tensor %s should be in %s but is %s"
                    .formatted(
                        index,
                        FormatException.quote(tensor),
                        shard,
                        file == null ? "in no shard" : "in " + file.file().getFileName()));
          }
        });
  }

  private static FormatException noWeights(Path folder) throws IOException {
    List<String> names;
    try (Stream<Path> list = Files.list(folder)) {
      names = list.map(file -> file.getFileName().toString()).sorted().toList();
    }
    String found;
    if (names.stream().anyMatch(n -> n.startsWith("pytorch_model") && n.contains(".bin"))) {
      found =
          ("weights are in PyTorch's pickle format (pytorch_model.bin), which is not read; convert them"
                  + " once in Python: transformers.AutoModelForCausalLM.from_pretrained(\"%1$s\")"
                  + ".save_pretrained(\"%1$s\", safe_serialization=True)")
              .formatted(folder);
    } else if (names.stream().anyMatch(n -> n.endsWith(".gguf"))) {
      found = "weights are in GGUF: give the .gguf file itself";
    } else if (names.stream().anyMatch(n -> n.endsWith(".safetensors"))) {
      found =
          "neither model.safetensors nor model.safetensors.index.json, only "
              + names.stream().filter(n -> n.endsWith(".safetensors")).limit(3).toList();
    } else {
      found = "no weights; want model.safetensors or model.safetensors.index.json";
    }
    return new FormatException(folder + ": " + found);
  }

  /// The folder as it was named on opening.
  public Path folder() {
    return folder;
  }

  @Override
  public Path path() {
    return folder;
  }

  @Override
  public List<Path> weightFiles() {
    return files.stream().map(SafeTensors::file).toList();
  }

  /// config.json, an object.
  @Override
  public ConfigReader config() {
    return new ConfigReader(config, folder.resolve(CheckpointFolder.CONFIG).toString());
  }

  /// The weight files, in the order of their names.
  public List<SafeTensors> files() {
    return Collections.unmodifiableList(files);
  }

  /// What the headers say of all tensors, file by file in the order of the data.
  public List<SafeTensors.Entry> entries() {
    return files.stream().flatMap(file -> file.entries().stream()).toList();
  }

  @Override
  public List<Stored> stored() {
    List<Stored> stored = new ArrayList<>();
    for (SafeTensors file : files) {
      for (SafeTensors.Entry e : file.entries()) {
        stored.add(new Stored(e.name(), e.dtype(), e.shape(), file.bytes(e.name())));
      }
    }
    return stored;
  }

  /// Whether there is a tensor of this name.
  public boolean contains(String name) {
    return fileOf.containsKey(name);
  }

  /// A tensor, as a read-only view of the mapped file that lives until [#close].
  ///
  /// @throws FormatException when there is no such tensor, or its element type is none of F32, BF16,
  ///     F16 and I32
  public Tensor tensor(String name) {
    return file(name).tensor(name);
  }

  /// A tensor that must have this shape.
  ///
  /// @throws FormatException when there is no such tensor, or it has another shape or an element type
  ///     that is none of F32, BF16, F16 and I32
  @Override
  public Tensor tensor(String name, long... dims) {
    SafeTensors file = file(name);
    Tensor tensor = file.tensor(name);
    Shape wanted = Shape.of(dims);
    if (!tensor.shape().equals(wanted)) {
      throw new FormatException(
          "%s: tensor %s is %s, want %s"
              .formatted(file.file(), FormatException.quote(name), tensor.shape(), wanted));
    }
    return tensor;
  }

  private SafeTensors file(String name) {
    SafeTensors file = fileOf.get(name);
    if (file == null) {
      throw new FormatException(
          "%s: no tensor %s in the %d tensors of this checkpoint"
              .formatted(folder, FormatException.quote(name), fileOf.size()));
    }
    return file;
  }

  /// Writes this checkpoint again with some tensors replaced: the same files, headers and element
  /// types; config, tokenizer and template files byte for byte. An F32 replacement of a BF16 or F16
  /// tensor is rounded to nearest, ties to even.
  ///
  /// @param target folder to write, through [CheckpointFolder]; not this checkpoint's own
  /// @param replaced by name; of the same shape, and of the same element type or F32
  /// @throws IllegalArgumentException when a replacement has no original, another shape or type, or a
  ///     finite value beyond the stored type
  /// @throws IOException one line that names the folder and says why it was not written
  public void save(Path target, Map<String, Tensor> replaced, IfPresent ifPresent)
      throws IOException {
    replaced.forEach(this::requireFits);
    if (Files.exists(target) && Files.isSameFile(target, folder)) {
      throw new IOException(target + ": not written: it is the checkpoint that is being read");
    }
    CheckpointFolder.write(
        target,
        ifPresent,
        partial -> {
          for (SafeTensors file : files) {
            Path copy = partial.resolve(file.file().getFileName().toString());
            try (FileChannel channel =
                FileChannel.open(copy, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
              SafeTensorsWriter.rewrite(channel, file, replaced);
            }
          }
          copyCompanions(partial);
        });
  }

  private void requireFits(String name, Tensor tensor) {
    SafeTensors file = fileOf.get(name);
    if (file == null) {
      throw new IllegalArgumentException(
          "%s: no tensor %s to replace".formatted(folder, FormatException.quote(name)));
    }
    SafeTensors.Entry entry = file.entry(name);
    DType stored = entry.readable();
    if (stored == null || !tensor.shape().equals(entry.shape())) {
      throw new IllegalArgumentException(
          "%s: tensor %s cannot be replaced by %s%s"
              .formatted(folder, entry, tensor.dtype(), tensor.shape()));
    }
    Rounding.between(tensor, stored); // refuses what cannot be stored
  }

  private void copyCompanions(Path to) throws IOException {
    for (Path file : list(folder)) {
      String name = file.getFileName().toString();
      boolean skip = name.equals(CheckpointFolder.INDEX) && isSingleFile();
      if (isCompanion(name) && !skip && Files.isRegularFile(file)) {
        Files.copy(file, to.resolve(name));
      }
    }
    Path templates = folder.resolve(MORE_TEMPLATES);
    if (Files.isDirectory(templates)) {
      Path copies = Files.createDirectory(to.resolve(MORE_TEMPLATES));
      for (Path file : list(templates)) {
        if (Files.isRegularFile(file)) {
          Files.copy(file, copies.resolve(file.getFileName().toString()));
        }
      }
    }
  }

  /// Whether an index, if there is one, plays no part.
  private boolean isSingleFile() {
    return files.getFirst().file().endsWith(CheckpointFolder.WEIGHTS);
  }

  private static boolean isCompanion(String name) {
    return COMPANIONS.contains(name)
        || name.endsWith(".jinja")
        || name.startsWith("LICENSE")
        || name.startsWith("NOTICE");
  }

  private static List<Path> list(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.sorted().toList();
    }
  }

  /// Unmaps the weights; the tensors must not be used after that.
  @Override
  public void close() {
    arena.close();
  }
}
