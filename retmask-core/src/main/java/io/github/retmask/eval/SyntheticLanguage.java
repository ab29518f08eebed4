package io.github.retmask.eval;

import io.github.retmask.random.SplitMix64;
import io.github.retmask.train.Example;
import io.github.retmask.train.ExampleSource;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// A small language in which memory competes with context, so that retrieval heads matter.
///
/// Every key has a fixed **default** value. A document is filler prose from a Markov chain with
/// needles scattered among its sentences, `code <key> is <v> <v> <v> .`, which give keys other
/// values, and ends in questions, `Question code <key> Answer <v> <v> <v> <eos>`. In training, a
/// question is answered from the context with a probability that falls with the distance to the
/// needle, else from memory: a model that learns it retrieves reliably at short range only, and has
/// room to improve at long range. Some training rows are a random segment repeated, which is what
/// makes copying heads appear.
///
/// Everything is a function of the options, the seed and an index; the same on every machine.
public final class SyntheticLanguage {
  /// Begins every row.
  public static final int BOS = 0;

  /// Ends every answer.
  public static final int EOS = 1;

  private static final List<String> STRUCTURE =
      List.of("<bos>", "<eos>", "<unk>", ".", "code", "is", "Question", "Answer");
  private static final int STOP = STRUCTURE.indexOf(".");
  private static final int CODE = STRUCTURE.indexOf("code");
  private static final int IS = STRUCTURE.indexOf("is");
  private static final int QUESTION = STRUCTURE.indexOf("Question");
  private static final int ANSWER = STRUCTURE.indexOf("Answer");
  private static final int SUCCESSORS = 4; // words that may follow a filler word

  private final Options options;
  private final List<String> vocabulary = new ArrayList<>(STRUCTURE);
  private final int firstFiller;
  private final int firstKey;
  private final int firstNumber;
  private final int[][] successors; // [fillers][SUCCESSORS]
  private final int[][] defaults; // [keys][valueLength]

  /// What the language is made of.
  ///
  /// @param seed fixes words, chain and default values
  /// @param fillers filler words
  /// @param keys keys, each with a default value
  /// @param numbers number words that values are made of
  /// @param valueLength tokens of a value
  /// @param minLength shortest training row, tokens
  /// @param maxLength longest training row, tokens
  /// @param maxNeedles needles in a training document, uniformly 0 to this
  /// @param reach how often a question is answered from the context, by distance
  /// @param repeatShare share of training rows that are a repeated random segment
  /// @param memoryShare share of training documents with needles that also ask for a key without one
  /// @param fillerWeight loss weight of tokens that are not answers
  public record Options(
      long seed,
      int fillers,
      int keys,
      int numbers,
      int valueLength,
      int minLength,
      int maxLength,
      int maxNeedles,
      List<Reach> reach,
      double repeatShare,
      double memoryShare,
      double fillerWeight) {

    public Options {
      reach = List.copyOf(reach);
      if (fillers < SUCCESSORS
          || keys <= maxNeedles
          || numbers < 2
          || valueLength < 1
          || maxNeedles < 1) {
        throw new IllegalArgumentException(
            "language: %d fillers, %d keys, %d numbers, values of %d, up to %d needles"
                .formatted(fillers, keys, numbers, valueLength, maxNeedles));
      }
      int shortest = 1 + maxNeedles * (valueLength + 4) + (maxNeedles + 1) * (valueLength + 5);
      if (minLength < shortest || maxLength < minLength) {
        throw new IllegalArgumentException(
            "language: rows of %d to %d tokens, want at least %d"
                .formatted(minLength, maxLength, shortest));
      }
    }
  }

  /// One step of the falling probability that the context is believed.
  ///
  /// @param below distances under this, in tokens from the needle's end to the answer
  /// @param probability of the context's value
  public record Reach(int below, double probability) {}

  /// Whether a probe's key has a needle.
  public enum Kind {
    /// The context gives the key a value: that is the right answer.
    CONTEXT,
    /// The context is silent about the key: the default is the right answer.
    MEMORY
  }

  /// A question with its right answer.
  ///
  /// @param prompt token ids up to and including `Answer`
  /// @param valueStart position of the needle's value; -1 for [Kind#MEMORY]
  /// @param valueEnd end of it, exclusive; -1 for [Kind#MEMORY]
  /// @param answer the right value
  /// @param memory the key's default value
  public record Probe(int[] prompt, int valueStart, int valueEnd, int[] answer, int[] memory) {}

  public SyntheticLanguage(Options options) {
    this.options = options;
    SplitMix64 random = new SplitMix64(options.seed());
    Set<String> taken = new HashSet<>(vocabulary);
    firstFiller = vocabulary.size();
    addWords(options.fillers(), 2, taken, random);
    firstKey = vocabulary.size();
    addWords(options.keys(), 3, taken, random);
    firstNumber = vocabulary.size();
    for (int i = 0; i < options.numbers(); i++) {
      vocabulary.add(Integer.toString(10 + i));
    }
    successors = new int[options.fillers()][SUCCESSORS];
    for (int[] next : successors) {
      for (int i = 0; i < SUCCESSORS; i++) {
        next[i] = firstFiller + random.nextInt(options.fillers());
      }
    }
    defaults = new int[options.keys()][];
    for (int k = 0; k < defaults.length; k++) {
      defaults[k] = value(random);
    }
  }

  /// Consonant-vowel syllables joined to words that are not taken yet.
  private void addWords(int count, int syllables, Set<String> taken, SplitMix64 random) {
    String consonants = "bdfgklmnprstvz";
    String vowels = "aeiou";
    for (int added = 0; added < count; ) {
      StringBuilder word = new StringBuilder();
      for (int s = 0; s < syllables; s++) {
        word.append(consonants.charAt(random.nextInt(consonants.length())));
        word.append(vowels.charAt(random.nextInt(vowels.length())));
      }
      if (taken.add(word.toString())) {
        vocabulary.add(word.toString());
        added++;
      }
    }
  }

  /// What this language is made of.
  public Options options() {
    return options;
  }

  /// The words, by token id.
  public List<String> vocabulary() {
    return List.copyOf(vocabulary);
  }

  /// Training rows of one epochless stream.
  public ExampleSource examples(long seed) {
    return index -> example(new SplitMix64(SplitMix64.mix(seed, index, 0, 0)));
  }

  private Example example(SplitMix64 random) {
    int length =
        options.minLength() + random.nextInt(options.maxLength() - options.minLength() + 1);
    return random.nextDouble() < options.repeatShare()
        ? repeatedSegment(length, random)
        : document(length, random);
  }

  /// A random segment of 8 to half the row, repeated to fill it; only repeats count.
  private Example repeatedSegment(int length, SplitMix64 random) {
    int segment = 8 + random.nextInt(length / 2 - 8 + 1);
    int[] ids = new int[length];
    float[] weights = new float[length];
    ids[0] = BOS;
    for (int t = 1; t < length; t++) {
      boolean repeats = t > segment;
      ids[t] =
          repeats
              ? ids[t - segment]
              : firstFiller + random.nextInt(vocabulary.size() - firstFiller);
      weights[t] = repeats ? 1f : 0f;
    }
    return new Example(ids, weights);
  }

  /// A document, then a question for every needle and perhaps one for memory, in random order.
  private Example document(int length, SplitMix64 random) {
    int needles = random.nextInt(options.maxNeedles() + 1);
    boolean asksMemory = random.nextDouble() < options.memoryShare() || needles == 0;
    int questions = needles + (asksMemory ? 1 : 0);
    int questionLength = 4 + options.valueLength() + 1;
    int bodyLength = length - 1 - questions * questionLength;
    int[] keys = random.sample(options.keys(), questions);
    Document body = body(bodyLength, keys, needles, random);

    int[] ids = new int[length];
    float[] weights = new float[length];
    ids[0] = BOS;
    System.arraycopy(body.ids(), 0, ids, 1, bodyLength);
    java.util.Arrays.fill(weights, 1, length, (float) options.fillerWeight());
    int[] order = random.sample(questions, questions);
    int at = 1 + bodyLength;
    for (int q : order) {
      at = putQuestion(ids, at, keys[q]);
      int[] answer = defaults[keys[q]];
      if (q < needles) {
        int distance = at - (1 + body.valueStarts()[q] + options.valueLength());
        if (random.nextDouble() < contextProbability(distance)) {
          answer = body.values()[q];
        }
      }
      for (int token : answer) {
        weights[at] = 1f;
        ids[at++] = token;
      }
      weights[at] = 1f;
      ids[at++] = EOS;
    }
    return new Example(ids, weights);
  }

  /// A probe of exactly `length` prompt tokens, with one asked key and, in half of the cases, a
  /// distracting needle of another key.
  ///
  /// @throws IllegalArgumentException when the length cannot hold two needles and a question
  public Probe probe(long seed, long index, int length, Kind kind) {
    int shortest = 1 + 2 * (options.valueLength() + 4) + 4;
    if (length < shortest) {
      throw new IllegalArgumentException(
          "probe: length " + length + ", want at least " + shortest + " tokens");
    }
    SplitMix64 random = new SplitMix64(SplitMix64.mix(seed, length, index, 1));
    int[] keys = random.sample(options.keys(), 2);
    boolean distractor = random.nextInt(2) == 0;
    int asked = keys[0];
    int bodyLength = length - 5;
    boolean inContext = kind == Kind.CONTEXT;
    int[] needleKeys = inContext ? keys : new int[] {keys[1], keys[0]};
    int needles = (inContext ? 1 : 0) + (distractor ? 1 : 0);
    Document body = body(bodyLength, needleKeys, needles, random);
    int[] prompt = new int[length];
    prompt[0] = BOS;
    System.arraycopy(body.ids(), 0, prompt, 1, bodyLength);
    putQuestion(prompt, 1 + bodyLength, asked);
    if (!inContext) {
      return new Probe(prompt, -1, -1, defaults[asked].clone(), defaults[asked].clone());
    }
    int start = 1 + body.valueStarts()[0];
    return new Probe(
        prompt, start, start + options.valueLength(), body.values()[0], defaults[asked].clone());
  }

  /// Questions to sample answers to, of exactly `length` prompt tokens.
  ///
  /// @param memoryShare share of them whose key has no needle
  public List<Probe> prompts(long seed, int count, int length, double memoryShare) {
    List<Probe> prompts = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      double draw = SplitMix64.toOpenDouble(SplitMix64.mix(seed, i, 0, 1));
      prompts.add(probe(seed, i, length, draw < memoryShare ? Kind.MEMORY : Kind.CONTEXT));
    }
    return prompts;
  }

  /// A body of prose with needles.
  ///
  /// @param ids tokens
  /// @param values value of each needle
  /// @param valueStarts index of each value in the body
  private record Document(int[] ids, int[][] values, int[] valueStarts) {}

  /// Prose of exactly `length` tokens with a needle for each of the first `needles` keys, placed
  /// between sentences.
  private Document body(int length, int[] keys, int needles, SplitMix64 random) {
    int needleLength = options.valueLength() + 4; // code KEY is VALUE .
    int[] prose = prose(length - needles * needleLength, random);
    List<Integer> gaps = new ArrayList<>(List.of(0)); // a needle may go before these prose tokens
    for (int i = 0; i < prose.length; i++) {
      if (prose[i] == STOP) {
        gaps.add(i + 1);
      }
    }
    int[][] values = new int[needles][];
    int[] gapOf = new int[needles];
    for (int k = 0; k < needles; k++) {
      do {
        values[k] = value(random);
      } while (java.util.Arrays.equals(values[k], defaults[keys[k]]));
      gapOf[k] = gaps.get(random.nextInt(gaps.size()));
    }
    int[] ids = new int[length];
    int[] valueStarts = new int[needles];
    int at = 0;
    for (int p = 0; p <= prose.length; p++) {
      for (int k = 0; k < needles; k++) {
        if (gapOf[k] == p) {
          ids[at] = CODE;
          ids[at + 1] = firstKey + keys[k];
          ids[at + 2] = IS;
          System.arraycopy(values[k], 0, ids, at + 3, values[k].length);
          ids[at + needleLength - 1] = STOP;
          valueStarts[k] = at + 3;
          at += needleLength;
        }
      }
      if (p < prose.length) {
        ids[at++] = prose[p];
      }
    }
    return new Document(ids, values, valueStarts);
  }

  /// Sentences of 4 to 9 words from the chain; the last one is cut to fit and still ends in a stop.
  private int[] prose(int length, SplitMix64 random) {
    int[] ids = new int[length];
    int left = 0;
    int word = firstFiller;
    for (int i = 0; i < length; i++) {
      if (left == 0) {
        left = 4 + random.nextInt(6);
        word = firstFiller + random.nextInt(options.fillers());
      } else {
        word = successors[word - firstFiller][random.nextInt(SUCCESSORS)];
      }
      left--;
      ids[i] = word;
      if (left == 0 && i + 1 < length && i + 3 != length) { // never two stops at the end
        ids[++i] = STOP;
      }
    }
    if (length > 0) {
      ids[length - 1] = STOP;
    }
    return ids;
  }

  private int putQuestion(int[] ids, int at, int key) {
    ids[at] = QUESTION;
    ids[at + 1] = CODE;
    ids[at + 2] = firstKey + key;
    ids[at + 3] = ANSWER;
    return at + 4;
  }

  private int[] value(SplitMix64 random) {
    int[] value = new int[options.valueLength()];
    for (int i = 0; i < value.length; i++) {
      value[i] = firstNumber + random.nextInt(options.numbers());
    }
    return value;
  }

  private double contextProbability(int distance) {
    for (Reach step : options.reach()) {
      if (distance < step.below()) {
        return step.probability();
      }
    }
    return 0;
  }
}
