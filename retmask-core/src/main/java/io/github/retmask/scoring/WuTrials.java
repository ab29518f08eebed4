package io.github.retmask.scoring;

import io.github.retmask.tokenizer.Encoding;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Builds needle trials whose needle lies where it should and is known to the token.
///
/// The length of the grid is the length of the whole prompt: the haystack is cut at a word so that
/// the prompt comes as near to it as it can, and never exceeds it; all depths of a length share the
/// cut. A haystack that is too short is repeated. The needle goes between two sentences, at the
/// break nearest to the depth. The needle's answer is followed by its characters through haystack
/// and chat template to the tokens that cover it, so it is never searched for. Grid points that fall
/// on the same break are the same trial; only the first is built.
public final class WuTrials {
  private final Tokenizer tokenizer;
  private final PromptForm form;
  private final Map<String, ?> templateVariables;
  private final int maxNewTokens;

  /// @param templateVariables for the chat template, such as `enable_thinking`
  /// @param maxNewTokens tokens that a response may have; the published script takes 50
  public WuTrials(
      Tokenizer tokenizer, PromptForm form, Map<String, ?> templateVariables, int maxNewTokens) {
    this.tokenizer = tokenizer;
    this.form = form;
    this.templateVariables = Map.copyOf(templateVariables);
    this.maxNewTokens = maxNewTokens;
  }

  /// The trials of every task at every length and depth.
  ///
  /// @throws IllegalArgumentException when a length does not hold a prompt without any haystack, or
  ///     an answer is not part of its needle
  public NeedleTrials build(List<NeedleTask> tasks, NeedleGrid grid) {
    List<Trial> trials = new ArrayList<>();
    List<NeedleTrials.Repeat> repeats = new ArrayList<>();
    for (NeedleTask task : tasks) {
      TaskBuilder builder = new TaskBuilder(task);
      for (int length : grid.lengths()) {
        List<Prompt> prompts = builder.prompts(length, grid.depths());
        Map<Prompt, String> taken = new IdentityHashMap<>();
        for (int d = 0; d < prompts.size(); d++) {
          int depth = grid.depths().get(d);
          Prompt prompt = prompts.get(d);
          String id = id(task, length, depth);
          String same = taken.putIfAbsent(prompt, id);
          if (same != null) {
            repeats.add(new NeedleTrials.Repeat(id, same));
          } else {
            trials.add(
                new Trial(
                    id,
                    prompt.ids(),
                    prompt.answer().start(),
                    prompt.answer().end(),
                    task.answer(),
                    maxNewTokens,
                    labels(task, length, depth)));
          }
        }
      }
    }
    return new NeedleTrials(trials, repeats);
  }

  static String id(NeedleTask task, int length, int depth) {
    return "needle " + task.name() + ", length " + length + ", depth " + depth;
  }

  static TreeMap<String, String> labels(NeedleTask task, int length, int depth) {
    return new TreeMap<>(
        Map.of(
            "needle",
            task.name(),
            "length",
            String.valueOf(length),
            "depth",
            String.valueOf(depth)));
  }

  /// A prompt's tokens and those of the answer in its needle.
  private record Prompt(int[] ids, Encoding.Span answer) {}

  private final class TaskBuilder {
    private final NeedleTask task;
    private final int answerStart; // in the needle
    private final String before; // the prompt's text around the haystack
    private final String after;
    private Haystack haystack;
    private Encoding tokens; // of the haystack

    TaskBuilder(NeedleTask task) {
      this.task = task;
      this.answerStart = answerStart(task);
      String question = form.after(task.question());
      if (form == PromptForm.CHAT) {
        TextSlot slot = TextSlot.of(tokenizer, form.before(), question, templateVariables);
        this.before = slot.before();
        this.after = slot.after();
      } else {
        this.before = form.before();
        this.after = "\n" + question; // the script runs haystack and question together
      }
      this.haystack = Haystack.of(task.haystack());
      if (haystack.text().isBlank()) {
        throw new IllegalArgumentException("needle " + task.name() + ": its haystack has no text");
      }
      this.tokens = tokenizer.encodeWithOffsets(haystack.text(), false);
    }

    /// A prompt for each depth; the same object where depths fall on the same break.
    List<Prompt> prompts(int length, List<Integer> depths) {
      int bare = prompt(0, 0).ids().length;
      if (bare > length) {
        throw new IllegalArgumentException(
            "length %d: the prompt of needle %s has %d tokens without any haystack; want that or more"
                .formatted(length, task.name(), bare));
      }
      int budget = length - bare;
      while (tokens.ids().length < budget) {
        haystack = haystack.repeatedTo(haystack.text().length() * 2);
        tokens = tokenizer.encodeWithOffsets(haystack.text(), false);
      }
      int excess;
      List<Prompt> prompts = new ArrayList<>();
      do {
        int cut = budget == 0 ? 0 : haystack.wordEnd(tokens.ends()[budget - 1]);
        Map<Integer, Prompt> byBreak = new HashMap<>();
        excess = 0;
        prompts.clear();
        for (int d = 0; d < depths.size() && excess <= 0; d++) {
          int at = haystack.nearestBreak((int) ((long) cut * depths.get(d) / 100), cut);
          Prompt prompt = byBreak.computeIfAbsent(at, _ -> prompt(cut, at));
          prompts.add(prompt);
          excess = prompt.ids().length - length;
        }
        // Tokens merge or part where texts are joined. Without any haystack the prompt fits.
        budget = Math.max(0, budget - Math.max(0, excess));
      } while (excess > 0);
      return prompts;
    }

    /// The first `cut` characters of the haystack with the needle before character `at`.
    private Prompt prompt(int cut, int at) {
      String head = haystack.text().substring(0, at);
      String tail = haystack.text().substring(at, cut);
      String left = head.isEmpty() || Character.isWhitespace(head.charAt(at - 1)) ? "" : " ";
      String right = tail.isEmpty() ? "" : " ";
      String upToNeedle = before + head + left;
      String text = upToNeedle + task.needle() + right + tail + after;
      Encoding encoding = tokenizer.encodeWithOffsets(text, form == PromptForm.PLAIN);
      int start = upToNeedle.length() + answerStart;
      return new Prompt(
          encoding.ids(), encoding.tokensCovering(start, start + task.answer().length()));
    }
  }

  /// Where the answer begins in its needle; capitals do not matter, since published answers were made
  /// into sentences of their own.
  private static int answerStart(NeedleTask task) {
    int start =
        task.needle().toLowerCase(Locale.ROOT).indexOf(task.answer().toLowerCase(Locale.ROOT));
    if (start < 0) {
      throw new IllegalArgumentException(
          "needle %s: its answer \"%s\" is not part of \"%s\""
              .formatted(task.name(), task.answer(), task.needle()));
    }
    return start;
  }
}
