package io.github.retmask.scoring;

import io.github.retmask.eval.NeedleSpan;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// Builds needle trials as the script of YoumiMa/RetMask does (`retrieval_head_detection.py`, which
/// follows nightdessert/Retrieval_Head), with all that is odd about it:
///
/// - the haystack is the raw file, repeated until it has as many words as the longest context has
///   tokens, cut to `length` tokens, decoded, and encoded again;
/// - context and needle are encoded with special tokens, so a BOS gets into the middle; chat prompts
///   lose its spelling, plain ones keep it;
/// - 200 tokens are kept free: the context is cut to length - 200 - needle tokens, where a negative
///   number cuts from the end as Python slices do;
/// - the needle moves left to the last period, told by token ids that belong to one vocabulary
///   ([Provider]); in any other none is found, and the needle lands at the very start for every
///   depth but 100;
/// - the answer is looked for in the prompt by its set of ids ([NeedleSpan#findByIds]), which may
///   find it early or not at all.
///
/// Trials with equal prompts are all built, since the script runs and averages them; they are listed
/// as repeats.
public final class WuCompatTrials {
  private static final int FREE_TOKENS = 200;

  private final Tokenizer tokenizer;
  private final PromptForm form;
  private final Provider provider;
  private final Map<String, ?> templateVariables;

  /// Which token ids count as a period.
  public enum Provider {
    /// The script's default: Llama 2's vocabulary.
    LLAMA(29889, 869),
    /// Mistral's first vocabulary.
    MISTRAL(842, 28723),
    /// ChatGLM's vocabulary.
    GLM(918, 30930),
    /// Whatever the tokenizer makes of ".", special tokens included.
    OTHER;

    private final int[] periods;

    Provider(int... periods) {
      this.periods = periods;
    }

    private int[] periods(Tokenizer tokenizer) {
      return this == OTHER ? tokenizer.encode(".", true) : periods;
    }
  }

  /// @param form [PromptForm#ofScript] is the script's own choice
  /// @param provider the script's default is [Provider#LLAMA], for every model
  /// @param templateVariables for the chat template; the script sets `enable_thinking` to false for
  ///     Qwen3
  public WuCompatTrials(
      Tokenizer tokenizer, PromptForm form, Provider provider, Map<String, ?> templateVariables) {
    this.tokenizer = tokenizer;
    this.form = form;
    this.provider = provider;
    this.templateVariables = Map.copyOf(templateVariables);
  }

  /// The trials of every task at every length and depth.
  ///
  /// @throws IllegalArgumentException when a haystack has no words
  public NeedleTrials build(List<NeedleTask> tasks, NeedleGrid grid) {
    List<Trial> trials = new ArrayList<>();
    List<NeedleTrials.Repeat> repeats = new ArrayList<>();
    Map<IntBuffer, String> seen = new HashMap<>();
    int[] periods = provider.periods(tokenizer);
    for (NeedleTask task : tasks) {
      String text =
          text(task, grid.lengths().stream().mapToInt(Integer::intValue).max().orElseThrow());
      int[] textIds = tokenizer.encode(text, true);
      int[] needle = tokenizer.encode(task.needle(), true);
      int[] answer = tokenizer.encode(task.answer(), false);
      for (int length : grid.lengths()) {
        int[] context = context(text, textIds, length, needle.length);
        for (int depth : grid.depths()) {
          int[] prompt = prompt(insert(context, needle, depth, periods), task.question());
          NeedleSpan span = NeedleSpan.findByIds(prompt, answer);
          Trial trial =
              new Trial(
                  WuTrials.id(task, length, depth),
                  prompt,
                  span.start(),
                  Math.min(span.end(), prompt.length),
                  task.answer(),
                  WuMethod.SCRIPT_TOKENS,
                  WuTrials.labels(task, length, depth));
          trials.add(trial);
          String same = seen.putIfAbsent(IntBuffer.wrap(prompt), trial.id());
          if (same != null) {
            repeats.add(new NeedleTrials.Repeat(trial.id(), same));
          }
        }
      }
    }
    return new NeedleTrials(trials, repeats);
  }

  private static String text(NeedleTask task, int words) {
    int each = words(task.haystack());
    if (each == 0 && words > 0) {
      throw new IllegalArgumentException("needle " + task.name() + ": its haystack has no words");
    }
    // A repetition without white space between joins two words into one, so they are counted anew.
    StringBuilder text = new StringBuilder();
    while (words(text) < words) {
      text.append(task.haystack());
    }
    return text.toString();
  }

  /// Words as Python's `str.split` finds them.
  private static int words(CharSequence text) {
    int words = 0;
    boolean inWord = false;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      boolean space = Character.isWhitespace(c) || Character.isSpaceChar(c) || c == '\u0085';
      words += !space && !inWord ? 1 : 0;
      inWord = !space;
    }
    return words;
  }

  private int[] context(String text, int[] textIds, int length, int needleLength) {
    String cut =
        textIds.length > length ? tokenizer.decode(Arrays.copyOf(textIds, length), false) : text;
    int[] context = tokenizer.encode(cut, true);
    int budget = length - FREE_TOKENS;
    if (context.length + needleLength > budget) {
      int end = budget - needleLength;
      int kept = end >= 0 ? Math.min(end, context.length) : Math.max(0, context.length + end);
      context = Arrays.copyOf(context, kept);
    }
    return context;
  }

  private static int[] insert(int[] context, int[] needle, int depth, int[] periods) {
    int at = context.length;
    if (depth != 100) {
      at = (int) (context.length * (depth / 100.0));
      while (at > 0 && !contains(periods, context[at - 1])) {
        at--;
      }
    }
    int[] joined = Arrays.copyOf(context, context.length + needle.length);
    System.arraycopy(needle, 0, joined, at, needle.length);
    System.arraycopy(context, at, joined, at + needle.length, context.length - at);
    return joined;
  }

  private static boolean contains(int[] ids, int id) {
    return Arrays.stream(ids).anyMatch(x -> x == id);
  }

  private int[] prompt(int[] contextIds, String question) {
    String context = tokenizer.decode(contextIds, false);
    if (form == PromptForm.PLAIN) {
      return tokenizer.encode(form.before() + context + form.after(question), true);
    }
    if (tokenizer.bosId() >= 0) {
      context = context.replace(tokenizer.tokenOf(tokenizer.bosId()), "");
    }
    ChatMessage turn = ChatMessage.of("user", form.before() + context + form.after(question));
    return tokenizer.encodeChat(List.of(turn), true, templateVariables);
  }
}
