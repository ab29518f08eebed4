package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.StreamSupport;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Continuations of checkpoints that an independent float64 implementation computed. Greedy margins
/// are at least 0.02, attention weights agree to 1e-4: the bounds the data come with.
class GoldenGenerationTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  /// A checkpoint of the reference data and what it should yield.
  private record Golden(PretrainedModel loaded, JsonNode expected) implements AutoCloseable {

    static Golden open(String family, String expected) throws IOException {
      PretrainedModel loaded = TestModels.golden(family);
      return new Golden(loaded, JSON.readTree(loaded.folder().resolve(expected).toFile()));
    }

    Transformer model() {
      return loaded.transformer();
    }

    HeadMask off(JsonNode heads) {
      return HeadMask.off(model().config().layerCount(), model().config().heads(), ids(heads));
    }

    @Override
    public void close() {
      loaded.close();
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
