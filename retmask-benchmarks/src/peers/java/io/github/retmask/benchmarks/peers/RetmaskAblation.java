package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Sampler;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.AblationSweep;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/// Retmask's [AblationSweep] over all masks, or over one after the other, which shares nothing.
final class RetmaskAblation implements Ablation {
  private final Transformer model;
  private final AblationSweep sweep;
  private final int atOnce;

  private RetmaskAblation(ModelFolder folder, int threads, int atOnce) throws IOException {
    Ops ops = new Ops(Backends.open("vector", threads));
    model = PretrainedModel.open(folder.forRetmask(), ops).transformer();
    sweep = new AblationSweep(model);
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
    List<HeadMask> masks = new ArrayList<>();
    for (int head : heads) {
      HeadId off = new HeadId(head / model.config().heads(), head % model.config().heads());
      masks.add(model.noMask().withGate(List.of(off), 0f));
    }
    int[] next = new int[heads.length];
    for (int from = 0; from < next.length; from += Math.min(atOnce, next.length)) {
      int to = (int) Math.min((long) from + atOnce, next.length);
      float[][] logits = sweep.lastLogits(ids, masks.subList(from, to));
      for (int i = from; i < to; i++) {
        next[i] = Sampler.argmax(logits[i - from]);
      }
    }
    return next;
  }
}
