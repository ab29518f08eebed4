package io.github.retmask.eval;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.JsonLines;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.TrainingStart;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// A model of any family trained from scratch is a checkpoint of that family.
class TrainingRecipeTest {
  private static final String RECIPE =
      """
      {"model": {"model_type": "%s", "hidden_size": 10, "intermediate_size": 7,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "max_position_embeddings": 64, "tie_word_embeddings": %s},
       "language": {"seed": 1, "fillers": 5, "keys": 3, "numbers": 4, "value_length": 2,
        "min_length": 24, "max_length": 30, "max_needles": 1,
        "reach": [{"below": 1000, "probability": 1}], "repeat_share": 0.3, "memory_share": 0.3,
        "filler_weight": 0.1},
       "training": {"seed": 3, "steps": 2, "batch_size": 2, "learning_rate": 0.01}}
      """;

  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  @TempDir Path folder;

  static String[] families() {
    return GoldenFolder.FAMILIES;
  }

  private Path train(String family, boolean tied) throws IOException, InterruptedException {
    Path recipe = folder.resolve("recipe.json");
    Files.writeString(recipe, RECIPE.formatted(family, tied));
    Path out = folder.resolve(family + "-" + tied);
    TrainingRecipe.read(recipe)
        .train(ops, out, TrainingStart.RESUME, GradientCheckpointing.OFF, _ -> {});
    return out;
  }

  @ParameterizedTest
  @MethodSource("families")
  void whatWasTrainedCanBeOpened(String family) throws IOException, InterruptedException {
    for (boolean tied : new boolean[] {false, true}) {
      Path out = train(family, tied);
      try (PretrainedModel model = PretrainedModel.open(out, ops)) {
        assertThat(model.architecture().modelTypes()).contains(family);
        assertThat(model.weights().isTied()).isEqualTo(tied);
        assertThat(model.tokenizer().encode("Question", false)).isNotEmpty();
        // nothing is stored that the family does not read
        long parameters =
            model.weights().tensors().stream().mapToLong(tensor -> tensor.size()).sum();
        assertThat(model.checkpoint().entries().stream().mapToLong(e -> e.shape().size()).sum())
            .isEqualTo(parameters);
      }
    }
  }

  @Test
  void promptsLieBesideTheModelAsItsTokenizerReadsThem() throws IOException, InterruptedException {
    Path out = train("llama", true);
    SyntheticLanguage language = Objects.requireNonNull(TrainingRecipe.languageOf(out));
    List<SyntheticLanguage.Probe> wanted =
        language.prompts(0, 500, language.options().minLength(), 0.5);
    try (PretrainedModel model = PretrainedModel.open(out, ops);
        JsonLines.Reader lines = JsonLines.read(out.resolve(TrainingRecipe.PROMPTS_FILE))) {
      for (SyntheticLanguage.Probe probe : wanted) {
        String text = Objects.requireNonNull(lines.next()).get("prompt").textValue();
        assertThat(model.tokenizer().encode(text, true)).isEqualTo(probe.prompt());
      }
      assertThat(lines.next()).isNull();
    }
  }

  @Test
  void fusedTensorsAreStoredAsOne() throws IOException, InterruptedException {
    try (Checkpoint saved = Checkpoint.open(train("phi3", false))) {
      assertThat(saved.tensor("model.layers.1.self_attn.qkv_proj.weight", 16, 10)).isNotNull();
      assertThat(saved.contains("model.layers.1.self_attn.q_proj.weight")).isFalse();
    }
  }
}
