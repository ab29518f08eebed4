package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgufTokenizerTest {
  @TempDir private Path dir;

  /// A golden tokenizer by way of a GGUF file.
  ///
  /// @param whole whether the file keeps the tokenizer.json, or only GGUF's own vocabulary
  private Tokenizer roundTrip(String family, boolean whole) throws IOException {
    Path folder = GgufModelTest.golden(family);
    GgufWriter writer = new GgufWriter();
    GgufVocabulary vocabulary = GgufVocabulary.of(folder, Tokenizer.load(folder), new int[0], 336);
    vocabulary.writeTo(writer);
    assertThat(vocabulary.problem()).isNull();
    Path file = dir.resolve(family + whole + ".gguf");
    writer.writeTo(file);
    if (!whole) {
      Files.write(file, MutatedGgufTest.withoutHuggingFace(Files.readAllBytes(file)));
    }
    return GgufTokenizer.load(file);
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  @ParameterizedTest
  @CsvSource({
    "llama, true",
    "llama, false",
    "qwen2, true",
    "qwen2, false",
    "qwen3, false",
    "mistral, false",
    "olmo2, false",
    "olmo3, true",
    "phi3, false"
  })
  void idsAndTextsAreThoseOfTheReference(String family, boolean whole) throws IOException {
    Tokenizer tokenizer = roundTrip(family, whole);
    JsonNode golden = JsonFiles.read(GgufModelTest.golden(family).resolve("tokenizer_golden.json"));
    assertThat(golden.get("encode")).isNotEmpty();
    for (JsonNode one : golden.get("encode")) {
      String text = one.get("text").textValue();
      assertThat(tokenizer.encode(text, false)).as(text).isEqualTo(ints(one.get("ids")));
      assertThat(tokenizer.encode(text, true))
          .as(text)
          .isEqualTo(ints(one.get("ids_with_special")));
      assertThat(tokenizer.decode(ints(one.get("ids")), false))
          .isEqualTo(one.get("decoded").textValue());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "qwen2", "phi3"})
  void rolesAndTheChatTemplateGoAlong(String family) throws IOException {
    Tokenizer original = Tokenizer.load(GgufModelTest.golden(family));
    Tokenizer read = roundTrip(family, false);
    assertThat(read.bosId()).isEqualTo(original.bosId());
    assertThat(read.eosId()).isEqualTo(original.eosId());
    assertThat(read.padId()).isEqualTo(original.padId());
    List<ChatMessage> messages =
        List.of(ChatMessage.of("user", "the river"), ChatMessage.of("assistant", "bend"));
    assertThat(read.renderChat(messages, true, Map.of()))
        .isEqualTo(original.renderChat(messages, true, Map.of()));
    assertThat(IntStream.range(0, original.vocabSize()).mapToObj(read::tokenOf).toList())
        .isEqualTo(IntStream.range(0, original.vocabSize()).mapToObj(original::tokenOf).toList());
    assertThat(IntStream.range(0, original.vocabSize()).mapToObj(read::isSpecial).toList())
        .isEqualTo(IntStream.range(0, original.vocabSize()).mapToObj(original::isSpecial).toList());
  }

  @Test
  void sentencePieceMergesByScoreAndFallsBackToBytes() throws IOException {
    Path file = Files.write(dir.resolve("spm.gguf"), SentencePieceFixture.file().bytes());
    Tokenizer tokenizer = GgufTokenizer.load(file);
    Random random = new Random(4);
    String letters = " abcdehinrtv123\u00e4\u00f6\u20ac  xy\n\ud83d\ude00";
    int[] letterPoints = letters.codePoints().toArray();
    for (int round = 0; round < 500; round++) {
      StringBuilder text = new StringBuilder(round == 0 ? "the river bend 123" : "");
      for (int i = random.nextInt(30); i > 0; i--) {
        text.appendCodePoint(letterPoints[random.nextInt(letterPoints.length)]);
      }
      if (text.isEmpty()) {
        continue;
      }
      int[] wanted =
          SentencePieceFixture.encode(text.toString()).stream().mapToInt(i -> i).toArray();
      assertThat(tokenizer.encode(text.toString(), false)).as("%s", text).isEqualTo(wanted);
      assertThat(tokenizer.decode(wanted, false)).isEqualTo(text.toString());
    }
    assertThat(tokenizer.encode("a", true)).startsWith(SentencePieceFixture.BOS);
    assertThat(tokenizer.encode("a</s>", false)).endsWith(SentencePieceFixture.EOS);
  }

  @Test
  void sentencePieceSurvivesTheWayThroughATokenizerJson() throws IOException {
    Path file = Files.write(dir.resolve("spm.gguf"), SentencePieceFixture.file().bytes());
    Tokenizer original = GgufTokenizer.load(file);
    GgufWriter writer = new GgufWriter();
    int rows = SentencePieceFixture.tokens().size();
    GgufVocabulary.of(file, original, new int[0], rows).writeTo(writer);
    Path again = dir.resolve("again.gguf");
    writer.writeTo(again);
    Files.write(again, MutatedGgufTest.withoutHuggingFace(Files.readAllBytes(again)));
    Tokenizer read = GgufTokenizer.load(again);
    for (String text : List.of("the river bend 123", "aaab aab  a", "\u20ac1\u00e4\u00f6 x")) {
      assertThat(read.encode(text, true)).isEqualTo(original.encode(text, true));
    }
    assertThat(read.bosId()).isEqualTo(SentencePieceFixture.BOS);
  }

  private void assertRefused(GgufBytes bytes, String message) throws IOException {
    Path file = Files.write(dir.resolve("bad.gguf"), bytes.bytes());
    assertThatThrownBy(() -> GgufTokenizer.load(file))
        .isInstanceOf(FormatException.class)
        .hasMessageStartingWith(file + ": " + message);
  }

  private static GgufBytes bytes(String model, String... tokens) {
    return new GgufBytes()
        .text("tokenizer.ggml.model", model)
        .texts("tokenizer.ggml.tokens", tokens);
  }

  @Test
  void brokenVocabulariesAreRefusedByKey() throws IOException {
    assertRefused(bytes("bert", "a"), "tokenizer.ggml.model is \"bert\", want gpt2 or llama");
    assertRefused(bytes("gpt2"), "tokenizer.ggml.tokens is missing or empty, want a vocabulary");
    assertRefused(bytes("gpt2", "a"), "tokenizer.ggml.pre is missing");
    assertRefused(
        bytes("gpt2", "a").text("tokenizer.ggml.pre", "other"),
        "tokenizer.ggml.pre is \"other\", want one of llama-bpe, llama3,");
    assertRefused(
        bytes("gpt2", "a", "b").text("tokenizer.ggml.pre", "gpt-2"),
        "tokenizer.ggml.merges is missing");
    assertRefused(
        bytes("gpt2", "a", "b")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.merges", "a b"),
        "tokenizer.ggml.merges has \"a b\", want two tokens whose union is a token");
    assertRefused(
        bytes("gpt2", "a", "a").text("tokenizer.ggml.pre", "gpt-2"),
        "tokenizer.ggml.tokens has \"a\" as 0 and as 1");
    assertRefused(
        bytes("gpt2", "a").u32s("tokenizer.ggml.token_type", 1, 1),
        "tokenizer.ggml.token_type has 2 items for 1 tokens");
    assertRefused(bytes("llama", "a"), "tokenizer.ggml.scores is missing");
    assertRefused(
        bytes("llama", "a").f32s("tokenizer.ggml.scores", 1, 2),
        "tokenizer.ggml.scores has 2 items for 1 tokens");
    assertRefused(
        bytes("llama", "a".repeat(513)).f32s("tokenizer.ggml.scores", 1),
        "tokenizer.ggml.tokens has a token of 513 characters, want at most 512");
    assertRefused(
        bytes("llama", "a").u32("tokenizer.ggml.bos_token_id", 1),
        "tokenizer.ggml.bos_token_id is 1, want a token below 1");
    assertRefused(
        bytes("gpt2", "a").text("tokenizer.huggingface.json", "[1]"), "the file is START_ARRAY");
  }

  @Test
  void aTokenizerWithoutCounterpartIsCarriedWhole() throws IOException {
    Path folder = Files.createDirectory(dir.resolve("words"));
    ObjectNode json = JsonNodeFactory.instance.objectNode().put("version", "1.0");
    ArrayNode added = json.putArray("added_tokens");
    assertThat(added).isEmpty();
    json.putObject("pre_tokenizer").put("type", "Whitespace");
    ObjectNode model = json.putObject("model").put("type", "WordLevel").put("unk_token", "?");
    model.putObject("vocab").put("?", 0).put("river", 1);
    Files.writeString(folder.resolve("tokenizer.json"), json.toString());
    Tokenizer original = Tokenizer.load(folder);
    GgufWriter writer = new GgufWriter();
    GgufVocabulary vocabulary = GgufVocabulary.of(folder, original, new int[0], 2);
    vocabulary.writeTo(writer);
    assertThat(vocabulary.problem())
        .isEqualTo("its kind of tokenizer (WordLevel after Whitespace) has no counterpart in GGUF");
    Path file = dir.resolve("words.gguf");
    writer.writeTo(file);
    assertThat(GgufTokenizer.load(file).encode("river, sea", false))
        .isEqualTo(original.encode("river, sea", false));
  }

  /// What the config beside tokenizer.json changes: no BOS, a token more, a template for tools.
  @Test
  void whatOnlyTheConfigSaysGoesAlong() throws IOException {
    Path folder = Files.createDirectory(dir.resolve("llama"));
    Path golden = GgufModelTest.golden("llama");
    Files.copy(golden.resolve("tokenizer.json"), folder.resolve("tokenizer.json"));
    ObjectNode config = (ObjectNode) JsonFiles.read(golden.resolve("tokenizer_config.json"));
    config.put("add_bos_token", false);
    ObjectNode more = config.withObject("/added_tokens_decoder/320");
    more.put("content", "<|more|>").put("special", true);
    config.remove("chat_template");
    config.withArray("chat_template").addObject().put("name", "default").put("template", "plain");
    config.withArray("chat_template").addObject().put("name", "tool_use").put("template", "tools");
    Files.writeString(folder.resolve("tokenizer_config.json"), config.toString());
    Tokenizer original = Tokenizer.load(folder);
    GgufWriter writer = new GgufWriter();
    GgufVocabulary.of(folder, original, new int[0], 330).writeTo(writer);
    Path file = dir.resolve("m.gguf");
    writer.writeTo(file);
    for (int way = 0; way < 2; way++) {
      Tokenizer read = GgufTokenizer.load(file);
      assertThat(read.encode("the<|more|> river", true))
          .isEqualTo(original.encode("the<|more|> river", true))
          .contains(320)
          .doesNotContain(312);
      assertThat(read.renderChat(List.of(), false, Map.of())).isEqualTo("plain");
      assertThat(read.renderChat(List.of(), false, Map.of("tools", List.of()))).isEqualTo("tools");
      if (way == 0) {
        Files.write(file, MutatedGgufTest.withoutHuggingFace(Files.readAllBytes(file)));
      }
    }
  }
}
