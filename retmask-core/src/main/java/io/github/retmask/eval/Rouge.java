package io.github.retmask.eval;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/// ROUGE as Google's rouge_score computes it with `use_stemmer=True`: text in lower case, split at
/// everything but a-z and 0-9, words of more than three characters stemmed ([PorterStemmer]).
public final class Rouge {
  private Rouge() {}

  /// Precision, recall and their harmonic mean, each in [0, 1].
  public record Score(double precision, double recall, double f1) {}

  /// ROUGE-1: words in common, each counted as often as both texts have it, over the candidate's
  /// words (precision) and the reference's (recall). 0 where a text has no words.
  public static Score rouge1(String reference, String candidate) {
    List<String> wanted = words(reference);
    List<String> got = words(candidate);
    Map<String, Integer> left = new HashMap<>();
    wanted.forEach(word -> left.merge(word, 1, Integer::sum));
    int common = 0;
    for (String word : got) {
      int remaining = left.getOrDefault(word, 0);
      if (remaining > 0) {
        left.put(word, remaining - 1);
        common++;
      }
    }
    double precision = got.isEmpty() ? 0 : (double) common / got.size();
    double recall = wanted.isEmpty() ? 0 : (double) common / wanted.size();
    double f1 = common == 0 ? 0 : 2 * precision * recall / (precision + recall);
    return new Score(precision, recall, f1);
  }

  /// The stemmed words of a text.
  static List<String> words(String text) {
    List<String> words = new ArrayList<>();
    for (String word : text.toLowerCase(Locale.ROOT).split("[^a-z0-9]+")) {
      if (!word.isEmpty()) {
        words.add(word.length() > 3 ? PorterStemmer.stem(word) : word);
      }
    }
    return words;
  }
}
