package io.github.retmask.gguf;

import io.github.retmask.backend.Ops;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.BlockQuantizer;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.jspecify.annotations.Nullable;

/// GGUF files for tests.
public final class GgufFixtures {
  private static final int HIDDEN = 256;
  private static final int FFN = 512;
  private static final int HEADS = 4;
  private static final int KV_HEADS = 2;
  private static final int LAYERS = 2;
  private static final int VOCAB = 264;
  private static final int BOS = 261;

  private GgufFixtures() {}

  /// Writes a model as a GGUF file.
  ///
  /// @param dtype type of the matrices, or null to leave them as they are
  public static void export(Path model, Path file, @Nullable DType dtype, Ops ops)
      throws IOException {
    try (PretrainedModel opened = PretrainedModel.open(model, ops)) {
      new GgufExport(opened.files(), opened.tokenizer(), opened.eosIds())
          .writeTo(file, dtype, (_, _) -> {});
    }
  }

  /// Writes a random model of the llama architecture twice: as a GGUF file whose matrices are of a
  /// block type, rows of q and k in llama.cpp's order; and as a checkpoint folder with the values of
  /// these blocks in F32. Its tokens are the 256 bytes, some unions, and BOS and EOS.
  public static void blockModel(Path file, Path folder, DType dtype, long seed) throws IOException {
    Random random = new Random(seed);
    Files.createDirectories(folder);
    GgufWriter gguf = new GgufWriter();
    gguf.put("general.architecture", "llama");
    gguf.put("llama.context_length", 512);
    gguf.put("llama.embedding_length", HIDDEN);
    gguf.put("llama.block_count", LAYERS);
    gguf.put("llama.feed_forward_length", FFN);
    gguf.put("llama.attention.head_count", HEADS);
    gguf.put("llama.attention.head_count_kv", KV_HEADS);
    gguf.put("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf.put("llama.rope.freq_base", 10000f);
    gguf.put("llama.rope.dimension_count", HIDDEN / HEADS);
    tokenizer(gguf);
    try (HostArena arena = new HostArena()) {
      SafeTensorsWriter folderWeights = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
      int kv = HIDDEN / HEADS * KV_HEADS;
      List<String[]> norms = new ArrayList<>();
      matrix(
          gguf,
          folderWeights,
          arena,
          "token_embd",
          "model.embed_tokens",
          VOCAB,
          HIDDEN,
          1,
          0,
          dtype,
          random);
      for (int l = 0; l < LAYERS; l++) {
        String b = "blk." + l + ".";
        String hf = "model.layers." + l + ".";
        String attn = hf + "self_attn.";
        double in = 1.5 / Math.sqrt(HIDDEN);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "attn_q",
            attn + "q_proj",
            HIDDEN,
            HIDDEN,
            in,
            HEADS,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "attn_k",
            attn + "k_proj",
            kv,
            HIDDEN,
            in,
            KV_HEADS,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "attn_v",
            attn + "v_proj",
            kv,
            HIDDEN,
            in,
            0,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "attn_output",
            attn + "o_proj",
            HIDDEN,
            HIDDEN,
            in,
            0,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "ffn_gate",
            hf + "mlp.gate_proj",
            FFN,
            HIDDEN,
            in,
            0,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "ffn_up",
            hf + "mlp.up_proj",
            FFN,
            HIDDEN,
            in,
            0,
            dtype,
            random);
        matrix(
            gguf,
            folderWeights,
            arena,
            b + "ffn_down",
            hf + "mlp.down_proj",
            HIDDEN,
            FFN,
            in,
            0,
            dtype,
            random);
        norms.add(new String[] {b + "attn_norm", hf + "input_layernorm"});
        norms.add(new String[] {b + "ffn_norm", hf + "post_attention_layernorm"});
      }
      norms.add(new String[] {"output_norm", "model.norm"});
      matrix(gguf, folderWeights, arena, "output", "lm_head", VOCAB, HIDDEN, 0.3, 0, dtype, random);
      for (String[] names : norms) {
        float[] values = new float[HIDDEN];
        for (int i = 0; i < HIDDEN; i++) {
          values[i] = 1 + (float) random.nextGaussian() / 16;
        }
        folderWeights.add(arena.floats(names[1] + ".weight", HIDDEN).copyFrom(values));
        ByteBuffer bytes = ByteBuffer.allocate(4 * HIDDEN).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        gguf.add(
            names[0] + ".weight",
            GgufType.of(DType.F32),
            Shape.of(HIDDEN),
            sink -> sink.write(MemorySegment.ofArray(bytes.array())));
      }
      folderWeights.writeTo(folder.resolve("model.safetensors"));
      gguf.writeTo(file);
    }
    Files.writeString(
        folder.resolve("config.json"),
        """
        {"model_type": "llama", "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
        "num_attention_heads": %d, "num_key_value_heads": %d, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512, "rope_theta": 10000.0, "vocab_size": %d,
        "tie_word_embeddings": false, "bos_token_id": %d, "eos_token_id": %d}"""
            .formatted(HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, VOCAB, BOS, BOS + 1));
  }

  private static void tokenizer(GgufWriter gguf) {
    List<String> tokens = new ArrayList<>();
    int beyond = 256;
    for (int b = 0; b < 256; b++) { // GPT-2's characters for bytes
      boolean visible = b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae;
      tokens.add(Character.toString(visible ? b : beyond++));
    }
    tokens.addAll(List.of("th", "the", "er", "\u0120the", "in", "<bos>", "<eos>", "[PAD]"));
    int[] types = new int[VOCAB];
    for (int id = 0; id < VOCAB; id++) {
      types[id] = id < BOS ? GgufTokenizer.NORMAL : GgufTokenizer.CONTROL;
    }
    types[VOCAB - 1] = GgufTokenizer.UNUSED;
    gguf.put("tokenizer.ggml.model", "gpt2");
    gguf.put("tokenizer.ggml.pre", "llama-bpe");
    gguf.putTexts("tokenizer.ggml.tokens", tokens);
    gguf.putInts("tokenizer.ggml.token_type", types);
    gguf.putTexts("tokenizer.ggml.merges", List.of("t h", "th e", "e r", "\u0120 the", "i n"));
    gguf.put("tokenizer.ggml.bos_token_id", BOS);
    gguf.put("tokenizer.ggml.eos_token_id", BOS + 1);
  }

  /// Whether a token is whole ASCII characters: others get no logits, so that continuations are text.
  private static boolean isText(int id) {
    return id > ' ' && id <= '~' || id >= 256 && id < BOS;
  }

  /// @param permutedHeads heads whose rows llama.cpp stores as neighbours, or 0
  private static void matrix(
      GgufWriter gguf,
      SafeTensorsWriter folder,
      HostArena arena,
      String fileName,
      String name,
      int rows,
      int columns,
      double deviation,
      int permutedHeads,
      DType dtype,
      Random random) {
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (random.nextGaussian() * deviation);
      if (name.equals("lm_head") && !isText(i / columns)) {
        values[i] = 0;
      }
    }
    BlockBytes blocks = BlockQuantizer.quantize(dtype, values);
    folder.add(arena.floats(name + ".weight", rows, columns).copyFrom(blocks.values()));
    int rowBytes = blocks.bytes().length / rows;
    byte[] stored = blocks.bytes().clone();
    int half = permutedHeads == 0 ? 0 : rows / permutedHeads / 2;
    for (int head = 0; head < permutedHeads; head++) {
      for (int part = 0; part < 2; part++) {
        for (int i = 0; i < half; i++) {
          int from = (head * 2 + part) * half + i;
          int to = head * 2 * half + 2 * i + part;
          System.arraycopy(blocks.bytes(), from * rowBytes, stored, to * rowBytes, rowBytes);
        }
      }
    }
    gguf.add(
        fileName + ".weight",
        GgufType.of(dtype),
        Shape.of(rows, columns),
        sink -> sink.write(MemorySegment.ofArray(stored)));
  }
}
