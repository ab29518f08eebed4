package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Observer;
import io.github.retmask.model.RandomModel;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Generation across the original context of rotary embeddings that depend on it.
public abstract class ContextGenerationContract {
  private static final int ORIGINAL = 12;
  private static final int NEW = 9;

  private Kernels kernels;
  private Ops ops;
  private TensorArena memory;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openBackend() {
    kernels = open(2);
    ops = new Ops(kernels);
    memory = ops.arena(TensorArena.Lifetime.MODEL);
  }

  @AfterEach
  void closeBackend() {
    memory.close();
    kernels.close();
  }

  /// What is generated with.
  enum Rope {
    DYNAMIC(new RopeSpec.DynamicNtk(3, ORIGINAL)),
    LONG(
        new RopeSpec.LongRope(
            Collections.nCopies(4, 1.0), List.of(1.0, 3.0, 7.0, 9.0), ORIGINAL, 1.2));

    private final RopeSpec spec;

    Rope(RopeSpec.Scaling scaling) {
      this.spec = new RopeSpec(100, 8, scaling);
    }

    ModelConfig config() {
      LayerSpec layer =
          new LayerSpec(
              NormPlacement.PRE,
              QkNorm.NONE,
              new AttentionSpec(AttentionSpec.NO_WINDOW, 0.35f),
              spec);
      return new ModelConfig(50, 20, 6, 2, 8, 28, 1e-5f, false, 64, Collections.nCopies(3, layer));
    }

    /// Tokens that rotate as one prompt in a sequence of this length.
    int prompt(int prompt, int length) {
      return this == LONG && length > ORIGINAL ? Math.max(prompt, length) : prompt;
    }
  }

  private static List<HeadMask> masks() {
    List<HeadId> some = List.of(new HeadId(0, 1), new HeadId(1, 5), new HeadId(2, 0));
    HeadMask none = HeadMask.none(3, 6);
    return List.of(
        none,
        none.withGate(some, 0),
        none.withGate(some, 0).during(MaskPhase.DECODE_ONLY),
        none.withKind(some, HeadKind.UNIFORM).during(MaskPhase.DECODE_ONLY));
  }

  /// Prompts that end before, at and beyond the original context, or cross it at once.
  private static List<GenerationRequest> requests(ModelConfig config) {
    List<GenerationRequest> requests = new ArrayList<>();
    for (int length : new int[] {1, 7, ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, 20}) {
      for (HeadMask mask : masks()) {
        requests.add(
            GenerationRequest.greedy(RandomModel.ids(config, length, length), mask, NEW)
                .withAttention());
      }
    }
    return requests;
  }

  /// A new cache for every token: what an engine without memory does.
  private String byRefilling(Transformer model, Rope rope, GenerationRequest request) {
    int prompt = request.prompt().length;
    int[] ids = request.prompt();
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < NEW; i++) {
      try (KvCache cache = new KvCache(model, 1, 40);
          TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        Activations a = null;
        boolean late = request.mask().phase() == MaskPhase.DECODE_ONLY;
        int prefill = late ? prompt - 1 : prompt;
        // each decoded token as if it had just come, unless all rotate anew
        for (int from = 0; from < ids.length; ) {
          int to = from < prefill ? prefill : from + 1;
          Batch.Row row =
              new Batch.Row(
                  0,
                  Arrays.copyOfRange(ids, from, to),
                  request.mask(),
                  from < prefill ? Batch.Phase.PREFILL : Batch.Phase.DECODE,
                  rope.prompt(prompt, ids.length));
          ReadoutRequest last =
              to == ids.length ? ReadoutRequest.of(to - from - 1) : ReadoutRequest.NONE;
          a = model.forward(Batch.of(row), cache, Keep.RESULT, last, step, Observer.NONE);
          from = to;
        }
        int token = a.layout().tokens() - 1;
        int next = Sampler.argmax(model.logits(a, step, token).toFloats());
        text.append(next).append('@');
        for (var layer : a.readouts()) {
          text.append(Arrays.toString(layer.topPosition().toInts()));
        }
        ids = Arrays.copyOf(ids, ids.length + 1);
        ids[ids.length - 1] = next;
      }
    }
    return text.toString();
  }

  private static String text(Completion completion) {
    StringBuilder text = new StringBuilder();
    for (int s = 0; s < NEW; s++) {
      text.append(completion.ids()[s]).append('@');
      for (int l = 0; l < 3; l++) {
        int[] positions = new int[6];
        for (int h = 0; h < 6; h++) {
          positions[h] = completion.attention().position(s, l, h);
        }
        text.append(Arrays.toString(positions));
      }
    }
    return text.toString();
  }

  @ParameterizedTest
  @EnumSource
  void tokensAndAttentionAreThoseOfReadingEverythingAnewEveryTime(Rope rope) {
    Transformer model = RandomModel.transformer(rope.config(), ops, memory, 51);
    List<GenerationRequest> requests = requests(model.config());
    List<String> wanted =
        requests.stream().map(request -> byRefilling(model, rope, request)).toList();
    for (int[] form : new int[][] {{64, 512}, {3, 5}, {1, 1}, {5, 12}}) {
      try (Generator generator =
          new Generator(model, new Generator.Options(form[0], form[1], 1L << 30))) {
        List<Completion> completions = generator.generate(requests);
        for (int i = 0; i < wanted.size(); i++) {
          assertThat(text(completions.get(i)))
              .as("request %d, %d rows, %d tokens a step", i, form[0], form[1])
              .isEqualTo(wanted.get(i));
        }
      }
    }
  }
}
