package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.None;
import java.math.BigInteger;
import java.time.Clock;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// A chat template: a Jinja program that turns a conversation into the text a model was trained on.
///
/// Own interpreter of the part of Jinja that chat templates use, rendered as Hugging Face
/// transformers does it: `trim_blocks` and `lstrip_blocks`, an immutable sandbox, loop controls,
/// `{% generation %}`, `tojson` without HTML escaping, `raise_exception` and `strftime_now`. Not
/// there: template inheritance and inclusion, `call`, recursive loops, integers beyond 64 bits;
/// `safe` marks nothing, since nothing is escaped.
///
/// Templates come with checkpoints that somebody else made, so rendering is bounded: in steps, in
/// depth of nesting and in length of values. It cannot reach anything but its variables.
///
/// Immutable, and so usable from several threads.
public final class ChatTemplate {
  private static final int MAX_INPUT_DEPTH = 100;

  private final String name;
  private final String source;
  private final List<TemplateStatement> body;
  private final Map<String, Object> variables;
  private final Clock clock;

  private ChatTemplate(
      String name,
      String source,
      List<TemplateStatement> body,
      Map<String, Object> variables,
      Clock clock) {
    this.name = name;
    this.source = source;
    this.body = body;
    this.variables = variables;
    this.clock = clock;
  }

  /// @param source the Jinja text
  /// @param name what to call the template in error messages, such as its file
  /// @throws TemplateException if the source is no template, or uses something not supported
  public static ChatTemplate parse(String source, String name) {
    return new ChatTemplate(
        name, source, TemplateParser.parse(name, source), Map.of(), Clock.systemDefaultZone());
  }

  /// The same template with further variables that each rendering may override, such as
  /// `bos_token`.
  public ChatTemplate withVariables(Map<String, ?> further) {
    var all = new HashMap<>(variables);
    all.putAll(converted(further));
    return new ChatTemplate(name, source, body, all, clock);
  }

  /// The same template with another source of the time that `strftime_now` tells.
  public ChatTemplate withClock(Clock clock) {
    return new ChatTemplate(name, source, body, variables, clock);
  }

  /// Whether the template's own source holds this text.
  public boolean mentions(String text) {
    return source.contains(text);
  }

  /// Whether the template has a use for a variable of this name, such as `enable_thinking`.
  public boolean reads(String variable) {
    List<TemplateLexer.Token> tokens = TemplateLexer.tokenize(name, source);
    for (int i = 0; i < tokens.size(); i++) {
      boolean attribute = i > 0 && tokens.get(i - 1).isOperator(".");
      if (!attribute && tokens.get(i).isName(variable)) {
        return true;
      }
    }
    return false;
  }

  /// The text of a conversation.
  ///
  /// @param addGenerationPrompt end with the opening of an assistant turn
  /// @param variables further variables; `tools` and `documents` are null unless given here
  /// @throws TemplateException if the template refuses the conversation, is broken, or exceeds its
  ///     bounds
  public String render(
      List<ChatMessage> messages, boolean addGenerationPrompt, Map<String, ?> variables) {
    var all = new HashMap<String, Object>(this.variables);
    all.put("tools", None.NONE);
    all.put("documents", None.NONE);
    all.putAll(converted(variables));
    var list = new ArrayList<Object>(messages.size());
    for (ChatMessage message : messages) {
      list.add(value(message.fields(), 0));
    }
    all.put("messages", list);
    all.put("add_generation_prompt", addGenerationPrompt);
    return TemplateInterpreter.render(name, body, all, clock);
  }

  private static Map<String, Object> converted(Map<String, ?> variables) {
    var out = new HashMap<String, Object>();
    variables.forEach((key, value) -> out.put(key, value(value, 0)));
    return out;
  }

  /// A Java value as the interpreter has them.
  private static Object value(@Nullable Object java, int depth) {
    if (depth > MAX_INPUT_DEPTH) {
      throw new IllegalArgumentException(
          "chat template: a variable is nested more than " + MAX_INPUT_DEPTH + " levels deep");
    }
    return switch (java) {
      case null -> None.NONE;
      case Boolean b -> b;
      case CharSequence text -> text.toString();
      case Long n -> n;
      case Integer n -> (long) n;
      case Short n -> (long) n;
      case Byte n -> (long) n;
      case BigInteger n when n.bitLength() < 64 -> n.longValue();
      case Number n -> n.doubleValue();
      case ChatMessage message -> value(message.fields(), depth);
      case Iterable<?> items -> {
        var list = new ArrayList<Object>();
        items.forEach(item -> list.add(value(item, depth + 1)));
        yield list;
      }
      case Map<?, ?> map -> {
        var out = new LinkedHashMap<Object, Object>();
        map.forEach((key, item) -> out.put(String.valueOf(key), value(item, depth + 1)));
        yield out;
      }
      default ->
          throw new IllegalArgumentException(
              "chat template: a variable is a "
                  + java.getClass().getName()
                  + ", want strings, numbers, booleans, null, lists and maps");
    };
  }
}
