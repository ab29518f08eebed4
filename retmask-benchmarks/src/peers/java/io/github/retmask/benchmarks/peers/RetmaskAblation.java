package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/// Retmask's generator: the masks of a sweep as one list of requests, or one after the other.
final class RetmaskAblation implements Ablation {
  private final Transformer model;
  private final Generator generator;
  private final int atOnce;

  private RetmaskAblation(ModelFolder folder, int threads, int atOnce) throws IOException {
    Ops ops = new Ops(Backends.open("vector", threads));
    model = PretrainedModel.open(folder.forRetmask(), ops).transformer();
    generator = new Generator(model, Generator.Options.defaults());
    this.atOnce = atOnce;
  }

  static RetmaskAblation together(ModelFolder folder, int threads) throws IOException {
    return new RetmaskAblation(folder, threads, Integer.MAX_VALUE);
  }

  static RetmaskAblation oneByOne(ModelFolder folder, int threads) throws IOException {
    return new RetmaskAblation(folder, threads, 1);
  }

  @Override
  public int[] sweep(int prompt, int[] heads) {
    int[] ids = Prompts.ids(prompt);
    List<GenerationRequest> requests = new ArrayList<>();
    for (int head : heads) {
      HeadId off = new HeadId(head / model.config().heads(), head % model.config().heads());
      requests.add(GenerationRequest.greedy(ids, model.noMask().withGate(List.of(off), 0f), 1));
    }
    int[] next = new int[heads.length];
    for (int from = 0; from < next.length; from += Math.min(atOnce, next.length)) {
      int to = (int) Math.min((long) from + atOnce, next.length);
      int first = from;
      generator
          .generate(requests.subList(from, to))
          .forEach(c -> next[first + c.index()] = c.ids()[0]);
    }
    return next;
  }
}
