package io.github.retmask.benchmarks.gpu;

import java.util.LinkedHashMap;
import java.util.Map;

/// Sizes of the op benchmark, those of one decoder layer.
///
/// @param tokens T of one sequence
/// @param context S, keys of a decoding step
/// @param hidden C
/// @param heads H
/// @param kvHeads Hkv
/// @param headDim D
/// @param intermediate F
/// @param vocab V
/// @param parameters elements of an optimiser step
public record GpuShape(
    int tokens,
    int context,
    int hidden,
    int heads,
    int kvHeads,
    int headDim,
    int intermediate,
    int vocab,
    int parameters) {

  /// Of Llama 3 8B at 8192 tokens.
  static final GpuShape LLAMA_8B =
      new GpuShape(8192, 32_768, 4096, 32, 8, 128, 14_336, 128_256, 256 << 20);

  /// Small enough for an emulated GPU.
  static final GpuShape TINY = new GpuShape(40, 70, 64, 4, 2, 16, 96, 200, 5000);

  /// The same in a form that the peer reads.
  Map<String, Integer> json() {
    Map<String, Integer> json = new LinkedHashMap<>();
    json.put("tokens", tokens);
    json.put("context", context);
    json.put("hidden", hidden);
    json.put("heads", heads);
    json.put("kv_heads", kvHeads);
    json.put("head_dim", headDim);
    json.put("intermediate", intermediate);
    json.put("vocab", vocab);
    json.put("parameters", parameters);
    return json;
  }
}
