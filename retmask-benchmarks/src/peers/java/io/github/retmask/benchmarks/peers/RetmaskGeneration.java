package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;

/// Retmask's generator with one row.
final class RetmaskGeneration implements Generation {
  private final Transformer model;
  private final Generator generator;

  RetmaskGeneration(ModelFolder folder, int threads) throws IOException {
    Ops ops = new Ops(Backends.open("vector", threads));
    model = PretrainedModel.open(folder.forRetmask(), ops).transformer();
    generator = new Generator(model, Generator.Options.defaults().withMaxRows(1));
  }

  @Override
  public Result generate(int prompt, int tokens) {
    GenerationRequest request =
        GenerationRequest.greedy(Prompts.ids(prompt), model.noMask(), tokens);
    long[] first = {0};
    long begin = System.nanoTime();
    Completion completion =
        generator.generate(
            request, (_, position, _) -> first[0] = position == 0 ? System.nanoTime() : first[0]);
    long end = System.nanoTime();
    return new Result((first[0] - begin) / 1e9, (end - first[0]) / 1e9, completion.ids());
  }
}
