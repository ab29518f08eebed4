package io.github.retmask.tokenizer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigInteger;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Expected texts come from Python's jinja2, set up as transformers does it; the `reference` key of
/// each resource names the version.
class ChatTemplateTest {
  @ParameterizedTest
  @ValueSource(strings = {"snippets", "random"})
  void snippetsRenderAsInJinja(String resource) {
    JsonNode file = resource(resource);
    Map<String, Object> variables = Goldens.map(file.get("variables"));
    Clock clock = clock(file);
    assertThat(file.get("cases")).isNotEmpty();
    for (JsonNode c : file.get("cases")) {
      String template = c.get("template").textValue();
      check(c, () -> parse(template).withClock(clock).render(List.of(), false, variables));
    }
  }

  @Test
  void conversationsRenderAsInJinja() {
    JsonNode file = resource("conversations");
    Clock clock = clock(file);
    assertThat(file.get("cases")).isNotEmpty();
    for (JsonNode c : file.get("cases")) {
      String template = file.get("templates").get(c.get("template").textValue()).textValue();
      JsonNode messages = file.get("conversations").get(c.get("conversation").textValue());
      JsonNode variables = file.get("variables").get(c.get("variables").textValue());
      boolean prompt = c.get("add_generation_prompt").booleanValue();
      check(
          c,
          () ->
              parse(template)
                  .withClock(clock)
                  .render(Goldens.messages(messages), prompt, Goldens.map(variables)));
    }
  }

  private static void check(JsonNode c, Supplier<String> rendering) {
    if (c.has("output")) {
      assertThat(rendering.get()).as(c.toString()).isEqualTo(c.get("output").textValue());
    } else {
      assertThatThrownBy(rendering::get)
          .as(c.toString())
          .isInstanceOf(TemplateException.class)
          .hasMessageStartingWith("t.jinja:");
    }
  }

  // ---- errors ----

  @Test
  void anErrorNamesTemplateLineAndProblem() {
    assertProblem("a\n{{ nope.x }}", "t.jinja:2: 'nope' is undefined");
    assertProblem(
        "{% if true %}\n\n{{ 1 + 'a' }}\n{% endif %}", //
        "t.jinja:3: unsupported operand types for +: 'int' and 'str'");
    assertProblem("{{\n 'a' ~\n nope.x }}", "t.jinja:3: 'nope' is undefined");
    assertProblem("{{ 1 }}\n{% foo %}", "t.jinja:2: unknown or misplaced tag 'foo'");
    assertProblem(
        "{% if true %}\nx", //
        "t.jinja:2: expected '{% elif %}' or '{% else %}' or '{% endif %}',"
            + " found the end of the template");
    assertProblem(
        "{% for m in messages recursive %}{% endfor %}", //
        "t.jinja:1: recursive loops are not supported");
    assertProblem(
        "{% call f() %}{% endcall %}", //
        "t.jinja:1: the tag 'call' is not supported in chat templates");
    assertProblem("{{ 'a' | xmlattr }}", "t.jinja:1: no filter named 'xmlattr'");
    assertProblem(
        "{{ 'a'.strip(5) }}", //
        "t.jinja:1: strip: argument 'chars' is int, want a string");
    assertProblem(
        "{{ [1].append(2) }}", //
        "t.jinja:1: a template may not change values: 'append' of a list");
    assertProblem(
        "{% macro f() %}\n{{ x.y }}\n{% endmacro %}\n{{ f() }}", //
        "t.jinja:2: 'x' is undefined");
    assertProblem(
        "{{ 9223372036854775807 + 1 }}", //
        "t.jinja:1: the result does not fit into a 64-bit integer");
  }

  @Test
  void whatATemplateRaisesStaysOneLine() {
    assertProblem("\n{{ raise_exception('no\nsystem role') }}", "t.jinja:2: no system role");
  }

  @Test
  void theLineIsThereAsANumber() {
    assertThat(((TemplateException) catchThrowable(() -> parse("\n\n{{"))).line()).isEqualTo(3);
  }

  private static void assertProblem(String template, String message) {
    assertThatThrownBy(() -> render(template))
        .as(template)
        .isInstanceOf(TemplateException.class)
        .hasMessage(message);
  }

  // ---- bounds ----

  @ParameterizedTest
  @ValueSource(
      strings = {
        // time
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(l=range(99999)|list) %}{% for a in range(99999) %}"
            + "{% set x = n.l == n.l %}{% endfor %}",
        "{% set n = namespace(x='') %}{% for a in range(99999) %}{% set n.x = n.x ~ 'aaaaaaaa' %}"
            + "{% set y = n.x | upper %}{% endfor %}",
        // recursion
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f([x]) }}{% endmacro %}"
            + "{{ f(1) }}",
        "{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set n.x = [n.x] %}{% endfor %}"
            + "{{ n.x }}",
        "{% set n = namespace(x=[], y=[]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}"
            + "{% set n.y = [n.y] %}{% endfor %}{{ n.x == n.y }}",
        "{% set n = namespace(x=[], y=[]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}"
            + "{% set n.y = [n.y] %}{% endfor %}{{ n.x < n.y }}",
        "{% set n = namespace(x=(1,)) %}{% for a in range(9999) %}{% set n.x = (n.x,) %}"
            + "{% endfor %}{{ {n.x: 1} }}",
        "{% set n = namespace(x={}) %}{% for a in range(9999) %}{% set n.x = {'a': n.x} %}"
            + "{% endfor %}{{ n.x | tojson }}",
        "{% set n = namespace(a=1) %}{% set n.self = n %}{{ n }}",
        // memory
        "{{ 'a' * 999999999999 }}",
        "{{ [1] * 999999999 }}",
        "{{ ('a' * 9999999) * 9999999 }}",
        "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
            + "{{ n.x }}",
        "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
            + "{{ n.x | tojson }}",
        "{% set n = namespace(x=[1], y=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}"
            + "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
        "{% set a = 'a' * 9999999 %}{{ a | replace('a', a) }}",
        "{% set a = 'a' * 9999999 %}{{ a.replace('', a) }}",
        "{% set a = ['a' * 9999] * 9999 %}{{ a | join }}",
        "{% set a = ['a' * 9999] * 9999 %}{{ ''.join(a) }}",
        "{{ 'a' | center(999999999) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a'.zfill(999999999) }}",
        "{{ '\t'.expandtabs(999999999) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '%.99999999f' % 1.5 }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '{:99999999999999}'.format(1) }}",
        "{{ [[[[1]]]] | tojson(indent='a' * 9999999) }}",
        "{{ ('a\n' * 999999) | indent('a' * 999999) }}",
        "{{ [1] | batch(999999999, 0) | list }}",
        "{{ range(9999999999) }}",
        "{% for a in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{{ 2 ** 999999999 }}",
      })
  void hostileTemplatesEndInAnError(String template) throws InterruptedException {
    assertEndsInAnError(template);
  }

  @Test
  void deepNestingAndLongNumbersOfTheSourceEndInAnError() throws InterruptedException {
    for (String unit : List.of("(", "[", "{1:", "not ", "- ", "a[", "f(", "1 if 1 else ")) {
      assertEndsInAnError("{{ " + unit.repeat(50_000));
      assertEndsInAnError("{{ " + unit.repeat(50_000) + "1 }}");
    }
    for (String unit :
        List.of("+ 1 ", ".a", "[0]", "| list ", "and 1 ", "or 0 ", "* 1 ", "** 1 ")) {
      assertEndsInAnError("{{ 0 " + unit.repeat(50_000) + "}}");
    }
    for (String unit : List.of("1", "1_", "1.", "1e", "0", "0x1", ".5")) {
      assertEndsInAnError("{{ 1" + unit.repeat(200_000) + " + nope }}");
      assertEndsInAnError("{{ ('" + unit + "' * 200_000) | int(base=nope) }}");
      assertEndsInAnError("{{ (('" + unit + "' * 200_000) | int) + ('a' | float) + nope }}");
    }
    assertEndsInAnError("{{ " + "(".repeat(50_000) + "1" + ")".repeat(50_000) + " }}");
    assertEndsInAnError("{{ " + "[".repeat(50_000) + "1" + "]".repeat(50_000) + " }}");
    assertEndsInAnError("{{ " + "{1:".repeat(50_000) + "1" + "}".repeat(50_000) + " }}");
    assertEndsInAnError("{% if 1 %}".repeat(50_000));
    assertEndsInAnError("{% for a in [1] %}".repeat(50_000));
    assertEndsInAnError("{% set " + "(".repeat(50_000));
    assertEndsInAnError("{% set q %}".repeat(50_000));
  }

  /// In a small stack, so that a limit that is too generous shows as an overflow.
  private static void assertEndsInAnError(String template) throws InterruptedException {
    var thrown = new AtomicReference<Throwable>();
    var thread =
        new Thread(null, () -> thrown.set(catchThrowable(() -> render(template))), "t", 512 << 10);
    thread.start();
    thread.join();
    assertThat(thrown.get())
        .as(template.substring(0, Math.min(100, template.length())))
        .isInstanceOf(TemplateException.class);
  }

  @Test
  void nestingThatTemplatesMayUseIsWithinTheBounds() {
    String deep = "{% if 1 %}".repeat(20) + "(".repeat(30) + "{% endif %}".repeat(20);
    assertThat(render(deep)).isEqualTo("(".repeat(30));
    assertThat(render("{{ " + "(".repeat(60) + "1" + ")".repeat(60) + " }}")).isEqualTo("1");
    assertThat(render("{{ 0" + " + 1".repeat(300) + " }}")).isEqualTo("300");
    assertThat(
            render(
                "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}"
                    + "{{ f(20) | length }}"))
        .isEqualTo("32");
  }

  @Test
  void longConversationsAreWithinTheBounds() {
    ChatTemplate template =
        parse(
            "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}"
                + "{{ ', ' if not loop.last }}{% endfor %}");
    var messages = new ArrayList<ChatMessage>();
    for (int i = 0; i < 5000; i++) {
      messages.add(ChatMessage.of("user", "words ".repeat(300)));
    }
    assertThat(template.render(messages, true, Map.of())).hasSize(5000 * (9 + 1799 + 2) - 2);
  }

  @Property(tries = 2000)
  void anySourceRendersOrIsRefused(@ForAll("sources") String source) {
    try {
      render(source);
    } catch (TemplateException e) {
      assertThat(e.getMessage()).startsWith("t.jinja:").doesNotContain("\n");
    }
  }

  @Provide
  Arbitrary<String> sources() {
    return Arbitraries.of(
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{%-",
            "-%}",
            "{%+",
            "+%}",
            " if ",
            " else ",
            " elif ",
            " endif ",
            " for ",
            " in ",
            " endfor ",
            " set ",
            " endset ",
            " macro ",
            " endmacro ",
            "raw",
            "endraw",
            " not ",
            " and ",
            " or ",
            " is ",
            "defined",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            ".",
            "|",
            "~",
            "+",
            "-",
            "*",
            "**",
            "/",
            "//",
            "%",
            "=",
            "==",
            "<",
            "a",
            "messages",
            "loop",
            "range",
            "namespace",
            "join",
            "'x'",
            "\"y\"",
            "'",
            "\\",
            "1",
            "2.5",
            "0x",
            "\n",
            " ",
            "\u00a0",
            "\ud83d\ude00",
            "\ud83d",
            "upper",
            "items")
        .list()
        .ofMaxSize(40)
        .map(parts -> String.join("", parts));
  }

  // ---- variables and settings ----

  @Test
  void variablesOfACallOverrideThoseOfTheTemplate() {
    ChatTemplate template = parse("{{ a }}{{ b }}").withVariables(Map.of("a", 1, "b", 2));
    assertThat(template.render(List.of(), false, Map.of("b", 3))).isEqualTo("13");
    assertThat(template.render(List.of(), false, Map.of())).isEqualTo("12");
  }

  @Test
  void javaValuesBecomePythonValues() {
    var variables = new HashMap<String, Object>();
    variables.put("none", null);
    variables.put("v", List.of(1, 2L, (short) 3, (byte) 4, BigInteger.TEN, 1.5f, true, "x"));
    variables.put("m", Map.of("k", new StringBuilder("text")));
    variables.put("chat", ChatMessage.of("user", "hi"));
    assertThat(parse("{{ v }} {{ m }} {{ chat.content }}").render(List.of(), false, variables))
        .isEqualTo("[1, 2, 3, 4, 10, 1.5, True, 'x'] {'k': 'text'} hi");
  }

  @Test
  void valuesNoTemplateCanHaveAreRefusedByType() {
    assertThatThrownBy(() -> parse("").render(List.of(), false, Map.of("x", new Object())))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("java.lang.Object");
    var loop = new ArrayList<Object>();
    loop.add(loop);
    assertThatThrownBy(() -> parse("").render(List.of(), false, Map.of("x", loop)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("nested more than");
  }

  @Test
  void aMessageKeepsTheOrderOfItsFields() {
    ChatMessage message = ChatMessage.of("user", "hi");
    assertThat(parse("{{ messages | tojson }}").render(List.of(message), false, Map.of()))
        .isEqualTo("[{\"role\": \"user\", \"content\": \"hi\"}]");
    assertThatThrownBy(() -> message.fields().put("role", "x"))
        .isInstanceOf(UnsupportedOperationException.class);
  }

  @Test
  void oneTemplateRendersManyTimesWithoutMemory() {
    ChatTemplate template =
        parse(
            "{% set n = namespace(x=0) %}{% set n.x = n.x + 1 %}{{ n.x }}{{ messages | length }}");
    assertThat(template.render(List.of(), false, Map.of())).isEqualTo("10");
    assertThat(template.render(List.of(ChatMessage.of("user", "a")), false, Map.of()))
        .isEqualTo("11");
  }

  private static Clock clock(JsonNode file) {
    return Clock.fixed(Instant.parse(file.get("now").textValue() + "Z"), ZoneOffset.UTC);
  }

  private static JsonNode resource(String name) {
    return Goldens.json(Goldens.resource("/templates/" + name + ".json"));
  }

  private static ChatTemplate parse(String template) {
    return ChatTemplate.parse(template, "t.jinja");
  }

  private static String render(String template) {
    return parse(template).render(List.of(), false, Map.of());
  }
}
