package io.github.retmask.eval;

import java.util.HashMap;
import java.util.Map;

/// English suffix stripping (M. F. Porter, "An algorithm for suffix stripping", Program 14, 1980)
/// with the departures of NLTK's default mode, since that is what Google's rouge_score calls: a pool
/// of irregular words, `-ied` and `-ies` of four letters to `-ie`, final `y` to `i` only after a
/// consonant, `-bli`, `-fulli` and `-logi` in step 2, and words of up to two letters left alone.
///
/// Words are lower-case letters and digits. The measure m of a stem counts its vowel-consonant
/// sequences; `y` is a vowel after a consonant.
final class PorterStemmer {
  private static final Map<String, String> IRREGULAR = irregular();

  private static final String[][] STEP_2 = {
    {"ational", "ate"},
    {"tional", "tion"},
    {"enci", "ence"},
    {"anci", "ance"},
    {"izer", "ize"},
    {"bli", "ble"},
    {"alli", "al"},
    {"entli", "ent"},
    {"eli", "e"},
    {"ousli", "ous"},
    {"ization", "ize"},
    {"ation", "ate"},
    {"ator", "ate"},
    {"alism", "al"},
    {"iveness", "ive"},
    {"fulness", "ful"},
    {"ousness", "ous"},
    {"aliti", "al"},
    {"iviti", "ive"},
    {"biliti", "ble"},
    {"fulli", "ful"}
  };
  private static final String[][] STEP_3 = {
    {"icate", "ic"},
    {"ative", ""},
    {"alize", "al"},
    {"iciti", "ic"},
    {"ical", "ic"},
    {"ful", ""},
    {"ness", ""}
  };
  private static final String[] STEP_4 = {
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize"
  };

  private PorterStemmer() {}

  static String stem(String word) {
    String irregular = IRREGULAR.get(word);
    if (irregular != null) {
      return irregular;
    }
    if (word.length() <= 2) {
      return word;
    }
    return doubleL(finalE(residue(derived(longer(finalY(past(plural(word))))))));
  }

  /// Step 1a.
  private static String plural(String word) {
    if (word.endsWith("ies") && word.length() == 4) {
      return cut(word, 1);
    }
    if (word.endsWith("sses") || word.endsWith("ies")) {
      return cut(word, 2);
    }
    return word.endsWith("s") && !word.endsWith("ss") ? cut(word, 1) : word;
  }

  /// Step 1b.
  private static String past(String word) {
    if (word.endsWith("ied")) {
      return cut(word, word.length() == 4 ? 1 : 2);
    }
    if (word.endsWith("eed")) {
      return measure(cut(word, 3)) > 0 ? cut(word, 1) : word;
    }
    String stem;
    if (word.endsWith("ed") && hasVowel(cut(word, 2))) {
      stem = cut(word, 2);
    } else if (word.endsWith("ing") && hasVowel(cut(word, 3))) {
      stem = cut(word, 3);
    } else {
      return word;
    }
    if (stem.endsWith("at") || stem.endsWith("bl") || stem.endsWith("iz")) {
      return stem + "e";
    }
    if (endsInDoubleConsonant(stem)) {
      char last = stem.charAt(stem.length() - 1);
      return last == 'l' || last == 's' || last == 'z' ? stem : cut(stem, 1);
    }
    return measure(stem) == 1 && endsInConsonantVowelConsonant(stem) ? stem + "e" : stem;
  }

  /// Step 1c.
  private static String finalY(String word) {
    String stem = cut(word, 1);
    boolean turns = word.endsWith("y") && stem.length() > 1 && isConsonant(stem, stem.length() - 1);
    return turns ? stem + "i" : word;
  }

  /// Step 2.
  private static String longer(String word) {
    if (word.endsWith("alli") && measure(cut(word, 4)) > 0) {
      return longer(cut(word, 2));
    }
    for (String[] rule : STEP_2) {
      if (word.endsWith(rule[0])) {
        String stem = cut(word, rule[0].length());
        return measure(stem) > 0 ? stem + rule[1] : word;
      }
    }
    return word.endsWith("logi") && measure(cut(word, 3)) > 0 ? cut(word, 1) : word;
  }

  /// Step 3.
  private static String derived(String word) {
    for (String[] rule : STEP_3) {
      if (word.endsWith(rule[0])) {
        String stem = cut(word, rule[0].length());
        return measure(stem) > 0 ? stem + rule[1] : word;
      }
    }
    return word;
  }

  /// Step 4.
  private static String residue(String word) {
    for (String suffix : STEP_4) {
      if (word.endsWith(suffix)) {
        String stem = cut(word, suffix.length());
        boolean fits = !suffix.equals("ion") || stem.endsWith("s") || stem.endsWith("t");
        return measure(stem) > 1 && fits ? stem : word;
      }
    }
    return word;
  }

  /// Step 5a.
  private static String finalE(String word) {
    if (!word.endsWith("e")) {
      return word;
    }
    String stem = cut(word, 1);
    int m = measure(stem);
    return m > 1 || m == 1 && !endsInConsonantVowelConsonant(stem) ? stem : word;
  }

  /// Step 5b.
  private static String doubleL(String word) {
    return word.endsWith("ll") && measure(cut(word, 1)) > 1 ? cut(word, 1) : word;
  }

  private static String cut(String word, int letters) {
    return word.substring(0, word.length() - letters);
  }

  private static boolean isConsonant(String word, int i) {
    return switch (word.charAt(i)) {
      case 'a', 'e', 'i', 'o', 'u' -> false;
      case 'y' -> i == 0 || !isConsonant(word, i - 1);
      default -> true;
    };
  }

  private static int measure(String stem) {
    int m = 0;
    boolean afterVowel = false;
    for (int i = 0; i < stem.length(); i++) {
      boolean consonant = isConsonant(stem, i);
      m += consonant && afterVowel ? 1 : 0;
      afterVowel = !consonant;
    }
    return m;
  }

  private static boolean hasVowel(String stem) {
    for (int i = 0; i < stem.length(); i++) {
      if (!isConsonant(stem, i)) {
        return true;
      }
    }
    return false;
  }

  private static boolean endsInDoubleConsonant(String stem) {
    int n = stem.length();
    return n >= 2 && stem.charAt(n - 1) == stem.charAt(n - 2) && isConsonant(stem, n - 1);
  }

  /// Also a vowel and a consonant alone, as NLTK has it.
  private static boolean endsInConsonantVowelConsonant(String stem) {
    int n = stem.length();
    if (n == 2) {
      return !isConsonant(stem, 0) && isConsonant(stem, 1);
    }
    return n >= 3
        && isConsonant(stem, n - 3)
        && !isConsonant(stem, n - 2)
        && isConsonant(stem, n - 1)
        && "wxy".indexOf(stem.charAt(n - 1)) < 0;
  }

  private static Map<String, String> irregular() {
    Map<String, String> pool = new HashMap<>(Map.of("skies", "sky", "sky", "sky"));
    pool.putAll(Map.of("dying", "die", "lying", "lie", "tying", "tie", "news", "news"));
    for (String stem : new String[] {"inning", "outing", "canning"}) {
      pool.put(stem, stem);
      pool.put(stem + "s", stem);
    }
    for (String stem : new String[] {"howe", "proceed", "exceed", "succeed"}) {
      pool.put(stem, stem);
    }
    return Map.copyOf(pool);
  }
}
