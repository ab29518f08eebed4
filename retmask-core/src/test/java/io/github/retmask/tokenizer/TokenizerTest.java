package io.github.retmask.tokenizer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

class TokenizerTest {
  static final List<String> FAMILIES = Goldens.FAMILIES;

  private static final Tokenizer LLAMA = Goldens.tokenizer("llama");

  @ParameterizedTest
  @FieldSource("FAMILIES")
  void encodesAndDecodesAsTheReferenceDoes(String family) {
    Tokenizer tokenizer = Goldens.tokenizer(family);
    JsonNode cases = golden(family).get("encode");
    assertThat(cases).isNotEmpty();
    for (JsonNode c : cases) {
      String text = c.get("text").textValue();
      int[] ids = Goldens.ints(c.get("ids"));
      assertThat(tokenizer.encode(text, false)).as(text).isEqualTo(ids);
      assertThat(tokenizer.encode(text, true))
          .as(text)
          .isEqualTo(Goldens.ints(c.get("ids_with_special")));
      assertThat(tokenizer.decode(ids, false)).isEqualTo(c.get("decoded").textValue());
      assertThat(tokenizer.decode(ids, true)).isEqualTo(c.get("decoded_skip_special").textValue());
    }
  }

  @ParameterizedTest
  @FieldSource("FAMILIES")
  void rendersChatsAsTheReferenceDoes(String family) {
    Tokenizer tokenizer = Goldens.tokenizer(family);
    JsonNode cases = golden(family).get("chat");
    assertThat(cases).isNotEmpty();
    for (JsonNode c : cases) {
      List<ChatMessage> messages = Goldens.messages(c.get("messages"));
      boolean prompt = c.get("add_generation_prompt").booleanValue();
      Map<String, Object> extra = Goldens.map(c.get("extra"));
      assertThat(tokenizer.renderChat(messages, prompt, extra))
          .isEqualTo(c.get("rendered").textValue());
      assertThat(tokenizer.encodeChat(messages, prompt, extra))
          .isEqualTo(Goldens.ints(c.get("ids")));
    }
  }

  @ParameterizedTest
  @FieldSource("FAMILIES")
  void namesEveryTokenAndFindsItAgain(String family) {
    Tokenizer tokenizer = Goldens.tokenizer(family);
    JsonNode file = Goldens.json(Goldens.directory(family).resolve("tokenizer.json"));
    int tokens = file.at("/model/vocab").size() + file.get("added_tokens").size();
    assertThat(tokenizer.vocabSize()).isEqualTo(tokens);
    for (int id = 0; id < tokens; id++) {
      assertThat(tokenizer.idOf(tokenizer.tokenOf(id))).isEqualTo(id);
    }
    for (JsonNode added : file.get("added_tokens")) {
      assertThat(tokenizer.isSpecial(added.get("id").intValue()))
          .isEqualTo(added.get("special").booleanValue());
    }
    assertThat(tokenizer.isSpecial(0)).isFalse();
    assertThat(tokenizer.idOf("no such token")).isEqualTo(-1);
  }

  @Test
  void specialTokensComeFromTheConfig() {
    assertThat(LLAMA.tokenOf(LLAMA.bosId())).isEqualTo("<|begin_of_text|>");
    assertThat(LLAMA.tokenOf(LLAMA.eosId())).isEqualTo("<|eot_id|>");
    assertThat(LLAMA.tokenOf(LLAMA.padId())).isEqualTo("<|finetune_right_pad_id|>");
    assertThat(Goldens.tokenizer("qwen2").bosId()).isEqualTo(-1);
  }

  @Test
  void anIdWithoutATokenIsRefusedByName() {
    assertThatThrownBy(() -> LLAMA.decode(new int[] {1, 320}, false))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("token id 320: the tokenizer has no such token, its ids are 0 to 319");
    assertThatThrownBy(() -> LLAMA.tokenOf(-1)).isInstanceOf(IllegalArgumentException.class);
    assertThat(LLAMA.isSpecial(-1)).isFalse();
    assertThat(LLAMA.isSpecial(320)).isFalse();
  }

  @Test
  void offsetsPointIntoTheTextAlsoBehindCharactersOfTwoUnits() {
    String text = "a\ud83d\ude00 b";
    Encoding encoding = LLAMA.encodeWithOffsets(text, true);
    assertThat(encoding.ids()).isEqualTo(LLAMA.encode(text, true));
    assertThat(encoding.starts()[0]).as("BOS").isEqualTo(encoding.ends()[0]);
    assertThat(encoding.starts()[1]).isZero();
    assertThat(encoding.ends()[1]).isEqualTo(1);
    for (int i = 2; i < 6; i++) { // the four bytes of the emoji
      assertThat(encoding.starts()[i]).isEqualTo(1);
      assertThat(encoding.ends()[i]).isEqualTo(3);
    }
    int last = encoding.ids().length - 1;
    assertThat(encoding.ends()[last]).isEqualTo(text.length());
    assertThat(encoding.tokensCovering(1, 3)).isEqualTo(new Encoding.Span(2, 6));
    assertThat(encoding.tokensCovering(0, text.length())).isEqualTo(new Encoding.Span(1, last + 1));
    assertThatThrownBy(() -> encoding.tokensCovering(2, 2))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("no token covers the characters [2, 2)");
  }

  @Test
  void halfASurrogatePairBecomesTheReplacementCharacter() {
    assertThat(LLAMA.decode(LLAMA.encode("a\ud800b\udc00", false), false))
        .isEqualTo("a\ufffdb\ufffd");
    assertThat(LLAMA.encodeWithOffsets("a\ud800b", false).ends()).endsWith(3);
  }

  @Test
  void truncationAndPaddingOfTheFileAreSwitchedOff(@TempDir Path directory) throws IOException {
    copy("llama", directory);
    ObjectNode file = (ObjectNode) Goldens.json(directory.resolve("tokenizer.json"));
    file.putObject("truncation")
        .put("direction", "Right")
        .put("max_length", 2)
        .put("strategy", "LongestFirst")
        .put("stride", 0);
    file.putObject("padding")
        .put("direction", "Right")
        .putNull("pad_to_multiple_of")
        .put("pad_id", 318)
        .put("pad_type_id", 0)
        .put("pad_token", "<|finetune_right_pad_id|>")
        .putObject("strategy")
        .put("Fixed", 50);
    new ObjectMapper().writeValue(directory.resolve("tokenizer.json").toFile(), file);
    assertThat(Tokenizer.load(directory).encode("the river bend", true))
        .isEqualTo(LLAMA.encode("the river bend", true));
  }

  @Test
  void spacesAreCleanedUpWhereTheConfigSaysSo(@TempDir Path directory) throws IOException {
    copy("llama", directory);
    Path config = directory.resolve("tokenizer_config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replace(
                "\"clean_up_tokenization_spaces\":false", "\"clean_up_tokenization_spaces\":true"));
    Tokenizer cleaning = Tokenizer.load(directory);
    String text = "it is n't , no . it 's ' good ' ! we 've";
    assertThat(cleaning.decode(cleaning.encode(text, false), false))
        .isEqualTo("it isn't, no. it's'good '! we've");
    assertThat(LLAMA.decode(LLAMA.encode(text, false), false)).isEqualTo(text);
    assertThat(streamed(cleaning, cleaning.encode(text, false), false))
        .isEqualTo("it isn't, no. it's'good '! we've");
  }

  @Test
  void threadsShareOneTokenizer() throws Exception {
    String text = "the river's bend, isn't it? \ud83d\ude00 ".repeat(50);
    int[] expected = LLAMA.encode(text, true);
    Callable<Integer> work =
        () -> {
          int same = 0;
          for (int i = 0; i < 20; i++) {
            boolean equal = Arrays.equals(LLAMA.encode(text, true), expected);
            same += equal && LLAMA.decode(expected, true).equals(text) ? 1 : 0;
          }
          return same;
        };
    try (var pool = Executors.newFixedThreadPool(4)) {
      for (Future<Integer> result : pool.invokeAll(List.of(work, work, work, work))) {
        assertThat(result.get()).isEqualTo(20);
      }
    }
  }

  // ---- streaming ----

  @Property
  void whatIsEncodedDecodesToItself(@ForAll("texts") String text) {
    assertThat(LLAMA.decode(LLAMA.encode(text, true), true)).isEqualTo(text);
    assertThat(streamed(LLAMA, LLAMA.encode(text, true), true)).isEqualTo(text);
  }

  @Provide
  Arbitrary<String> texts() {
    Arbitrary<Character> characters =
        Arbitraries.chars().all().filter(c -> !Character.isSurrogate(c));
    Arbitrary<String> emoji = Arbitraries.of("\ud83d\ude00", "\ud83d\udc4d\ud83c\udffd", "e\u0301");
    return Arbitraries.oneOf(
            characters.map(String::valueOf), emoji, Arbitraries.strings().ascii().ofMaxLength(9))
        .list()
        .ofMaxSize(20)
        .map(parts -> String.join("", parts))
        .filter(text -> !text.contains("<|"));
  }

  @Property
  void streamedPiecesOfAnyIdsAddUpToTheWholeText(
      @ForAll @Size(max = 60) List<@IntRange(max = 319) Integer> ids, @ForAll boolean skip) {
    int[] all = ids.stream().mapToInt(Integer::intValue).toArray();
    assertThat(streamed(LLAMA, all, skip)).isEqualTo(LLAMA.decode(all, skip));
  }

  @Test
  void noPieceHoldsHalfACharacter() {
    Detokenizer detokenizer = LLAMA.detokenizer(true);
    var pieces = new ArrayList<String>();
    for (int id : LLAMA.encode("\ud83d\ude00\u65e5", true)) {
      pieces.add(detokenizer.add(id));
    }
    assertThat(pieces).containsExactly("", "", "", "", "\ud83d\ude00", "", "", "\u65e5");
    assertThat(detokenizer.finish()).isEmpty();
  }

  @Test
  void aStreamCutInsideACharacterEndsWithTheReplacementCharacter() {
    Detokenizer detokenizer = LLAMA.detokenizer(true);
    int[] ids = LLAMA.encode("\u65e5", false);
    assertThat(detokenizer.add(ids[0])).isEmpty();
    assertThat(detokenizer.finish()).isEqualTo("\ufffd");
    assertThat(detokenizer.add(LLAMA.idOf("a"))).as("after finish").isEqualTo("a");
  }

  @Test
  void idsBeyondTheTokenizerAddNothingToAStream() {
    Detokenizer detokenizer = LLAMA.detokenizer(false);
    assertThat(detokenizer.add(320) + detokenizer.add(LLAMA.idOf("a")) + detokenizer.add(-1))
        .isEqualTo("a");
  }

  @Property
  void aSentencePieceDecoderStreamsToo(
      @ForAll @Size(max = 40) List<@IntRange(max = 265) Integer> ids, @ForAll boolean skip) {
    int[] all = ids.stream().mapToInt(Integer::intValue).toArray();
    assertThat(streamed(SENTENCE_PIECE, all, skip)).isEqualTo(SENTENCE_PIECE.decode(all, skip));
  }

  private static final Tokenizer SENTENCE_PIECE = sentencePiece();

  /// The form of Llama 2 and Mistral 7B: spaces as U+2581, unknown characters as byte tokens.
  private static Tokenizer sentencePiece() {
    var vocab = new StringBuilder();
    int id = 3;
    for (int b = 0; b < 256; b++) {
      vocab.append(",\"<0x%02X>\":%d".formatted(b, id++));
    }
    for (String token : List.of("\u2581", "a", "b", "\u2581a", "\u2581\u2581", "ab", "\u2581ab")) {
      vocab.append(",\"%s\":%d".formatted(token, id++));
    }
    String json =
        """
        {"version": "1.0", "truncation": null, "padding": null,
         "added_tokens": [
           {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
           {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
           {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
         "normalizer": {"type": "Sequence", "normalizers": [
           {"type": "Prepend", "prepend": "\u2581"},
           {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
         "pre_tokenizer": null, "post_processor": null,
         "decoder": {"type": "Sequence", "decoders": [
           {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
           {"type": "ByteFallback"}, {"type": "Fuse"},
           {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
         "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
           "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2%s},
           "merges": ["a b", "\u2581 a", "\u2581 \u2581", "\u2581a b"]}}
        """
            .formatted(vocab);
    try {
      Path directory = Files.createTempDirectory("sentencepiece");
      try {
        Files.writeString(directory.resolve("tokenizer.json"), json);
        return Tokenizer.load(directory);
      } finally {
        Files.delete(directory.resolve("tokenizer.json"));
        Files.delete(directory);
      }
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  @Test
  void fallbackBytesAreJudgedAsOneRun() {
    int[] euro = {3 + 0xe2, 3 + 0x82, 3 + 0xac};
    int[] broken = {3 + 0xe2, 3 + 0x82, 3 + 0xac, 3 + 0xff};
    assertThat(SENTENCE_PIECE.decode(euro, false)).isEqualTo("\u20ac");
    assertThat(SENTENCE_PIECE.decode(broken, false)).isEqualTo("\ufffd\ufffd\ufffd\ufffd");
    assertThat(streamed(SENTENCE_PIECE, broken, false)).isEqualTo("\ufffd\ufffd\ufffd\ufffd");
  }

  @Test
  void charactersOutsideASentencePieceVocabularyBecomeTheirBytes() {
    int space = SENTENCE_PIECE.idOf("\u2581");
    int[] ids = SENTENCE_PIECE.encode("ab \u20ac", true);
    assertThat(ids)
        .containsExactly(space, SENTENCE_PIECE.idOf("ab"), space, 3 + 0xe2, 3 + 0x82, 3 + 0xac);
    assertThat(SENTENCE_PIECE.decode(ids, false)).isEqualTo("ab \u20ac");
  }

  @Property
  void whatSentencePieceEncodesDecodesToItselfAndStreamsInWholeCharacters(
      @ForAll("texts") String text) {
    String plain = text.replace('\u2581', ' '); // stands for a space there
    int[] ids = SENTENCE_PIECE.encode(plain, true);
    assertThat(SENTENCE_PIECE.decode(ids, true)).isEqualTo(plain);
    Detokenizer detokenizer = SENTENCE_PIECE.detokenizer(true);
    var pieces = new StringBuilder();
    for (int id : ids) {
      pieces.append(detokenizer.add(id));
      assertThat(plain).startsWith(pieces.toString());
      int length = pieces.length();
      assertThat(length > 0 && Character.isHighSurrogate(pieces.charAt(length - 1))).isFalse();
    }
    assertThat(pieces + detokenizer.finish()).isEqualTo(plain);
  }

  @Test
  void wordsThatNoMergeReachesAreFoundWhereMergesAreIgnored() {
    Tokenizer planted = Goldens.tokenizer("planted");
    assertThat(planted.encode(" xenon yarrow", false))
        .containsExactly(planted.idOf("\u0120xenon"), planted.idOf("\u0120yarrow"));
  }

  private static String streamed(Tokenizer tokenizer, int[] ids, boolean skip) {
    Detokenizer detokenizer = tokenizer.detokenizer(skip);
    var text = new StringBuilder();
    for (int id : ids) {
      text.append(detokenizer.add(id));
    }
    return text.append(detokenizer.finish()).toString();
  }

  // ---- broken files ----

  @Test
  void aMissingTokenizerFileIsNamed(@TempDir Path directory) {
    assertThatThrownBy(() -> Tokenizer.load(directory))
        .isInstanceOf(NoSuchFileException.class)
        .hasMessageContaining("tokenizer.json")
        .hasMessageContaining("save_pretrained");
  }

  @Test
  void brokenTokenizerFilesAreRefusedByName(@TempDir Path directory) throws IOException {
    for (String broken :
        List.of(
            "",
            "[]",
            "{",
            "{}",
            "{\"model\": 3}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}}}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 2000000000}}}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999999}}}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"x\"}}}",
            "{\"model\": {\"type\": \"None\", \"vocab\": {\"a\": 0}}}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"continuing_subword_prefix\": \"##\"}}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}, \"post_processor\": {\"type\": \"Sequence\","
                + " \"processors\": [{\"type\": \"TemplateProcessing\", \"special_tokens\": {},"
                + " \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}], \"pair\": []}]}}",
            "{\"added_tokens\": [{\"id\": 1, \"content\": \"" + "x".repeat(5000) + "\"}]}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []},"
                + " \"added_tokens\": [{\"id\": 3, \"content\": \"<s>\"}]}",
            "{\"added_tokens\": [{\"id\": 1}]}",
            "{\"added_tokens\": [{\"id\": \"1\", \"content\": \"a\"}]}",
            "{\"added_tokens\": [{\"id\": 1, \"content\": \"a\", \"special\": 3}]}",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}")) {
      Files.writeString(directory.resolve("tokenizer.json"), broken);
      assertThatThrownBy(() -> Tokenizer.load(directory))
          .as(broken)
          .isInstanceOf(FormatException.class)
          .hasMessageContaining("tokenizer.json: ");
    }
    Files.write(directory.resolve("tokenizer.json"), new byte[] {'{', (byte) 0xff});
    assertThatThrownBy(() -> Tokenizer.load(directory))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("not UTF-8");
  }

  @Test
  void brokenConfigsAreRefusedByName(@TempDir Path directory) throws IOException {
    copy("llama", directory);
    for (String broken : List.of("", "[1]", "{\"bos_token\": ", "{\"chat_template\": [3]}")) {
      Files.write(
          directory.resolve("tokenizer_config.json"), broken.getBytes(StandardCharsets.UTF_8));
      assertThatThrownBy(() -> Tokenizer.load(directory))
          .as(broken)
          .isInstanceOf(FormatException.class)
          .hasMessageContaining("tokenizer_config.json: ");
    }
  }

  @Test
  void withoutConfigThereAreNoSpecialRolesAndNoTemplate(@TempDir Path directory)
      throws IOException {
    Files.copy(
        Goldens.directory("llama").resolve("tokenizer.json"), directory.resolve("tokenizer.json"));
    Tokenizer tokenizer = Tokenizer.load(directory);
    assertThat(tokenizer.bosId()).isEqualTo(-1);
    assertThat(tokenizer.chatTemplate()).isNull();
    assertThatThrownBy(() -> tokenizer.renderChat(List.of(), true, Map.of()))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("no chat template");
    Files.writeString(
        directory.resolve("special_tokens_map.json"),
        "{\"bos_token\": {\"content\": \"<|begin_of_text|>\"}, \"eos_token\": \"<|eot_id|>\"}");
    Tokenizer withMap = Tokenizer.load(directory);
    assertThat(withMap.bosId()).isEqualTo(312);
    assertThat(withMap.eosId()).isEqualTo(317);
  }

  @Test
  void theTemplateFileWinsOverTheConfigAndTheConfigOverJson(@TempDir Path directory)
      throws IOException {
    copy("llama", directory);
    Path config = directory.resolve("tokenizer_config.json");
    Files.writeString(
        directory.resolve("chat_template.json"), "{\"chat_template\": \"json {{ bos_token }}\"}");
    Files.writeString(
        config,
        "{\"bos_token\": \"<b>\", \"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"},"
            + " {\"name\": \"default\", \"template\": \"config {{ bos_token }}\"}]}");
    assertThat(rendered(directory)).isEqualTo("config <b>");
    Files.writeString(directory.resolve("chat_template.jinja"), "jinja {{ bos_token }}\n");
    assertThat(rendered(directory)).isEqualTo("jinja <b>");
    Files.delete(directory.resolve("chat_template.jinja"));
    Files.writeString(config, "{\"bos_token\": \"<b>\", \"chat_template\": null}");
    assertThat(rendered(directory)).isEqualTo("json <b>");
  }

  @Test
  void theTemplateForToolsIsTakenWhenThereAreTools(@TempDir Path directory) throws IOException {
    copy("llama", directory);
    Files.writeString(
        directory.resolve("tokenizer_config.json"),
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"},"
            + " {\"name\": \"tool_use\", \"template\": \"{{ tools | length }} tools\"}]}");
    Tokenizer tokenizer = Tokenizer.load(directory);
    assertThat(tokenizer.renderChat(List.of(), false, Map.of())).isEqualTo("plain");
    assertThat(tokenizer.renderChat(List.of(), false, Map.of("tools", List.of("a", "b"))))
        .isEqualTo("2 tools");
  }

  @Test
  void bosAndEosAreAsTheConfigSaysWhateverThePostProcessorPuts(@TempDir Path directory)
      throws IOException {
    copy("llama", directory);
    int[] plain = LLAMA.encode("the river", false);
    int[] bos = LLAMA.encode("the river", true);
    assertThat(bos).isEqualTo(joined(LLAMA.bosId(), plain));
    String eos = "{\"content\": \"<|eot_id|>\", \"special\": true}";
    for (String[] c :
        new String[][] {
          {"", "bos"},
          {", \"add_bos_token\": null", "bos"},
          {", \"add_bos_token\": true", "bos"},
          {", \"add_bos_token\": true, \"add_eos_token\": false", "bos"},
          {", \"add_bos_token\": false", ""},
          {", \"add_eos_token\": true", "bos eos"},
          {", \"add_bos_token\": false, \"add_eos_token\": true", "eos"}
        }) {
      Files.writeString(
          directory.resolve("tokenizer_config.json"),
          "{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\": %s%s}".formatted(eos, c[0]));
      Tokenizer tokenizer = Tokenizer.load(directory);
      assertThat(tokenizer.eosId()).isEqualTo(LLAMA.eosId());
      int[] wanted = c[1].contains("bos") ? bos : plain;
      if (c[1].contains("eos")) {
        wanted = Arrays.copyOf(wanted, wanted.length + 1);
        wanted[wanted.length - 1] = LLAMA.eosId();
      }
      assertThat(tokenizer.encode("the river", true)).as(c[0]).isEqualTo(wanted);
      assertThat(tokenizer.encode("the river", false)).isEqualTo(plain);
      Encoding encoding = tokenizer.encodeWithOffsets("the river", true);
      assertThat(encoding.ids()).isEqualTo(wanted);
      int first = c[1].contains("bos") ? 1 : 0;
      assertThat(encoding.tokensCovering(0, 9))
          .isEqualTo(new Encoding.Span(first, first + plain.length));
    }
    Path other = Files.createDirectory(directory.resolve("qwen2"));
    copy("qwen2", other); // its post-processor puts nothing
    Files.writeString(
        other.resolve("tokenizer_config.json"),
        "{\"bos_token\": \"<|endoftext|>\", \"add_bos_token\": true}");
    Tokenizer qwen = Tokenizer.load(other);
    assertThat(qwen.encode("the river", true))
        .isEqualTo(joined(qwen.idOf("<|endoftext|>"), qwen.encode("the river", false)));
  }

  private static int[] joined(int first, int[] rest) {
    int[] all = new int[rest.length + 1];
    all[0] = first;
    System.arraycopy(rest, 0, all, 1, rest.length);
    return all;
  }

  @Test
  void tokensThatOnlyTheConfigAddsAreTokens(@TempDir Path directory) throws IOException {
    copy("llama", directory);
    Path config = directory.resolve("tokenizer_config.json");
    ObjectNode json = (ObjectNode) Goldens.json(config);
    ObjectNode added = json.putObject("added_tokens_decoder");
    added.putObject("320").put("content", "<think>").put("special", false);
    added.putObject("321").put("content", "</think>").put("special", true);
    added.putObject("316").put("content", LLAMA.tokenOf(316)).put("special", false);
    new ObjectMapper().writeValue(config.toFile(), json);
    Tokenizer tokenizer = Tokenizer.load(directory);
    assertThat(tokenizer.vocabSize()).isEqualTo(322);
    int[] river = LLAMA.encode("river", false);
    int[] ids = tokenizer.encode("<think>river</think>", false);
    assertThat(ids[0]).isEqualTo(320);
    assertThat(Arrays.copyOfRange(ids, 1, ids.length - 1)).isEqualTo(river);
    assertThat(ids[ids.length - 1]).isEqualTo(321);
    assertThat(tokenizer.decode(ids, true)).isEqualTo("<think>river");
    assertThat(LLAMA.isSpecial(316)).isTrue();
    assertThat(tokenizer.isSpecial(316)).isFalse();
    assertThat(tokenizer.decode(new int[] {316}, true)).isEqualTo(LLAMA.tokenOf(316));
    Files.writeString(config, "{\"added_tokens_decoder\": {\"x\": {\"content\": \"a\"}}}");
    assertThatThrownBy(() -> Tokenizer.load(directory))
        .isInstanceOf(FormatException.class)
        .hasMessageContaining("added_tokens_decoder has \"x\"");
  }

  private static String rendered(Path directory) throws IOException {
    return Tokenizer.load(directory).renderChat(List.of(), false, Map.of());
  }

  private static void copy(String family, Path directory) throws IOException {
    for (String name : List.of("tokenizer.json", "tokenizer_config.json")) {
      Files.copy(Goldens.directory(family).resolve(name), directory.resolve(name));
    }
  }

  private static JsonNode golden(String family) {
    return Goldens.json(Goldens.directory(family).resolve("tokenizer_golden.json"));
  }
}
