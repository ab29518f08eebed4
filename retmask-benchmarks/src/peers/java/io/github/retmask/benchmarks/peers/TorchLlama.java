package io.github.retmask.benchmarks.peers;

import io.github.retmask.io.SafeTensors;
import io.github.retmask.tensor.DType;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/// Llama in eager libtorch, with its fused attention.
final class TorchLlama {
  private static final int WIDTH_AXIS = 3;
  private static final TensorOptional NO_MASK = new TensorOptional();

  /// Keys and values of one sequence, `[1,Hkv,S,D]` per layer.
  record Cache(Tensor[] keys, Tensor[] values) {}

  final int layers;
  final int heads;
  final int vocab;
  private final int hidden;
  private final int kvHeads;
  private final int headDim;
  private final TensorOptions options;
  private final Map<String, Tensor> weights = new LinkedHashMap<>();
  private final Tensor cos; // [positions,D]
  private final Tensor sin;

  /// @param positions of the longest sequence
  TorchLlama(ModelFolder folder, int positions) throws IOException {
    var shape = folder.model();
    layers = shape.layers();
    heads = shape.heads();
    vocab = shape.vocab();
    hidden = shape.hidden();
    kvHeads = shape.kvHeads();
    headDim = shape.headDim();
    options =
        new TensorOptions(
            folder.type() == DType.BF16 ? torch.ScalarType.BFloat16 : torch.ScalarType.Float);
    try (SafeTensors file = SafeTensors.open(folder.checkpoint().resolve("model.safetensors"))) {
      for (SafeTensors.Entry entry : file.entries()) {
        BytePointer mapped = new BytePointer(file.bytes(entry.name()).asByteBuffer());
        weights.put(entry.name(), torch.from_blob(mapped, entry.shape().dims(), options).clone());
      }
    }
    float[] c = new float[positions * headDim];
    float[] s = new float[positions * headDim];
    for (int p = 0; p < positions; p++) {
      for (int i = 0; i < headDim; i++) {
        double angle = p * Math.pow(10000, -2.0 * (i % (headDim / 2)) / headDim);
        c[p * headDim + i] = (float) Math.cos(angle);
        s[p * headDim + i] = (float) Math.sin(angle);
      }
    }
    cos = torch.tensor(c).view(positions, headDim).to(options.dtype().toScalarType());
    sin = torch.tensor(s).view(positions, headDim).to(options.dtype().toScalarType());
  }

  /// All weights.
  TensorVector parameters() {
    TensorVector all = new TensorVector();
    weights.values().forEach(all::push_back);
    return all;
  }

  /// An empty cache.
  Cache cache(int positions) {
    Tensor[] keys = new Tensor[layers];
    Tensor[] values = new Tensor[layers];
    for (int l = 0; l < layers; l++) {
      keys[l] = torch.zeros(new long[] {1, kvHeads, positions, headDim}, options);
      values[l] = torch.zeros(new long[] {1, kvHeads, positions, headDim}, options);
    }
    return new Cache(keys, values);
  }

  /// Final hidden states `[1,T,C]`.
  ///
  /// @param ids `[1,T]`
  /// @param position of the first token
  /// @param cache appended to, or null
  /// @param gates per layer `[1,H,1,1]`, what the head outputs are multiplied by, or null; null
  ///   entries leave a layer alone
  Tensor forward(Tensor ids, int position, @Nullable Cache cache, Tensor @Nullable [] gates) {
    long t = ids.size(1);
    Tensor x = torch.embedding(weight("model.embed_tokens"), ids);
    Tensor c = cos.narrow(0, position, t);
    Tensor s = sin.narrow(0, position, t);
    for (int l = 0; l < layers; l++) {
      String layer = "model.layers." + l + ".";
      Tensor h = norm(x, layer + "input_layernorm");
      Tensor q = rope(split(linear(h, layer + "self_attn.q_proj"), heads), c, s);
      Tensor k = rope(split(linear(h, layer + "self_attn.k_proj"), kvHeads), c, s);
      Tensor v = split(linear(h, layer + "self_attn.v_proj"), kvHeads);
      if (cache != null) {
        cache.keys[l].narrow(2, position, t).copy_(k);
        cache.values[l].narrow(2, position, t).copy_(v);
        k = cache.keys[l].narrow(2, 0, position + t);
        v = cache.values[l].narrow(2, 0, position + t);
      }
      Tensor z =
          torch.scaled_dot_product_attention(
              q, k, v, NO_MASK, 0.0, t > 1, new DoubleOptional(), true);
      if (gates != null && gates[l] != null) {
        z = z.mul(gates[l]);
      }
      x = x.add(linear(z.transpose(1, 2).reshape(1, t, hidden), layer + "self_attn.o_proj"));
      h = norm(x, layer + "post_attention_layernorm");
      Tensor inner =
          torch.silu(linear(h, layer + "mlp.gate_proj")).mul(linear(h, layer + "mlp.up_proj"));
      x = x.add(linear(inner, layer + "mlp.down_proj"));
    }
    return norm(x, "model.norm");
  }

  /// Logits of hidden states.
  Tensor logits(Tensor hiddenStates) {
    return linear(hiddenStates, "lm_head");
  }

  /// The likeliest token after the last of these hidden states.
  int next(Tensor hiddenStates) {
    long t = hiddenStates.size(1);
    return (int) logits(hiddenStates.narrow(1, t - 1, 1)).view(-1).argmax().item_long();
  }

  private Tensor weight(String module) {
    return weights.get(module + ".weight");
  }

  /// `linear` takes one row through a matrix product at a third of the bandwidth; `mv` streams.
  private Tensor linear(Tensor x, String module) {
    Tensor w = weight(module);
    return x.numel() == w.size(1) ? w.mv(x.reshape(-1)).view(1, 1, w.size(0)) : torch.linear(x, w);
  }

  private Tensor norm(Tensor x, String module) {
    return torch.rms_norm(
        x, new long[] {hidden}, new TensorOptional(weight(module)), new DoubleOptional(1e-5));
  }

  /// `[1,T,n D]` to `[1,n,T,D]`.
  private Tensor split(Tensor x, int n) {
    return x.view(1, x.size(1), n, headDim).transpose(1, 2);
  }

  private Tensor rope(Tensor x, Tensor c, Tensor s) {
    Tensor low = x.narrow(WIDTH_AXIS, 0, headDim / 2);
    Tensor high = x.narrow(WIDTH_AXIS, headDim / 2, headDim / 2);
    return x.mul(c).add(torch.cat(new TensorVector(high.neg(), low), WIDTH_AXIS).mul(s));
  }
}
