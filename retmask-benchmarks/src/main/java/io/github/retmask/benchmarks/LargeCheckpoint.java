package io.github.retmask.benchmarks;

import com.fasterxml.jackson.core.JsonEncoding;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/// Writes a checkpoint of the size of a published model with random BF16 weights, for measuring what
/// opening and running such a model takes. Weights are made while they are written; none is held.
///
/// `LargeCheckpoint SHAPE FOLDER`, the shape being 1b, 3b or 8b.
public final class LargeCheckpoint {
  private static final int VOCAB = 128_256;
  private static final int SPECIAL = 2;
  private static final int PIECE_BYTES = 1 << 20;

  private LargeCheckpoint() {}

  /// Sizes of Llama 3.2 1B and 3B and of Llama 3.1 8B, as their config.json give them.
  private enum Model {
    B1(16, 2048, 32, 64, 8192, true),
    B3(28, 3072, 24, 128, 8192, true),
    B8(32, 4096, 32, 128, 14336, false);

    private static final int KV_HEADS = 8;
    final int layers;
    final int hidden;
    final int heads;
    final int headDim;
    final int intermediate;
    final boolean tied;

    Model(int layers, int hidden, int heads, int headDim, int intermediate, boolean tied) {
      this.layers = layers;
      this.hidden = hidden;
      this.heads = heads;
      this.headDim = headDim;
      this.intermediate = intermediate;
      this.tied = tied;
    }

    static Model named(String name) {
      return switch (name.toLowerCase(Locale.ROOT)) {
        case "1b" -> B1;
        case "3b" -> B3;
        case "8b" -> B8;
        default -> throw new IllegalArgumentException("shape \"" + name + "\": want 1b, 3b or 8b");
      };
    }
  }

  static void main(String[] args) throws IOException {
    if (args.length != 2) {
      System.err.println("usage: LargeCheckpoint 1b|3b|8b FOLDER");
      System.exit(2);
    }
    Model model = Model.named(args[0]);
    Path folder = Files.createDirectories(Path.of(args[1]));
    Files.writeString(folder.resolve("config.json"), config(model));
    writeTokenizer(folder);
    Path file = folder.resolve("model.safetensors");
    weights(model).writeTo(file);
    System.out.printf(Locale.ROOT, "%s: %,d bytes%n", file, Files.size(file));
  }

  private static String config(Model m) {
    return """
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
         "vocab_size": %d, "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
         "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
         "tie_word_embeddings": %b, "torch_dtype": "bfloat16",
         "bos_token_id": %d, "eos_token_id": %d}
        """
        .formatted(
            VOCAB,
            m.hidden,
            m.intermediate,
            m.layers,
            m.heads,
            Model.KV_HEADS,
            m.headDim,
            m.tied,
            VOCAB - 2,
            VOCAB - 1);
  }

  private static SafeTensorsWriter weights(Model m) {
    SafeTensorsWriter writer = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
    int q = m.heads * m.headDim;
    int kv = Model.KV_HEADS * m.headDim;
    add(writer, "model.embed_tokens.weight", VOCAB, m.hidden);
    for (int l = 0; l < m.layers; l++) {
      String layer = "model.layers." + l + ".";
      add(writer, layer + "input_layernorm.weight", m.hidden);
      add(writer, layer + "self_attn.q_proj.weight", q, m.hidden);
      add(writer, layer + "self_attn.k_proj.weight", kv, m.hidden);
      add(writer, layer + "self_attn.v_proj.weight", kv, m.hidden);
      add(writer, layer + "self_attn.o_proj.weight", m.hidden, q);
      add(writer, layer + "post_attention_layernorm.weight", m.hidden);
      add(writer, layer + "mlp.gate_proj.weight", m.intermediate, m.hidden);
      add(writer, layer + "mlp.up_proj.weight", m.intermediate, m.hidden);
      add(writer, layer + "mlp.down_proj.weight", m.hidden, m.intermediate);
    }
    add(writer, "model.norm.weight", m.hidden);
    if (!m.tied) {
      add(writer, "lm_head.weight", VOCAB, m.hidden);
    }
    return writer;
  }

  /// Ones for a norm; for a matrix plus or minus 2^e to 2^(e+1), near one over the root of its width.
  private static void add(SafeTensorsWriter writer, String name, long... dims) {
    boolean norm = dims.length == 1;
    long sign = norm ? 0 : 0x8000_8000_8000_8000L;
    long mantissa = norm ? 0 : 0x007f_007f_007f_007fL;
    int power = norm ? 0 : (int) Math.floor(-Math.log(dims[dims.length - 1]) / Math.log(4));
    long exponent = (127L + power << 7) * 0x0001_0001_0001_0001L;
    Shape shape = Shape.of(dims);
    writer.add(
        name,
        DType.BF16,
        shape,
        sink -> {
          SplitMix64 random = new SplitMix64(SplitMix64.key(name));
          try (Arena arena = Arena.ofConfined()) {
            MemorySegment piece = arena.allocate(PIECE_BYTES, Long.BYTES);
            for (long left = shape.size() * DType.BF16.bytes(); left > 0; left -= PIECE_BYTES) {
              for (long at = 0; at < PIECE_BYTES; at += Long.BYTES) {
                long bits = random.next() & (sign | mantissa) | exponent;
                piece.set(ValueLayout.JAVA_LONG, at, bits);
              }
              sink.write(piece.asSlice(0, Math.min(left, PIECE_BYTES)));
            }
          }
        });
  }

  /// A byte-level BPE of full size: the 256 bytes, then strings of letters, each merged from the one
  /// before its last letter and that letter.
  private static void writeTokenizer(Path folder) throws IOException {
    List<String> tokens = new ArrayList<>(bytes());
    List<String> grown = letters();
    int first = 0;
    List<String[]> merges = new ArrayList<>();
    while (tokens.size() < VOCAB - SPECIAL) {
      String stem = grown.get(first++);
      for (String letter : letters()) {
        if (tokens.size() < VOCAB - SPECIAL) {
          tokens.add(stem + letter);
          grown.add(stem + letter);
          merges.add(new String[] {stem, letter});
        }
      }
    }
    Path file = folder.resolve("tokenizer.json");
    try (JsonGenerator json =
        new ObjectMapper().createGenerator(file.toFile(), JsonEncoding.UTF8)) {
      json.writeStartObject();
      json.writeStringField("version", "1.0");
      json.writeArrayFieldStart("added_tokens");
      for (int id = VOCAB - SPECIAL; id < VOCAB; id++) {
        json.writePOJO(
            Map.of(
                "id",
                id,
                "content",
                special(id),
                "single_word",
                false,
                "lstrip",
                false,
                "rstrip",
                false,
                "normalized",
                false,
                "special",
                true));
      }
      json.writeEndArray();
      Map<String, Object> byteLevel =
          Map.of(
              "type",
              "ByteLevel",
              "add_prefix_space",
              false,
              "trim_offsets",
              true,
              "use_regex",
              true);
      json.writeObjectField("pre_tokenizer", byteLevel);
      json.writeObjectField("decoder", byteLevel);
      json.writeObjectFieldStart("model");
      json.writeStringField("type", "BPE");
      json.writeObjectFieldStart("vocab");
      for (int id = 0; id < tokens.size(); id++) {
        json.writeNumberField(tokens.get(id), id);
      }
      json.writeEndObject();
      json.writeObjectField("merges", merges);
      json.writeEndObject();
      json.writeEndObject();
    }
    Files.writeString(
        folder.resolve("tokenizer_config.json"),
        "{\"bos_token\": \"%s\", \"eos_token\": \"%s\"}\n"
            .formatted(special(VOCAB - 2), special(VOCAB - 1)));
  }

  private static String special(int id) {
    return id == VOCAB - 1 ? "<|end_of_text|>" : "<|begin_of_text|>";
  }

  private static List<String> letters() {
    return "abcdefghijklmnopqrstuvwxyz"
        .chars()
        .mapToObj(Character::toString)
        .collect(Collectors.toCollection(ArrayList::new));
  }

  /// The characters that stand for bytes in a byte-level vocabulary (GPT-2): printable ones of Latin-1
  /// stand for themselves, the others for U+0100 onwards.
  private static List<String> bytes() {
    boolean[] printable = new boolean[256];
    Arrays.fill(printable, '!', '~' + 1, true);
    Arrays.fill(printable, 0xa1, 0xac + 1, true);
    Arrays.fill(printable, 0xae, 0xff + 1, true);
    List<String> all = new ArrayList<>();
    int other = 256;
    for (int b = 0; b < 256; b++) {
      all.add(Character.toString(printable[b] ? b : other++));
    }
    return all;
  }
}
