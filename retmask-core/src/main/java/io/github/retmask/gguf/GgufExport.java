package io.github.retmask.gguf;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.ModelFiles;
import io.github.retmask.io.RowEncoder;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Writes a model as a GGUF file that llama.cpp runs. The metadata are those of llama.cpp's
/// convert_hf_to_gguf.py; the whole tokenizer.json goes along as `tokenizer.huggingface.json`, so that
/// nothing of it is lost.
///
/// Vectors (norms, biases) are stored as F32, as llama.cpp wants them. With a type given, all matrices
/// get it, except that Q8_0 leaves matrices as they are whose rows are no whole blocks of 32. Without
/// one, matrices stay in the type they have.
public final class GgufExport {
  /// Rows are encoded together up to so many bytes.
  private static final int PIECE_BYTES = 4 << 20;

  private final ModelFiles files;
  private final ModelConfig config;
  private final GgufFamily family;
  private final String prefix;
  private final Map<String, Tensor> tensors = new LinkedHashMap<>(); // by checkpoint name
  private final GgufVocabulary vocabulary;

  /// Hears how far the writing is.
  @FunctionalInterface
  public interface Progress {
    /// @param done elements written
    /// @param all elements of the model
    void at(long done, long all);
  }

  /// What will be written.
  ///
  /// @param tokenizer the model's, or null when it has none
  /// @param eosIds tokens that end a text
  /// @throws FormatException when the family or what its config asks for has no place in GGUF
  /// @throws IOException when the tokenizer cannot be read
  public GgufExport(ModelFiles files, @Nullable Tokenizer tokenizer, int[] eosIds)
      throws IOException {
    this.files = files;
    ConfigReader json = files.config();
    Architecture architecture = Architecture.of(json);
    String type = json.text("model_type");
    GgufFamily known = GgufFamily.ofModelType(type);
    if (known == null) {
      throw json.error("model_type", "\"" + type + "\" has no GGUF form here");
    }
    this.family = known;
    this.prefix = family.architecture() + ".";
    this.config = architecture.config(json);
    architecture.weights(
        config,
        json,
        (name, dims) -> {
          Tensor tensor = files.tensor(name, dims);
          tensors.put(name, tensor);
          return tensor;
        });
    this.vocabulary =
        tokenizer == null
            ? GgufVocabulary.none(eosIds)
            : GgufVocabulary.of(files.path(), tokenizer, eosIds, config.vocabSize());
  }

  /// Why llama.cpp cannot tokenize for this model and must be given token ids, or null when it can.
  public @Nullable String whyNoText() {
    return vocabulary.problem();
  }

  /// Writes the file; it appears whole or not at all.
  ///
  /// @param dtype F32, F16, BF16 or Q8_0 for all matrices; or null to leave each as it is
  /// @throws FormatException when a value does not fit its type
  /// @throws IOException one line that names the file and says why it was not written
  public void writeTo(Path target, @Nullable DType dtype, Progress progress) throws IOException {
    GgufWriter writer = new GgufWriter();
    Map<DType, Long> shares = new EnumMap<>(DType.class);
    long all = 0;
    for (Tensor tensor : tensors.values()) {
      shares.merge(stored(tensor, dtype), tensor.size(), Long::sum);
      all += tensor.size();
    }
    metadata(
        writer,
        shares.entrySet().stream().max(Map.Entry.comparingByValue()).orElseThrow().getKey());
    vocabulary.writeTo(writer);
    ropeFactors(writer);
    long total = all;
    long[] done = {0};
    tensors.forEach(
        (name, tensor) -> {
          DType type = stored(tensor, dtype);
          String fileName = family.fileName(name);
          if (fileName == null) {
            throw new FormatException(
                "%s: tensor %s has no name in GGUF"
                    .formatted(files.path(), FormatException.quote(name)));
          }
          writer.add(
              fileName,
              GgufType.of(type),
              tensor.shape(),
              sink -> {
                write(sink, name, tensor, type);
                done[0] += tensor.size();
                progress.at(done[0], total);
              });
        });
    writer.writeTo(target);
  }

  private static DType stored(Tensor tensor, @Nullable DType wanted) {
    if (tensor.shape().rank() == 1) {
      return DType.F32;
    }
    boolean fits = wanted != null && tensor.dim(-1) % wanted.blockSize() == 0;
    return fits ? wanted : tensor.dtype();
  }

  private void write(GgufWriter.Sink sink, String name, Tensor tensor, DType type)
      throws IOException {
    boolean vector = tensor.shape().rank() == 1;
    Tensor matrix = vector && !isPermuted(name) ? tensor.view(1, tensor.size()) : rows(tensor);
    long rows = matrix.dim(0);
    int rowBytes = Math.toIntExact(type.bytes(matrix.dim(1)));
    long[] source = new long[Math.toIntExact(rows)]; // of every row of the file
    for (long row = 0; row < rows; row++) {
      int heads = HeadRows.isQuery(name) ? config.heads() : config.kvHeads();
      long at = isPermuted(name) ? new HeadRows(heads, rows).inFile(row) : row;
      source[(int) at] = row;
    }
    int most = (int) Math.min(rows, Math.max(1, PIECE_BYTES / rowBytes));
    ByteBuffer piece =
        ByteBuffer.allocateDirect(Math.multiplyExact(most, rowBytes))
            .order(ByteOrder.LITTLE_ENDIAN);
    for (int row = 0; row < rows; row++) {
      Tensor one = matrix.slice(source[row], source[row] + 1);
      if (one.dtype() == type) {
        piece.put(one.toHost().segment().asByteBuffer());
      } else {
        RowEncoder.encode(piece, one.toFloats(), type, "tensor " + FormatException.quote(name));
      }
      if (!piece.hasRemaining() || row == rows - 1) {
        sink.write(MemorySegment.ofBuffer(piece.flip()));
        piece.clear();
      }
    }
  }

  private boolean isPermuted(String name) {
    return family.permuted() && HeadRows.concerns(name);
  }

  /// A vector as a column, a matrix as it is.
  private static Tensor rows(Tensor tensor) {
    return tensor.shape().rank() == 1 ? tensor.view(tensor.size(), 1) : tensor;
  }

  private void metadata(GgufWriter to, DType mostly) {
    to.put("general.architecture", family.architecture());
    to.put("general.type", "model");
    to.put("general.name", String.valueOf(files.path().toAbsolutePath().normalize().getFileName()));
    int fileType = // LLAMA_FTYPE of llama.h
        switch (mostly) {
          case F16 -> 1;
          case Q4_0 -> 2;
          case Q8_0 -> 7;
          case Q4_K -> 15;
          case Q6_K -> 18;
          case BF16 -> 32;
          case F32, I32 -> 0;
        };
    to.put("general.file_type", fileType);
    if (mostly.isBlock()) {
      to.put("general.quantization_version", 2);
    }
    to.put(prefix + "vocab_size", config.vocabSize());
    to.put( // not config.maxPositions, which counts in what scaled rope reaches beyond
        prefix + "context_length",
        files.config().integer("max_position_embeddings", 1, config.maxPositions()));
    to.put(prefix + "embedding_length", config.hiddenSize());
    to.put(prefix + "block_count", config.layerCount());
    to.put(prefix + "feed_forward_length", config.intermediateSize());
    to.put(prefix + "attention.head_count", config.heads());
    to.put(prefix + "attention.head_count_kv", config.kvHeads());
    to.put(prefix + "attention.key_length", config.headDim());
    to.put(prefix + "attention.value_length", config.headDim());
    to.put(prefix + "attention.layer_norm_rms_epsilon", config.normEps());
    windows(to);
    rope(to);
  }

  private void windows(GgufWriter to) {
    boolean[] slides = new boolean[config.layerCount()];
    int window = AttentionSpec.NO_WINDOW;
    boolean all = true;
    for (int l = 0; l < slides.length; l++) {
      int here = config.layers().get(l).attention().window();
      slides[l] = here != AttentionSpec.NO_WINDOW;
      all &= slides[l];
      window = Math.min(window, here);
    }
    if (window != AttentionSpec.NO_WINDOW) {
      to.put(prefix + "attention.sliding_window", window);
      if (!all) {
        to.putFlags(prefix + "attention.sliding_window_pattern", slides);
      }
    }
  }

  /// The rope of the last layer, which is one of those that look everywhere where layers differ.
  private RopeSpec rope() {
    for (LayerSpec layer : config.layers().reversed()) {
      if (layer.attention().window() == AttentionSpec.NO_WINDOW) {
        return layer.rope();
      }
    }
    return config.layers().getLast().rope();
  }

  /// A file says one rope; where a family mixes windows, it holds unscaled in layers with one.
  private void requireOneRope() {
    RopeSpec said = rope();
    RopeSpec inWindows =
        family.mixesWindows()
            ? new RopeSpec(said.theta(), said.rotaryDim(), new RopeSpec.None())
            : said;
    for (LayerSpec layer : config.layers()) {
      boolean windowed = layer.attention().window() != AttentionSpec.NO_WINDOW;
      if (!layer.rope().equals(windowed ? inWindows : said)) {
        throw noPlace("a rope of their own in some layers");
      }
    }
  }

  private void rope(GgufWriter to) {
    requireOneRope();
    RopeSpec rope = rope();
    to.put(prefix + "rope.dimension_count", rope.rotaryDim());
    to.put(prefix + "rope.freq_base", (float) rope.theta());
    switch (rope.scaling()) {
      case RopeSpec.None _ -> {}
      case RopeSpec.Linear linear -> {
        to.put(prefix + "rope.scaling.type", "linear");
        to.put(prefix + "rope.scaling.factor", (float) linear.factor());
      }
      case RopeSpec.Llama3 llama3 ->
          to.put(
              prefix + "rope.scaling.original_context_length",
              (int) Math.rint(llama3.originalContext()));
      case RopeSpec.Yarn yarn -> {
        to.put(prefix + "rope.scaling.type", "yarn");
        to.put(prefix + "rope.scaling.factor", (float) yarn.factor());
        double magnitude = GgufRope.yarnMagnitude(yarn.factor());
        float extra = (float) (yarn.attentionFactor() / magnitude);
        if (extra != 1 && extra == (float) magnitude) {
          throw noPlace("a yarn attention_factor that is the square of yarn's own");
        }
        if (extra != 1) {
          to.put(prefix + "rope.scaling.attn_factor", extra);
        }
        if (!yarn.truncate()) {
          throw noPlace("yarn that does not truncate");
        }
        to.put(
            prefix + "rope.scaling.original_context_length",
            (int) Math.rint(yarn.originalContext()));
        to.put(prefix + "rope.scaling.yarn_beta_fast", (float) yarn.betaFast());
        to.put(prefix + "rope.scaling.yarn_beta_slow", (float) yarn.betaSlow());
      }
      case RopeSpec.LongRope s -> {
        to.put(
            prefix + "rope.scaling.original_context_length", (int) Math.rint(s.originalContext()));
        to.put(prefix + "rope.scaling.attn_factor", (float) s.attentionFactor());
      }
      case RopeSpec.DynamicNtk _ -> throw noPlace("rope that changes with the context (dynamic)");
    }
  }

  private FormatException noPlace(String what) {
    return new FormatException("%s: %s has no place in GGUF".formatted(files.path(), what));
  }

  /// Divisors of single speeds lie in tensors.
  private void ropeFactors(GgufWriter to) {
    switch (rope().scaling()) {
      case RopeSpec.Llama3 _ -> add(to, GgufRope.FACTORS, GgufRope.divisors(rope()));
      case RopeSpec.LongRope s -> {
        add(to, GgufRope.LONG_FACTORS, doubles(s.longFactors()));
        add(to, GgufRope.SHORT_FACTORS, doubles(s.shortFactors()));
      }
      default -> {}
    }
  }

  private static double[] doubles(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).toArray();
  }

  private static void add(GgufWriter to, String name, double[] values) {
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (double value : values) {
      bytes.putFloat((float) value);
    }
    to.add(
        name,
        GgufType.of(DType.F32),
        Shape.of(values.length),
        sink -> sink.write(MemorySegment.ofArray(bytes.array())));
  }
}
