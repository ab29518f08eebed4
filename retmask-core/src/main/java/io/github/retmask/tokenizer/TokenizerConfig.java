package io.github.retmask.tokenizer;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// What stands beside `tokenizer.json`: the roles of special tokens, how decoded text is cleaned,
/// and the chat template.
///
/// @param specialTokens by role (`bos_token`, ..., `additional_special_tokens`): their spelling, or
///     a list of spellings. These are also variables of the chat template.
/// @param cleanUpSpaces `clean_up_tokenization_spaces`; false where nothing is said
/// @param addBos `add_bos_token`; null where nothing is said, and `tokenizer.json` alone decides
/// @param addEos `add_eos_token`, likewise
/// @param addedTokens `added_tokens_decoder`: by id, what `tokenizer.json` calls an added token
/// @param template the source of the chat template
/// @param toolTemplate the source of the one for conversations with tools, named `tool_use`
/// @param templateFile where they stand
record TokenizerConfig(
    Path directory,
    Map<String, Object> specialTokens,
    boolean cleanUpSpaces,
    @Nullable Boolean addBos,
    @Nullable Boolean addEos,
    SortedMap<Integer, JsonNode> addedTokens,
    @Nullable String template,
    @Nullable String toolTemplate,
    Path templateFile) {
  private static final List<String> ROLES =
      List.of(
          "bos_token",
          "eos_token",
          "unk_token",
          "sep_token",
          "pad_token",
          "cls_token",
          "mask_token");
  static final String DEFAULT = "default";
  static final String TOOL_USE = "tool_use";
  private static final String FURTHER = "additional_special_tokens";

  static TokenizerConfig load(Path directory) throws IOException {
    Path configFile = directory.resolve("tokenizer_config.json");
    JsonNode config = read(configFile);
    JsonNode map = read(directory.resolve("special_tokens_map.json"));
    Path templateFile = templateFile(directory, configFile, config);
    String template = template(templateFile, config, DEFAULT);
    String toolTemplate = template(templateFile, config, TOOL_USE);
    return of(directory, configFile, config, map, template, toolTemplate, templateFile);
  }

  /// From the text of a `tokenizer_config.json` that comes from `source`.
  static TokenizerConfig parse(Path source, String text) {
    JsonNode config = parseObject(source, text);
    JsonNode templates = config.path("chat_template");
    boolean none = templates.isNull() || templates.isMissingNode();
    return of(
        source,
        source,
        config,
        MissingNode.getInstance(),
        none ? null : templateSource(source, templates, DEFAULT),
        none ? null : templateSource(source, templates, TOOL_USE),
        source);
  }

  private static TokenizerConfig of(
      Path source,
      Path configFile,
      JsonNode config,
      JsonNode map,
      @Nullable String template,
      @Nullable String toolTemplate,
      Path templateFile) {
    var tokens = new LinkedHashMap<String, Object>();
    for (String role : ROLES) {
      String token = spelling(config.has(role) ? config.get(role) : map.path(role));
      if (token != null) {
        tokens.put(role, token);
      }
    }
    var further = new ArrayList<Object>();
    for (JsonNode node : config.has(FURTHER) ? config.get(FURTHER) : map.path(FURTHER)) {
      String token = spelling(node);
      if (token != null) {
        further.add(token);
      }
    }
    if (!further.isEmpty()) {
      tokens.put(FURTHER, further);
    }
    return new TokenizerConfig(
        source,
        Map.copyOf(tokens),
        config.path("clean_up_tokenization_spaces").asBoolean(false),
        flag(config.path("add_bos_token")),
        flag(config.path("add_eos_token")),
        addedTokens(configFile, config.path("added_tokens_decoder")),
        template,
        toolTemplate,
        templateFile);
  }

  private static @Nullable Boolean flag(JsonNode node) {
    return node.isBoolean() ? node.booleanValue() : null;
  }

  private static SortedMap<Integer, JsonNode> addedTokens(Path file, JsonNode decoder) {
    SortedMap<Integer, JsonNode> tokens = new TreeMap<>();
    for (Map.Entry<String, JsonNode> entry : decoder.properties()) {
      if (!entry.getKey().matches("[0-9]{1,8}") || !entry.getValue().path("content").isTextual()) {
        throw new FormatException(
            "%s: added_tokens_decoder has \"%s\": %s, want an id and an object with content"
                .formatted(file, entry.getKey(), entry.getValue()));
      }
      tokens.put(Integer.valueOf(entry.getKey()), entry.getValue());
    }
    return tokens;
  }

  /// The chat template, ready to render with the special tokens as variables; null without one.
  @Nullable ChatTemplate chatTemplate() {
    return template == null ? null : parsed(template);
  }

  /// The chat template for these variables: transformers takes the one named `tool_use`, where there
  /// is one, when there are tools.
  @Nullable ChatTemplate chatTemplate(Map<String, ?> variables) {
    return toolTemplate != null && variables.get("tools") != null
        ? parsed(toolTemplate)
        : chatTemplate();
  }

  private ChatTemplate parsed(String source) {
    return ChatTemplate.parse(source, templateFile.toString()).withVariables(specialTokens);
  }

  /// A token stands as a string or as an object with its `content`.
  private static @Nullable String spelling(JsonNode node) {
    JsonNode content = node.isObject() ? node.path("content") : node;
    return content.isTextual() ? content.textValue() : null;
  }

  /// The file of its own wins over the key in the config, as in transformers.
  private static Path templateFile(Path directory, Path configFile, JsonNode config) {
    Path jinja = directory.resolve("chat_template.jinja");
    Path json = directory.resolve("chat_template.json");
    return Files.exists(jinja)
        ? jinja
        : config.hasNonNull("chat_template") || !Files.exists(json) ? configFile : json;
  }

  private static @Nullable String template(Path file, JsonNode config, String name)
      throws IOException {
    if (file.endsWith("chat_template.jinja")) {
      return name.equals(DEFAULT) ? readText(file) : null;
    }
    JsonNode holder = file.endsWith("chat_template.json") ? read(file) : config;
    return holder.hasNonNull("chat_template")
        ? templateSource(file, holder.get("chat_template"), name)
        : null;
  }

  private static @Nullable String templateSource(Path file, JsonNode node, String name) {
    if (node.isTextual()) {
      return name.equals(DEFAULT) ? node.textValue() : null;
    }
    for (JsonNode named : node) {
      if (named.path("name").asText().equals(name) && named.path("template").isTextual()) {
        return named.path("template").textValue();
      }
    }
    if (!name.equals(DEFAULT)) {
      return null;
    }
    throw new FormatException(
        file + ": chat_template is neither a string nor a list with a template named \"default\"");
  }

  private static JsonNode read(Path file) throws IOException {
    if (!Files.exists(file)) {
      return MissingNode.getInstance();
    }
    return parseObject(file, readText(file));
  }

  private static JsonNode parseObject(Path file, String text) {
    try {
      JsonNode node = new ObjectMapper().readTree(text);
      if (!node.isObject()) {
        throw new FormatException(file + ": want a JSON object, found " + node.getNodeType());
      }
      return node;
    } catch (JsonProcessingException e) {
      throw JsonFiles.notJson(file, e);
    }
  }

  private static String readText(Path file) throws IOException {
    try {
      return Files.readString(file);
    } catch (CharacterCodingException e) {
      throw new FormatException(file + ": not UTF-8 text", e);
    }
  }
}
