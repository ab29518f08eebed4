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
import java.util.Map;
import java.util.stream.Collectors;

/// A Llama of any size with random weights and a whole tokenizer, as a checkpoint folder. Weights are
/// made while they are written; none is held. Their values are the same in F32 and BF16.
///
/// @param layers L
/// @param hidden C
/// @param heads H
/// @param kvHeads Hkv
/// @param headDim D
/// @param intermediate F
/// @param vocab V
/// @param isTied whether the LM head is the embedding
/// @param context positions
/// @param rope what config.json says of rope, as JSON members
public record RandomLlama(
    int layers,
    int hidden,
    int heads,
    int kvHeads,
    int headDim,
    int intermediate,
    int vocab,
    boolean isTied,
    int context,
    String rope) {
  /// Tokens of single bytes; the id of each is the byte.
  public static final int BYTES = 256;

  private static final int SPECIAL = 2;
  private static final int PIECE_LONGS = 1 << 17;

  /// Writes config.json, the tokenizer and model.safetensors.
  ///
  /// @param dtype F32 or BF16
  /// @return the file with the weights
  public Path writeTo(Path folder, DType dtype) throws IOException {
    Files.createDirectories(folder);
    Files.writeString(folder.resolve("config.json"), config(dtype));
    writeTokenizer(folder);
    Path file = folder.resolve("model.safetensors");
    weights(dtype).writeTo(file);
    return file;
  }

  private String config(DType dtype) {
    return """
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
         "vocab_size": %d, "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
         "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d,
         "max_position_embeddings": %d, "rms_norm_eps": 1e-5, %s,
         "tie_word_embeddings": %b, "torch_dtype": "%s",
         "bos_token_id": %d, "eos_token_id": %d}
        """
        .formatted(
            vocab,
            hidden,
            intermediate,
            layers,
            heads,
            kvHeads,
            headDim,
            context,
            rope,
            isTied,
            dtype == DType.F32 ? "float32" : "bfloat16",
            vocab - 2,
            vocab - 1);
  }

  private SafeTensorsWriter weights(DType dtype) {
    SafeTensorsWriter writer = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
    int q = heads * headDim;
    int kv = kvHeads * headDim;
    add(writer, dtype, "model.embed_tokens.weight", vocab, hidden);
    for (int l = 0; l < layers; l++) {
      String layer = "model.layers." + l + ".";
      add(writer, dtype, layer + "input_layernorm.weight", hidden);
      add(writer, dtype, layer + "self_attn.q_proj.weight", q, hidden);
      add(writer, dtype, layer + "self_attn.k_proj.weight", kv, hidden);
      add(writer, dtype, layer + "self_attn.v_proj.weight", kv, hidden);
      add(writer, dtype, layer + "self_attn.o_proj.weight", hidden, q);
      add(writer, dtype, layer + "post_attention_layernorm.weight", hidden);
      add(writer, dtype, layer + "mlp.gate_proj.weight", intermediate, hidden);
      add(writer, dtype, layer + "mlp.up_proj.weight", intermediate, hidden);
      add(writer, dtype, layer + "mlp.down_proj.weight", hidden, intermediate);
    }
    add(writer, dtype, "model.norm.weight", hidden);
    if (!isTied) {
      add(writer, dtype, "lm_head.weight", vocab, hidden);
    }
    return writer;
  }

  /// Ones for a norm; for a matrix plus or minus 2^e to 2^(e+1), near one over the root of its width.
  /// Rows of bytes in the LM head are 0, so that the model says whole tokens: engines that yield text
  /// hold back a piece of a character.
  private static void add(SafeTensorsWriter writer, DType dtype, String name, long... dims) {
    boolean norm = dims.length == 1;
    long sign = norm ? 0 : 0x8000_8000_8000_8000L;
    long mantissa = norm ? 0 : 0x007f_007f_007f_007fL;
    int power = norm ? 0 : (int) Math.floor(-Math.log(dims[dims.length - 1]) / Math.log(4));
    long exponent = (127L + power << 7) * 0x0001_0001_0001_0001L;
    Shape shape = Shape.of(dims);
    long silent = name.equals("lm_head.weight") ? BYTES * dims[1] : 0; // elements
    writer.add(
        name,
        dtype,
        shape,
        sink -> {
          SplitMix64 random = new SplitMix64(SplitMix64.key(name));
          try (Arena arena = Arena.ofConfined()) {
            long stride = 4L * dtype.bytes(); // four values of BF16 in a long
            MemorySegment piece = arena.allocate(PIECE_LONGS * stride, Long.BYTES);
            for (long from = 0; from < shape.size(); from += 4 * PIECE_LONGS) {
              for (int i = 0; i < PIECE_LONGS; i++) {
                long bits = random.next() & (sign | mantissa) | exponent;
                put(piece, i * stride, from + 4L * i < silent ? 0 : bits, dtype);
              }
              long left = (shape.size() - from) * dtype.bytes();
              sink.write(piece.asSlice(0, Math.min(left, piece.byteSize())));
            }
          }
        });
  }

  private static void put(MemorySegment piece, long at, long bits, DType dtype) {
    if (dtype == DType.BF16) {
      piece.set(ValueLayout.JAVA_LONG, at, bits);
      return;
    }
    for (int i = 0; i < 4; i++) {
      int one = (int) (bits >>> 16 * i) << 16;
      piece.set(ValueLayout.JAVA_INT, at + (long) Integer.BYTES * i, one);
    }
  }

  /// What each token spells: the 256 bytes, then strings of letters, each merged from the one before
  /// its last letter and that letter, then BOS and EOS. A text without small letters is cut into
  /// bytes.
  public List<String> tokens() {
    return tokens(new ArrayList<>());
  }

  private List<String> tokens(List<String[]> merges) {
    List<String> tokens = new ArrayList<>(bytes());
    List<String> grown = letters();
    int first = 0;
    while (tokens.size() < vocab - SPECIAL) {
      String stem = grown.get(first++);
      for (String letter : letters()) {
        if (tokens.size() < vocab - SPECIAL) {
          tokens.add(stem + letter);
          grown.add(stem + letter);
          merges.add(new String[] {stem, letter});
        }
      }
    }
    tokens.add("<|begin_of_text|>");
    tokens.add("<|end_of_text|>");
    return tokens;
  }

  private void writeTokenizer(Path folder) throws IOException {
    List<String[]> merges = new ArrayList<>();
    List<String> tokens = tokens(merges);
    Path file = folder.resolve("tokenizer.json");
    try (JsonGenerator json =
        new ObjectMapper().createGenerator(file.toFile(), JsonEncoding.UTF8)) {
      json.writeStartObject();
      json.writeStringField("version", "1.0");
      json.writeArrayFieldStart("added_tokens");
      for (int id = vocab - SPECIAL; id < vocab; id++) {
        json.writePOJO(
            Map.of(
                "id",
                id,
                "content",
                tokens.get(id),
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
      for (int id = 0; id < vocab - SPECIAL; id++) {
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
            .formatted(tokens.get(vocab - 2), tokens.get(vocab - 1)));
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
