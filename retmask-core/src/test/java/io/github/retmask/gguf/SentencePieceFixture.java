package io.github.retmask.gguf;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.PriorityQueue;

/// A small vocabulary of SentencePiece's kind, and its tokenizer written as `llm_tokenizer_spm` of
/// llama.cpp works: neighbours merge when their union is a token, highest score first, the leftmost of
/// equals; what is no token in the end becomes its bytes.
final class SentencePieceFixture {
  static final int UNK = 0;
  static final int BOS = 1;
  static final int EOS = 2;
  private static final int BYTES = 3;

  private static final String[] PIECES = {
    "\u2581t",
    "he",
    "\u2581the",
    "in",
    "er",
    "\u2581a",
    "\u2581r",
    "iv",
    "iver",
    "\u2581river",
    "en",
    "\u2581b",
    "\u2581bend",
    "nd",
    "end",
    "aa",
    "aaa",
    "aab",
    "ab",
    "\u00e4\u00f6",
    "\u2581\u2581",
    "\u2581\u2581\u2581\u2581",
    "ver",
    "ri",
    "\u2581ri",
    "\u20ac1",
    "12",
    "23",
    "123",
    "\u258112"
  };
  private static final String CHARACTERS = "\u2581abcdehinrtv123\u00e4\u00f6\u20ac";

  private SentencePieceFixture() {}

  static List<String> tokens() {
    List<String> tokens = new ArrayList<>(List.of("<unk>", "<s>", "</s>"));
    for (int b = 0; b < 256; b++) {
      tokens.add("<0x%02X>".formatted(b));
    }
    tokens.addAll(List.of(PIECES));
    CHARACTERS.codePoints().forEach(c -> tokens.add(Character.toString(c)));
    return tokens;
  }

  static float[] scores() {
    float[] scores = new float[tokens().size()];
    for (int id = BYTES + 256; id < scores.length; id++) {
      scores[id] = BYTES + 256 - id;
    }
    return scores;
  }

  static GgufBytes file() {
    List<String> tokens = tokens();
    long[] types = new long[tokens.size()];
    for (int id = 0; id < types.length; id++) {
      types[id] = id < BYTES ? (id == UNK ? 2 : 3) : id < BYTES + 256 ? 6 : 1;
    }
    return new GgufBytes()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.embedding_length", 4)
        .u32("llama.feed_forward_length", 3)
        .u32("llama.context_length", 64)
        .u32("llama.attention.head_count", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-6f)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", tokens.toArray(String[]::new))
        .f32s("tokenizer.ggml.scores", scores())
        .u32s("tokenizer.ggml.token_type", types)
        .u32("tokenizer.ggml.bos_token_id", BOS)
        .u32("tokenizer.ggml.eos_token_id", EOS)
        .u32("tokenizer.ggml.unknown_token_id", UNK)
        .floats("token_embd.weight", 4, tokens.size())
        .floats("output_norm.weight", 4)
        .floats("blk.0.attn_norm.weight", 4)
        .floats("blk.0.attn_q.weight", 4, 4)
        .floats("blk.0.attn_k.weight", 4, 4)
        .floats("blk.0.attn_v.weight", 4, 4)
        .floats("blk.0.attn_output.weight", 4, 4)
        .floats("blk.0.ffn_norm.weight", 4)
        .floats("blk.0.ffn_gate.weight", 4, 3)
        .floats("blk.0.ffn_up.weight", 4, 3)
        .floats("blk.0.ffn_down.weight", 3, 4);
  }

  private record Pair(int left, int right, float score, String text) {}

  /// Ids of a text, without BOS.
  static List<Integer> encode(String text) {
    List<String> tokens = tokens();
    float[] scores = scores();
    String[] symbols =
        ("\u2581" + text.replace(' ', '\u2581'))
            .codePoints()
            .mapToObj(Character::toString)
            .toArray(String[]::new);
    int[] next = new int[symbols.length];
    int[] before = new int[symbols.length];
    for (int i = 0; i < symbols.length; i++) {
      next[i] = i + 1;
      before[i] = i - 1;
    }
    PriorityQueue<Pair> queue =
        new PriorityQueue<>(
            (a, b) ->
                a.score != b.score
                    ? Float.compare(b.score, a.score)
                    : Integer.compare(a.left, b.left));
    for (int i = 1; i < symbols.length; i++) {
      offer(queue, symbols, i - 1, i, tokens, scores);
    }
    while (!queue.isEmpty()) {
      Pair pair = queue.poll();
      String left = symbols[pair.left];
      String right = symbols[pair.right];
      if (left.isEmpty() || right.isEmpty() || !(left + right).equals(pair.text)) {
        continue;
      }
      symbols[pair.left] = pair.text;
      symbols[pair.right] = "";
      next[pair.left] = next[pair.right];
      if (next[pair.right] < symbols.length) {
        before[next[pair.right]] = pair.left;
      }
      if (before[pair.left] >= 0) {
        offer(queue, symbols, before[pair.left], pair.left, tokens, scores);
      }
      if (next[pair.left] < symbols.length) {
        offer(queue, symbols, pair.left, next[pair.left], tokens, scores);
      }
    }
    List<Integer> ids = new ArrayList<>();
    for (String symbol : symbols) {
      int id = tokens.indexOf(symbol);
      if (id >= 0) {
        ids.add(id);
      } else if (!symbol.isEmpty()) {
        for (byte b : symbol.getBytes(StandardCharsets.UTF_8)) {
          ids.add(BYTES + (b & 255));
        }
      }
    }
    return ids;
  }

  private static void offer(
      PriorityQueue<Pair> queue,
      String[] symbols,
      int left,
      int right,
      List<String> tokens,
      float[] scores) {
    String union = symbols[left] + symbols[right];
    int id = tokens.indexOf(union);
    if (id >= 0) {
      queue.add(new Pair(left, right, scores[id], union));
    }
  }
}
