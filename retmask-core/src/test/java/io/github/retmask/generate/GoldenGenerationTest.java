package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import java.io.IOException;
import java.net.URI;
import java.net.URL;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.StreamSupport;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Continuations of checkpoints that an independent float64 implementation computed. Greedy margins
/// are at least 0.02, attention weights agree to 1e-4: the bounds the data come with.
class GoldenGenerationTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  /// A checkpoint of the reference data.
  private record Golden(SafeTensors file, Transformer model, JsonNode expected)
      implements AutoCloseable {

    static Golden open(String family, String expected) throws IOException {
      URL resource = Objects.requireNonNull(Golden.class.getResource("/goldens/" + family));
      Path folder = Path.of(URI.create(resource.toString()));
      ConfigReader json =
          new ConfigReader(JSON.readTree(folder.resolve("config.json").toFile()), "config.json");
      SafeTensors file = SafeTensors.open(folder.resolve("model.safetensors"));
      Architecture architecture = Architecture.of(json);
      ModelConfig config = architecture.config(json);
      Weights weights = architecture.weights(config, json, (name, _) -> file.tensor(name));
      Transformer model = new Transformer(config, weights, new Ops(new ReferenceBackend().open(1)));
      return new Golden(file, model, JSON.readTree(folder.resolve(expected).toFile()));
    }

    HeadMask off(JsonNode heads) {
      return HeadMask.off(model.config().layerCount(), model.config().heads(), ids(heads));
    }

    @Override
    public void close() {
      model.close();
      file.close();
    }
  }

  private static List<HeadId> ids(JsonNode heads) {
    return StreamSupport.stream(heads.spliterator(), false)
        .map(h -> new HeadId(h.get(0).intValue(), h.get(1).intValue()))
        .toList();
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 4})
  void greedyTokensAndAttentionOfLlamaUnderFourMasks(int rows) throws IOException {
    try (Golden golden = Golden.open("llama", "golden.json")) {
      JsonNode expected = golden.expected();
      HeadMask none = golden.model().noMask();
      List<HeadId> a = ids(expected.at("/masks/A"));
      GenerationRequest plain =
          GenerationRequest.greedy(ints(expected.get("input_ids")), none, 16).withAttention();
      List<GenerationRequest> requests =
          List.of(
              plain,
              plain.withMask(none.withGate(a, 0f)),
              plain.withMask(golden.off(expected.at("/masks/B"))),
              plain.withMask(none.withKind(a, HeadKind.UNIFORM).during(MaskPhase.DECODE_ONLY)));
      String[] names = {"none", "A", "B", "query_zero_A_decode_only"};
      Generator.Options options = new Generator.Options(rows, 37, 1L << 30);
      try (Generator generator = new Generator(golden.model(), options)) {
        List<Completion> completions = generator.generate(requests);
        for (int i = 0; i < names.length; i++) {
          assertThat(completions.get(i).ids())
              .as(names[i])
              .isEqualTo(ints(expected.at("/greedy/" + names[i] + "/tokens")));
        }
        DecodeAttention seen = completions.getFirst().attention();
        JsonNode top = expected.get("decode_top1");
        for (int s = 0; s < 16; s++) {
          for (int l = 0; l < 3; l++) {
            for (int h = 0; h < 6; h++) {
              String where = "/%d/%d/%d".formatted(s, l, h);
              assertThat(seen.position(s, l, h))
                  .as(where)
                  .isEqualTo(top.get("position").at(where).intValue());
              double off = Math.abs(seen.weight(s, l, h) - top.get("weight").at(where).asDouble());
              assertThat(!(off <= 1e-4)).as(where + " off by " + off).isFalse();
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 5, 512})
  void plantedHeadCopiesTheNeedleUnlessItIsMasked(int chunk) throws IOException {
    try (Golden golden = Golden.open("planted", "planted.json")) {
      JsonNode expected = golden.expected();
      List<GenerationRequest> requests = new ArrayList<>();
      List<JsonNode> wanted = new ArrayList<>();
      for (JsonNode trial : expected.get("trials")) {
        GenerationRequest plain =
            GenerationRequest.greedy(
                ints(trial.get("prompt_ids")),
                golden.model().noMask(),
                trial.get("generated").size());
        requests.add(plain.withAttention());
        wanted.add(trial);
        trial
            .get("masked")
            .properties()
            .forEach(
                masked -> {
                  JsonNode heads = expected.at("/masks/" + masked.getKey());
                  requests.add(plain.withMask(golden.off(heads)));
                  wanted.add(masked.getValue());
                });
      }
      Generator.Options options = new Generator.Options(6, chunk, 1L << 30);
      try (Generator generator = new Generator(golden.model(), options)) {
        for (Completion c : generator.generate(requests)) {
          JsonNode trial = wanted.get(c.index());
          assertThat(c.ids()).isEqualTo(ints(trial.get("generated")));
          DecodeAttention seen = c.attention();
          for (int s = 0; seen != null && s < seen.steps(); s++) {
            for (int l = 0; l < seen.layers(); l++) {
              for (int h = 0; h < seen.heads(); h++) {
                assertThat(seen.position(s, l, h))
                    .isEqualTo(trial.at("/steps/%d/top1/%d/%d".formatted(s, l, h)).intValue());
              }
            }
          }
        }
      }
    }
  }
}
