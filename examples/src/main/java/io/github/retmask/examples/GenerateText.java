package io.github.retmask.examples;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.pretrained.PretrainedModel;
import java.nio.file.Path;
import java.util.List;

/// Continues a prompt twice in one batch: with every head, and with some heads off.
///
/// Arguments: model folder, prompt, heads such as `1-3 1-4`.
public final class GenerateText {
  private GenerateText() {}

  public static void main(String[] args) throws Exception {
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(Path.of(args[0]), new Ops(kernels));
        Generator generator = new Generator(model.transformer(), Generator.Options.defaults())) {
      int[] prompt = model.tokenizer().encode(args[1], true);
      List<HeadId> heads =
          List.of(args).subList(2, args.length).stream().map(HeadId::parse).toList();
      HeadMask intact = model.transformer().noMask();
      HeadMask masked = intact.withGate(heads, 0);
      List<Completion> twins =
          generator.generate(
              List.of(
                  GenerationRequest.greedy(prompt, intact, 20),
                  GenerationRequest.greedy(prompt, masked, 20)));
      System.out.println("intact: " + model.tokenizer().decode(twins.get(0).ids(), true));
      System.out.println("masked: " + model.tokenizer().decode(twins.get(1).ids(), true));
    }
  }
}
