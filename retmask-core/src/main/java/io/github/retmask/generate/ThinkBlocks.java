package io.github.retmask.generate;

import io.github.retmask.tokenizer.Detokenizer;
import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.Arrays;

/// Tells thinking from answering in a continuation, token by token. A token thinks when its text
/// shares a character with a block from the first of its opening tag to the last of its closing one;
/// a block that is not closed goes on to the end.
///
/// For one continuation and one thread.
public final class ThinkBlocks {
  private final ThinkTags tags;
  private final Detokenizer detokenizer;
  private final StringBuilder text = new StringBuilder();
  private boolean open;
  private int searched; // start of the text in which the next tag is looked for
  private int[] starts = new int[64]; // of each token's text
  private boolean[] thinks = new boolean[64];
  private int count;
  private int thinking;

  /// @param open whether the prompt ends inside a block, see [ThinkTags#isLeftOpen]
  public ThinkBlocks(Tokenizer tokenizer, ThinkTags tags, boolean open) {
    this.tags = tags;
    this.detokenizer = tokenizer.detokenizer(false);
    this.open = open;
  }

  /// Takes the next token.
  public void add(int id) {
    if (count == starts.length) {
      starts = Arrays.copyOf(starts, 2 * count);
      thinks = Arrays.copyOf(thinks, 2 * count);
    }
    starts[count] = text.length();
    thinks[count] = open;
    thinking += open ? 1 : 0;
    count++;
    text.append(detokenizer.add(id));
    int at;
    while ((at = text.indexOf(open ? tags.close() : tags.open(), searched)) >= 0) {
      searched = at + (open ? tags.close() : tags.open()).length();
      if (!open) {
        think(at);
      }
      open = !open;
    }
  }

  /// Marks all tokens whose text goes beyond a character.
  private void think(int from) {
    for (int t = count - 1; t >= 0 && (t + 1 < count ? starts[t + 1] : text.length()) > from; t--) {
      thinking += thinks[t] ? 0 : 1;
      thinks[t] = true;
    }
  }

  /// Whether the last token left a block open.
  public boolean isOpen() {
    return open;
  }

  /// Tokens so far that think.
  public int thinkingTokens() {
    return thinking;
  }

  /// Tokens so far that answer.
  public int answerTokens() {
    return count - thinking;
  }

  /// Whether token `t` thinks.
  public boolean thinks(int t) {
    return thinks[t];
  }
}
