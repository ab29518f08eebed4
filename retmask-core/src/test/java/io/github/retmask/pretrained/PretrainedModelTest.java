package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.generate.Sampling;
import io.github.retmask.io.FormatException;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PretrainedModelTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir private Path folder;
  private Kernels kernels;
  private Ops ops;

  @BeforeEach
  void startBackend() {
    kernels = new ReferenceBackend().open(1);
    ops = new Ops(kernels);
  }

  @AfterEach
  void stopBackend() {
    kernels.close();
  }

  private static Path golden(String family) {
    URI uri =
        URI.create(
            Objects.requireNonNull(PretrainedModelTest.class.getResource("/goldens/" + family))
                .toString());
    return Path.of(uri);
  }

  private void copy(String family) throws IOException {
    try (Stream<Path> files = Files.list(golden(family))) {
      for (Path file : files.toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
  }

  private void edit(String file, String key, Object value) throws IOException {
    Path path = folder.resolve(file);
    ObjectNode json = (ObjectNode) JSON.readTree(path.toFile());
    json.putPOJO(key, value);
    Files.writeString(path, JSON.writeValueAsString(json));
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  @Test
  void tokenizerIsReadWhenAskedFor() throws IOException {
    try (PretrainedModel model = PretrainedModel.open(golden("llama"), ops)) {
      JsonNode expected = JSON.readTree(golden("llama").resolve("golden.json").toFile());
      int[] wanted = ints(expected.get("input_ids"));
      int[] encoded = model.tokenizer().encode(expected.get("text").textValue(), true);
      assertThat(encoded).startsWith(wanted);
      assertThat(model.tokenizer()).isSameAs(model.tokenizer());
    }
  }

  @Test
  void withoutATokenizerOnlyTheTokenizerFails() throws IOException {
    copy("llama");
    Files.delete(folder.resolve("tokenizer.json"));
    try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
      assertThat(model.hasTokenizer()).isFalse();
      assertThatThrownBy(model::tokenizer)
          .isInstanceOf(IOException.class)
          .hasMessageContaining("tokenizer.json");
    }
  }

  @Test
  void sizesThatContradictTheTensorsAreRefusedByFileAndTensor() throws IOException {
    copy("llama");
    edit("config.json", "intermediate_size", 81);
    assertThatThrownBy(() -> PretrainedModel.open(folder, ops))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("model.safetensors")
        .hasMessageContaining("model.layers.0.mlp.gate_proj.weight")
        .hasMessageContaining("[80, 48], want [81, 48]");
  }

  @Test
  void sizesThatContradictEachOtherAreRefusedByKey() throws IOException {
    copy("llama");
    edit("config.json", "num_key_value_heads", 4);
    assertThatThrownBy(() -> PretrainedModel.open(folder, ops))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("config.json")
        .hasMessageContaining("num_key_value_heads is 4, want a divisor of num_attention_heads, 6");
  }

  @Test
  void decodingIsGreedyUnlessTheFolderSaysOtherwise() throws IOException {
    copy("llama");
    try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
      assertThat(model.generation().sampling(7)).isEqualTo(Sampling.GREEDY);
      assertThat(model.generation().eosIds()).containsExactly(313, 316, 317);
    }
    Files.writeString(
        folder.resolve("generation_config.json"),
        """
        {"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 316}
        """);
    try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
      assertThat(model.generation().sampling(7)).isEqualTo(new Sampling(0.6, 0, 0.9, 0, 1, 7));
      assertThat(model.generation().eosIds()).containsExactly(316);
    }
  }

  @Test
  void aRepetitionPenaltyHoldsForGreedyDecodingToo() throws IOException {
    copy("llama");
    Files.writeString(
        folder.resolve("generation_config.json"),
        """
        {"temperature": 0.6, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05,
         "eos_token_id": [316, 313]}
        """);
    try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
      assertThat(model.generation().sampling(7)).isEqualTo(new Sampling(0, 0, 1, 0, 1.05, 0));
      assertThat(model.eosIds()).containsExactly(316, 313);
    }
  }

  @Test
  void aGenerationConfigOutOfRangeIsRefusedByFile() throws IOException {
    copy("llama");
    Files.writeString(
        folder.resolve("generation_config.json"), "{\"do_sample\": true, \"top_p\": 1.5}");
    assertThatThrownBy(() -> PretrainedModel.open(folder, ops))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("generation_config.json")
        .hasMessageContaining("top-p 1.5");
  }

  @Test
  void tensorsThatTheConfigHasNoUseForAreRefused() throws IOException {
    copy("llama");
    edit("config.json", "num_hidden_layers", 2);
    assertThatThrownBy(() -> PretrainedModel.open(folder, ops).close())
        .isInstanceOf(FormatException.class)
        .hasMessageContaining(folder + ": tensor \"model.layers.2.")
        .hasMessageEndingWith("has no place in the model that config.json describes");
  }

  @Test
  void generationKeysThatAreNotFollowedAreNamed() throws IOException {
    copy("llama");
    Files.writeString(
        folder.resolve("generation_config.json"),
        """
        {"num_beams": 4, "typical_p": 1.0, "suppress_tokens": [3], "bad_words_ids": [],
         "no_repeat_ngram_size": 0, "forced_eos_token_id": null, "max_length": 20}
        """);
    try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
      assertThat(model.generation().notFollowed()).containsExactly("num_beams", "suppress_tokens");
    }
  }
}
