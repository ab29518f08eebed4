package io.github.retmask.generate;

import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;

/// Ends a continuation after so many tokens of thinking in a block that is still open, or so many of
/// answering. A function of the tokens alone; it remembers how far it has read, so that a token is not
/// decoded at every later one again.
final class ThinkBudget implements StopRule {
  private final Tokenizer tokenizer;
  private final ThinkTags tags;
  private final boolean open;
  private final int maxThinking;
  private final int maxAnswer;
  private ThinkBlocks blocks;
  private int read;

  ThinkBudget(Tokenizer tokenizer, ThinkTags tags, boolean open, int maxThinking, int maxAnswer) {
    this.tokenizer = tokenizer;
    this.tags = tags;
    this.open = open;
    this.maxThinking = maxThinking;
    this.maxAnswer = maxAnswer;
    this.blocks = new ThinkBlocks(tokenizer, tags, open);
  }

  @Override
  public boolean stops(int[] ids, int count) {
    if (count != read + 1) {
      blocks = new ThinkBlocks(tokenizer, tags, open);
      read = 0;
    }
    while (read < count) {
      blocks.add(ids[read++]);
    }
    return blocks.isOpen()
        ? blocks.thinkingTokens() >= maxThinking
        : blocks.answerTokens() >= maxAnswer;
  }
}
