package io.github.retmask.examples;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.ChatEncoder;
import io.github.retmask.generate.ContrastiveSampler;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.PairFilter;
import io.github.retmask.generate.PairReport;
import io.github.retmask.generate.Sampling;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.pretrained.PretrainedModel;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/// Step 2 of RetMask: answers of the model as it is and with its retrieval heads off, as preference
/// pairs. Both twins are rows of one batch and face the same noise.
///
/// Arguments: model folder, prompts.jsonl, pairs.jsonl.gz to write, heads such as `1-3 1-4`. A run
/// that was killed goes on when it is started again.
public final class SampleContrastivePairs {
  private SampleContrastivePairs() {}

  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    List<HeadId> heads = List.of(args).subList(3, args.length).stream().map(HeadId::parse).toList();
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(folder, new Ops(kernels))) {
      HeadMask masked = model.transformer().noMask().withGate(heads, 0);
      ContrastiveSampler sampler =
          new ContrastiveSampler(
              model.transformer(),
              new ChatEncoder(model.tokenizer(), Map.of()),
              new ContrastiveSampler.Options(
                  folder.toString(),
                  masked,
                  Sampling.of(0.6, 42),
                  64,
                  model.eosIds(),
                  model.config().maxPositions() - 64,
                  PairFilter.NONE));
      PairReport report =
          sampler.sample(
              Path.of(args[1]),
              Path.of(args[2]),
              Generator.Options.defaults(),
              WorkJournal.Existing.RESUME,
              ContrastiveSampler.Progress.NONE);
      System.out.println(report);
    }
  }
}
