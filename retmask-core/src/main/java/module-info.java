/// Decoder-only transformers with attention heads that can be switched off per request and per
/// head: the model, head masks, training, evaluation, and a scalar reference backend.
@org.jspecify.annotations.NullMarked
module io.github.retmask.core {
  requires jdk.management;
  requires org.slf4j;
  requires transitive com.fasterxml.jackson.databind;
  requires ai.djl.tokenizers;
  requires static transitive org.jspecify;

  exports io.github.retmask.backend;
  exports io.github.retmask.generate;
  exports io.github.retmask.gguf;
  exports io.github.retmask.eval;
  exports io.github.retmask.heads;
  exports io.github.retmask.model;
  exports io.github.retmask.model.arch;
  exports io.github.retmask.pretrained;
  exports io.github.retmask.io;
  exports io.github.retmask.random;
  exports io.github.retmask.stats;
  exports io.github.retmask.scoring;
  exports io.github.retmask.tensor;
  exports io.github.retmask.tokenizer;
  exports io.github.retmask.train;

  uses io.github.retmask.backend.Backend;
}
