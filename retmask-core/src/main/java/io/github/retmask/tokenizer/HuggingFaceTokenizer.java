package io.github.retmask.tokenizer;

import ai.djl.huggingface.tokenizers.jni.CharSpan;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import io.github.retmask.io.FormatException;
import java.io.IOException;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// The Rust tokenizers of Hugging Face, called through DJL's JNI functions. The native tokenizer
/// does not change once it is built, so any number of threads may call it; it is freed when this
/// object is no longer reachable.
final class HuggingFaceTokenizer implements Tokenizer {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final String FILE = "tokenizer.json";

  private final TokenizersLibrary library;
  private final long handle;
  private final TokenizerFile file;
  private final TokenizerConfig config;
  private final Around around;

  /// How `add_bos_token` and `add_eos_token` change what the post-processor of `tokenizer.json` puts
  /// around a text: -1 takes a token away there, 1 puts one, 0 changes nothing.
  private record Around(int bos, int eos) {}

  private HuggingFaceTokenizer(
      TokenizersLibrary library, long handle, TokenizerFile file, TokenizerConfig config) {
    this.library = library;
    this.handle = handle;
    this.file = file;
    this.config = config;
    this.around = around();
    CLEANER.register(this, () -> library.deleteTokenizer(handle));
  }

  static HuggingFaceTokenizer of(Path source, String tokenizerJson, String tokenizerConfig) {
    return create(source, tokenizerJson, TokenizerConfig.parse(source, tokenizerConfig));
  }

  static HuggingFaceTokenizer load(Path directory) throws IOException {
    TokenizerConfig config = TokenizerConfig.load(directory);
    return create(directory.resolve(FILE), json(directory, config), config);
  }

  static String json(Path directory) throws IOException {
    return json(directory, TokenizerConfig.load(directory));
  }

  /// The text of tokenizer.json, with the added tokens that only the config knows.
  private static String json(Path directory, TokenizerConfig config) throws IOException {
    Path path = directory.resolve(FILE);
    String json;
    try {
      json = Files.readString(path);
    } catch (NoSuchFileException e) {
      throw new NoSuchFileException(
          path.toString(),
          null,
          "a checkpoint needs its tokenizer.json; saving a fast tokenizer with save_pretrained writes one");
    } catch (CharacterCodingException e) {
      throw new FormatException(path + ": not UTF-8 text", e);
    }
    TokenizerFile file = TokenizerFile.parse(path, json);
    return file.lacks(config.addedTokens())
        ? file.withAddedTokens(json, config.addedTokens())
        : json;
  }

  private static HuggingFaceTokenizer create(Path path, String json, TokenizerConfig config) {
    TokenizerFile file = TokenizerFile.parse(path, json);
    TokenizersLibrary library = TokenizerLibrary.get();
    long handle;
    try {
      handle = library.createTokenizerFromString(json);
    } catch (RuntimeException e) {
      throw new FormatException(path + ": " + e.getMessage(), e);
    }
    library.disableTruncation(handle);
    library.disablePadding(handle);
    HuggingFaceTokenizer tokenizer = new HuggingFaceTokenizer(library, handle, file, config);
    for (int id : tokenizer.encode("", true)) {
      if (!tokenizer.hasToken(id)) {
        throw new FormatException(
            "%s: the post_processor adds token id %d, which is not in the vocabulary"
                .formatted(path, id));
      }
    }
    return tokenizer;
  }

  /// Compares the two flags, where they are given, with what is put around no text at all.
  private Around around() {
    int[] put = encodePlainly("", true);
    boolean bos = put.length > 0 && put[0] == bosId();
    boolean eos = put.length > (bos ? 1 : 0) && put[put.length - 1] == eosId();
    return new Around(change(config.addBos(), bos, bosId()), change(config.addEos(), eos, eosId()));
  }

  private static int change(@Nullable Boolean wanted, boolean there, int id) {
    return wanted == null || wanted == there || id < 0 ? 0 : wanted ? 1 : -1;
  }

  @Override
  public int[] encode(String text, boolean addSpecialTokens) {
    int[] ids = encodePlainly(text, addSpecialTokens);
    return addSpecialTokens ? around(ids, bosId(), eosId()) : ids;
  }

  /// Per-token values with those of BOS and EOS put around or taken away.
  private int[] around(int[] values, int bos, int eos) {
    if (around.bos() == 0 && around.eos() == 0) {
      return values;
    }
    IntStream.Builder all = IntStream.builder();
    if (around.bos() > 0) {
      all.add(bos);
    }
    int end = values.length - (around.eos() < 0 ? 1 : 0);
    for (int i = around.bos() < 0 ? 1 : 0; i < end; i++) {
      all.add(values[i]);
    }
    if (around.eos() > 0) {
      all.add(eos);
    }
    return all.build().toArray();
  }

  private int[] encodePlainly(String text, boolean addSpecialTokens) {
    long encoding = library.encode(handle, wellFormed(text), addSpecialTokens);
    try {
      return toInts(library.getTokenIds(encoding));
    } finally {
      library.deleteEncoding(encoding);
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public Encoding encodeWithOffsets(String text, boolean addSpecialTokens) {
    long encoding = library.encode(handle, wellFormed(text), addSpecialTokens);
    try {
      int[] ids = toInts(library.getTokenIds(encoding));
      @Nullable CharSpan[] spans = library.getTokenCharSpans(encoding);
      int[] charOf = charOfCodePoint(text);
      int[] starts = new int[ids.length];
      int[] ends = new int[ids.length];
      for (int i = 0; i < ids.length; i++) {
        CharSpan span = spans[i];
        if (span != null) {
          starts[i] = charOf[span.getStart()];
          ends[i] = charOf[span.getEnd()];
        }
      }
      return addSpecialTokens
          ? new Encoding(around(ids, bosId(), eosId()), around(starts, 0, 0), around(ends, 0, 0))
          : new Encoding(ids, starts, ends);
    } finally {
      library.deleteEncoding(encoding);
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public String decode(int[] ids, boolean skipSpecialTokens) {
    for (int id : ids) {
      tokenOf(id);
    }
    String text = decodeWithoutCleanUp(ids, skipSpecialTokens);
    return cleansUpSpaces() ? cleanUpSpaces(text) : text;
  }

  String decodeWithoutCleanUp(int[] ids, boolean skipSpecialTokens) {
    long[] wide = new long[ids.length];
    for (int i = 0; i < ids.length; i++) {
      wide[i] = ids[i];
    }
    try {
      return library.decode(handle, wide, skipSpecialTokens);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  boolean cleansUpSpaces() {
    return config.cleanUpSpaces();
  }

  /// The replacements, in their order, of `clean_up_tokenization` in Hugging Face transformers.
  static String cleanUpSpaces(String text) {
    return text.replace(" .", ".")
        .replace(" ?", "?")
        .replace(" !", "!")
        .replace(" ,", ",")
        .replace(" ' ", "'")
        .replace(" n't", "n't")
        .replace(" 'm", "'m")
        .replace(" 's", "'s")
        .replace(" 've", "'ve")
        .replace(" 're", "'re");
  }

  @Override
  public Detokenizer detokenizer(boolean skipSpecialTokens) {
    return new Detokenizer(this, skipSpecialTokens);
  }

  @Override
  public int vocabSize() {
    return file.tokens().size();
  }

  @Override
  public int idOf(String token) {
    return file.ids().getOrDefault(token, -1);
  }

  @Override
  public String tokenOf(int id) {
    String token = id < 0 || id >= vocabSize() ? null : file.tokens().get(id);
    if (token == null) {
      throw new IllegalArgumentException(
          "token id %d: the tokenizer has no such token, its ids are 0 to %d"
              .formatted(id, vocabSize() - 1));
    }
    return token;
  }

  boolean hasToken(int id) {
    return id >= 0 && id < vocabSize() && file.tokens().get(id) != null;
  }

  /// Whether a token is one byte, spelled `<0xE2>`, of a character the vocabulary lacks.
  boolean isFallbackByte(int id) {
    return file.byteFallback() && tokenOf(id).matches("<0x[0-9A-Fa-f]{2}>");
  }

  @Override
  public boolean isSpecial(int id) {
    return id >= 0 && file.special().get(id);
  }

  @Override
  public int bosId() {
    return idOfSpecial("bos_token");
  }

  @Override
  public int eosId() {
    return idOfSpecial("eos_token");
  }

  @Override
  public int padId() {
    return idOfSpecial("pad_token");
  }

  private int idOfSpecial(String role) {
    return config.specialTokens().get(role) instanceof String token ? idOf(token) : -1;
  }

  @Override
  public @Nullable ChatTemplate chatTemplate() {
    return config.chatTemplate();
  }

  @Override
  public @Nullable String chatTemplateSource(String name) {
    return switch (name) {
      case TokenizerConfig.DEFAULT -> config.template();
      case TokenizerConfig.TOOL_USE -> config.toolTemplate();
      default -> null;
    };
  }

  @Override
  public String renderChat(
      List<ChatMessage> messages, boolean addGenerationPrompt, Map<String, ?> variables) {
    ChatTemplate template = config.chatTemplate(variables);
    if (template == null) {
      throw new IllegalStateException(
          config.directory()
              + ": no chat template in chat_template.jinja, tokenizer_config.json or"
              + " chat_template.json; give the prompt as plain text");
    }
    return template.render(messages, addGenerationPrompt, variables);
  }

  /// Half a surrogate pair has no UTF-8 form; like elsewhere, U+FFFD takes its place.
  private static String wellFormed(String text) {
    StringBuilder copy = null;
    for (int i = 0; i < text.length(); i++) {
      if (Character.isSurrogate(text.charAt(i))) {
        int c = text.codePointAt(i);
        if (Character.isSupplementaryCodePoint(c)) {
          i++;
        } else {
          copy = copy == null ? new StringBuilder(text) : copy;
          copy.setCharAt(i, '\ufffd');
        }
      }
    }
    return copy == null ? text : copy.toString();
  }

  /// The library counts offsets in code points, Java in UTF-16 units.
  private static int[] charOfCodePoint(String text) {
    int[] charOf = new int[text.codePointCount(0, text.length()) + 1];
    for (int i = 0, at = 0; i < charOf.length; i++) {
      charOf[i] = at;
      at += at < text.length() ? Character.charCount(text.codePointAt(at)) : 0;
    }
    return charOf;
  }

  private static int[] toInts(long[] wide) {
    int[] ids = new int[wide.length];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = Math.toIntExact(wide[i]);
    }
    return ids;
  }
}
