package io.github.retmask.examples;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.eval.GreedyMatch;
import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.SyntheticLanguage.Probe;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/// Before step 2 of RetMask: what does the model lose without these heads? For a model of the
/// synthetic language.
///
/// Arguments: model folder, heads such as `1-3 1-4`.
public final class AblateHeads {
  private AblateHeads() {}

  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    List<HeadId> heads = List.of(args).subList(1, args.length).stream().map(HeadId::parse).toList();
    SyntheticLanguage language = Objects.requireNonNull(TrainingRecipe.languageOf(folder));
    List<GreedyMatch.Item> questions = new ArrayList<>();
    for (int i = 0; i < 400; i++) {
      Probe probe = language.probe(2, i, 48, Kind.CONTEXT);
      questions.add(new GreedyMatch.Item(probe.prompt(), probe.answer()));
    }
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(folder, new Ops(kernels))) {
      Transformer transformer = model.transformer();
      HeadMask intact = transformer.noMask();
      HeadMask masked = intact.withGate(heads, 0);
      boolean[][] right = GreedyMatch.matches(transformer, List.of(intact, masked), questions);
      print("intact", right[0]);
      print("masked", right[1]);
    }
  }

  private static void print(String arm, boolean[] right) {
    int count = 0;
    for (boolean one : right) {
      count += one ? 1 : 0;
    }
    System.out.printf("%s: %d of %d right%n", arm, count, right.length);
  }
}
