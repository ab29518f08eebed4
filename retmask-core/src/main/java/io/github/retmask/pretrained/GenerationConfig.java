package io.github.retmask.pretrained;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.generate.Sampling;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;

/// How a checkpoint wants to generate: its `generation_config.json`, whose keys are those of
/// transformers. Without that file, or where `do_sample` is not true, decoding is greedy; a repetition
/// penalty holds all the same.
///
/// @param eosIds tokens that end a text, from here or else from config.json; may be empty
/// @param samples whether tokens are drawn (`do_sample`); otherwise temperature and filters do not matter
/// @param temperature divisor of the logits; 1 where the file has none
/// @param topK tokens that stay; 0, where the file has none, is all
/// @param topP probability that stays; 1, where the file has none, is all
/// @param minP lowest probability relative to the likeliest token's; 0 where the file has none
/// @param repetitionPenalty penalty of what was said before; 1 where the file has none
/// @param notFollowed keys of the file that would change what is generated and are not followed
public record GenerationConfig(
    int[] eosIds,
    boolean samples,
    double temperature,
    int topK,
    double topP,
    double minP,
    double repetitionPenalty,
    List<String> notFollowed) {
  /// Keys of transformers' GenerationConfig that change tokens, with the values that do not.
  private static final Map<String, Double> NEUTRAL =
      Map.ofEntries(
          Map.entry("num_beams", 1.0),
          Map.entry("num_beam_groups", 1.0),
          Map.entry("penalty_alpha", 0.0),
          Map.entry("typical_p", 1.0),
          Map.entry("epsilon_cutoff", 0.0),
          Map.entry("eta_cutoff", 0.0),
          Map.entry("top_h", 0.0),
          Map.entry("encoder_repetition_penalty", 1.0),
          Map.entry("no_repeat_ngram_size", 0.0),
          Map.entry("encoder_no_repeat_ngram_size", 0.0),
          Map.entry("min_length", 0.0),
          Map.entry("min_new_tokens", 0.0),
          Map.entry("guidance_scale", 1.0));

  /// Such keys whose values are ids or lists of them; there unless absent or empty.
  private static final List<String> LISTS =
      List.of(
          "bad_words_ids",
          "begin_suppress_tokens",
          "exponential_decay_length_penalty",
          "force_words_ids",
          "forced_bos_token_id",
          "forced_eos_token_id",
          "sequence_bias",
          "stop_strings",
          "suppress_tokens");

  private static final String FILE = "generation_config.json";
  private static final String EOS = "eos_token_id";

  /// Reads the file of a checkpoint folder.
  ///
  /// @param config the folder's config.json
  /// @throws FormatException naming the key that is wrong
  static GenerationConfig read(Path folder, ConfigReader config) throws IOException {
    Path file = folder.resolve(FILE);
    if (!Files.exists(file)) {
      return new GenerationConfig(config.integers(EOS), false, 1, 0, 1, 0, 1, List.of());
    }
    ConfigReader json = new ConfigReader(JsonFiles.read(file), file.toString());
    GenerationConfig read =
        new GenerationConfig(
            json.has(EOS) ? json.integers(EOS) : config.integers(EOS),
            json.flag("do_sample", false),
            json.number("temperature", 1),
            json.integer("top_k", 0, 0),
            json.number("top_p", 1),
            json.number("min_p", 0),
            json.number("repetition_penalty", 1),
            notFollowed(json));
    try {
      read.sampling(0);
    } catch (IllegalArgumentException e) {
      throw new FormatException(file + ": " + e.getMessage(), e);
    }
    return read;
  }

  private static List<String> notFollowed(ConfigReader json) {
    SortedSet<String> keys = new TreeSet<>();
    NEUTRAL.forEach(
        (key, neutral) -> {
          if (json.has(key) && json.number(key) != neutral) {
            keys.add(key);
          }
        });
    for (String key : LISTS) {
      JsonNode value = json.json().path(key);
      if (json.has(key) && !(value.isContainerNode() && value.isEmpty())) {
        keys.add(key);
      }
    }
    return List.copyOf(keys);
  }

  /// The sampling this asks for.
  ///
  /// @param seed seed of the noise
  public Sampling sampling(long seed) {
    return samples
        ? new Sampling(temperature, topK, topP, minP, repetitionPenalty, seed)
        : Sampling.GREEDY.withRepetitionPenalty(repetitionPenalty);
  }
}
