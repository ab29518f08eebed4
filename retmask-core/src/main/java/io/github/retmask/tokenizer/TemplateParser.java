package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.TemplateExpr.CallArguments;
import io.github.retmask.tokenizer.TemplateLexer.Token;
import io.github.retmask.tokenizer.TemplateLexer.Type;
import io.github.retmask.tokenizer.TemplateStatement.Target;
import io.github.retmask.tokenizer.Value.None;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/// Builds the statements of a template by recursive descent, one method per level of precedence, in
/// the order of Jinja 3.1's parser.
final class TemplateParser {
  private static final int MAX_NESTING = 100;
  private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");

  private final String template;
  private final List<Token> tokens;
  private int at;
  private int nesting;
  private int loops;
  private Set<String> namesRead = new HashSet<>();

  private TemplateParser(String template, List<Token> tokens) {
    this.template = template;
    this.tokens = tokens;
  }

  static List<TemplateStatement> parse(String template, String source) {
    return new TemplateParser(template, TemplateLexer.tokenize(template, source)).body(Set.of());
  }

  // ---- tokens ----

  private Token current() {
    return tokens.get(at);
  }

  private Token next() {
    Token token = tokens.get(at);
    at = Math.min(at + 1, tokens.size() - 1);
    return token;
  }

  private boolean skipOperator(String spelling) {
    boolean hit = current().isOperator(spelling);
    at += hit ? 1 : 0;
    return hit;
  }

  private boolean skipName(String spelling) {
    boolean hit = current().isName(spelling);
    at += hit ? 1 : 0;
    return hit;
  }

  private void expectOperator(String spelling) {
    if (!skipOperator(spelling)) {
      throw unexpected("'" + spelling + "'");
    }
  }

  private void expectName(String spelling) {
    if (!skipName(spelling)) {
      throw unexpected("'" + spelling + "'");
    }
  }

  private String name(String what) {
    if (current().type() != Type.NAME) {
      throw unexpected(what);
    }
    return next().text();
  }

  private void endTag() {
    if (current().type() != Type.TAG_END) {
      throw unexpected("'%}'");
    }
    next();
  }

  private TemplateException unexpected(String wanted) {
    return problem("expected " + wanted + ", found " + current().describe());
  }

  private TemplateException problem(String problem) {
    return new TemplateException(template, current().line(), problem);
  }

  private void enter() {
    if (++nesting > MAX_NESTING) {
      throw problem("nested more than " + MAX_NESTING + " levels deep");
    }
  }

  // ---- statements ----

  /// Statements up to one of the tags in `ends`, which is left at its name; up to the end of the
  /// template if `ends` is empty.
  private List<TemplateStatement> body(Set<String> ends) {
    enter();
    var statements = new ArrayList<TemplateStatement>();
    while (true) {
      Token token = next();
      switch (token.type()) {
        case TEXT -> statements.add(new TemplateStatement.Text(token.text(), token.line()));
        case PRINT_BEGIN -> {
          statements.add(new TemplateStatement.Print(tuple(true), token.line()));
          if (current().type() != Type.PRINT_END) {
            throw unexpected("'}}'");
          }
          next();
        }
        case TAG_BEGIN -> {
          if (current().type() == Type.NAME && ends.contains(current().text())) {
            nesting--;
            return statements;
          }
          statements.add(statement());
        }
        default -> {
          if (ends.isEmpty()) {
            nesting--;
            return statements;
          }
          throw unexpected("'{% " + String.join(" %}' or '{% ", new TreeSet<>(ends)) + " %}'");
        }
      }
    }
  }

  /// A body, its end tag, and the `%}` after it.
  private List<TemplateStatement> bodyAndEnd(String end) {
    endTag();
    List<TemplateStatement> body = body(Set.of(end));
    next();
    endTag();
    return body;
  }

  private TemplateStatement statement() {
    int line = current().line();
    String tag = name("the name of a tag");
    return switch (tag) {
      case "if" -> conditional(line);
      case "for" -> loop(line);
      case "set" -> set(line);
      case "macro" -> macro(line);
      case "with" -> with(line);
      case "filter" -> {
        TemplateExpr.Filter filter = Objects.requireNonNull(filters(null, true));
        yield new TemplateStatement.FilterBlock(filter, bodyAndEnd("endfilter"), line);
      }
      case "generation" -> new TemplateStatement.Block(bodyAndEnd("endgeneration"), line);
      case "break", "continue" -> {
        if (loops == 0) {
          throw problem("'" + tag + "' outside of a loop");
        }
        endTag();
        yield tag.equals("break")
            ? new TemplateStatement.Break(line)
            : new TemplateStatement.Continue(line);
      }
      case "block", "call", "do", "extends", "from", "import", "include", "autoescape", "trans" ->
          throw problem("the tag '" + tag + "' is not supported in chat templates");
      default -> throw problem("unknown or misplaced tag '" + tag + "'");
    };
  }

  private TemplateStatement conditional(int line) {
    var branches = new ArrayList<TemplateStatement.If.Branch>();
    List<TemplateStatement> otherwise = List.of();
    while (true) {
      TemplateExpr condition = tuple(false);
      endTag();
      List<TemplateStatement> body = body(Set.of("elif", "else", "endif"));
      branches.add(new TemplateStatement.If.Branch(condition, body));
      String tag = next().text();
      if (tag.equals("elif")) {
        continue;
      }
      if (tag.equals("else")) {
        otherwise = bodyAndEnd("endif");
      } else {
        endTag();
      }
      return new TemplateStatement.If(branches, otherwise, line);
    }
  }

  private TemplateStatement loop(int line) {
    Target target = target(false);
    expectName("in");
    TemplateExpr sequence = tuple(false);
    TemplateExpr filter = skipName("if") ? expression(true) : null;
    if (current().isName("recursive")) {
      throw problem("recursive loops are not supported");
    }
    endTag();
    loops++;
    List<TemplateStatement> body = body(Set.of("endfor", "else"));
    loops--;
    List<TemplateStatement> otherwise = List.of();
    if (next().text().equals("else")) {
      otherwise = bodyAndEnd("endfor");
    } else {
      endTag();
    }
    return new TemplateStatement.For(target, sequence, filter, body, otherwise, line);
  }

  private TemplateStatement set(int line) {
    Target target = target(true);
    if (skipOperator("=")) {
      TemplateExpr value = tuple(true);
      endTag();
      return new TemplateStatement.Set(target, value, line);
    }
    TemplateExpr.Filter filter = filters(null, false);
    return new TemplateStatement.SetBlock(target, filter, bodyAndEnd("endset"), line);
  }

  private TemplateStatement with(int line) {
    var bindings = new ArrayList<TemplateStatement.With.Binding>();
    while (current().type() != Type.TAG_END) {
      if (!bindings.isEmpty()) {
        expectOperator(",");
      }
      Target target = target(false);
      expectOperator("=");
      bindings.add(new TemplateStatement.With.Binding(target, expression(true)));
    }
    return new TemplateStatement.With(bindings, bodyAndEnd("endwith"), line);
  }

  private TemplateStatement macro(int line) {
    String name = name("the name of a macro");
    Set<String> outerNames = namesRead;
    int outerLoops = loops;
    namesRead = new HashSet<>();
    loops = 0;
    expectOperator("(");
    var parameters = new ArrayList<TemplateStatement.Macro.Parameter>();
    boolean anyFallback = false;
    while (!current().isOperator(")")) {
      if (!parameters.isEmpty()) {
        expectOperator(",");
      }
      String parameter = name("the name of a parameter");
      TemplateExpr fallback = skipOperator("=") ? expression(true) : null;
      if (anyFallback && fallback == null) {
        throw problem("parameter '" + parameter + "' without a default follows one with a default");
      }
      anyFallback |= fallback != null;
      parameters.add(new TemplateStatement.Macro.Parameter(parameter, fallback));
    }
    expectOperator(")");
    List<TemplateStatement> body = bodyAndEnd("endmacro");
    boolean varargs = namesRead.contains("varargs");
    boolean kwargs = namesRead.contains("kwargs");
    outerNames.addAll(namesRead);
    namesRead = outerNames;
    loops = outerLoops;
    return new TemplateStatement.Macro(name, parameters, body, varargs, kwargs, line);
  }

  private Target target(boolean mayBeAttribute) {
    var targets = new ArrayList<Target>();
    boolean several = false;
    do {
      if (several
          && (current().isName("in") || current().isOperator("=") || current().isOperator(")"))) {
        break;
      }
      targets.add(singleTarget(mayBeAttribute));
      several |= current().isOperator(",");
    } while (skipOperator(","));
    return several ? new Target.Several(targets) : targets.getFirst();
  }

  private Target singleTarget(boolean mayBeAttribute) {
    if (skipOperator("(")) {
      enter();
      Target target = target(mayBeAttribute);
      expectOperator(")");
      nesting--;
      return target;
    }
    String name = name("a name to assign to");
    if (Set.of("true", "false", "none", "True", "False", "None").contains(name)) {
      throw problem("cannot assign to '" + name + "'");
    }
    if (mayBeAttribute && skipOperator(".")) {
      return new Target.NamespaceAttribute(name, name("the name of an attribute"));
    }
    return new Target.Variable(name);
  }

  // ---- expressions, loosest first ----

  /// An expression, or a tuple without parentheses.
  private TemplateExpr tuple(boolean mayBeConditional) {
    return tuple(mayBeConditional, false);
  }

  private TemplateExpr tuple(boolean mayBeConditional, boolean inParentheses) {
    int line = current().line();
    var items = new ArrayList<TemplateExpr>();
    boolean isTuple = false;
    while (true) {
      if (!items.isEmpty()) {
        expectOperator(",");
      }
      if (atTupleEnd()) {
        break;
      }
      items.add(expression(mayBeConditional));
      if (!current().isOperator(",")) {
        break;
      }
      isTuple = true;
    }
    if (!isTuple) {
      if (!items.isEmpty()) {
        return items.getFirst();
      }
      if (!inParentheses) {
        throw unexpected("an expression");
      }
    }
    return new TemplateExpr.TupleLiteral(items, line);
  }

  private boolean atTupleEnd() {
    Token token = current();
    return token.type() == Type.PRINT_END
        || token.type() == Type.TAG_END
        || token.isOperator(")")
        || token.isName("recursive");
  }

  private TemplateExpr expression(boolean mayBeConditional) {
    enter();
    TemplateExpr result = mayBeConditional ? conditionalExpression() : or();
    nesting--;
    return result;
  }

  private TemplateExpr conditionalExpression() {
    int line = current().line();
    TemplateExpr then = or();
    while (skipName("if")) {
      TemplateExpr condition = or();
      TemplateExpr otherwise = skipName("else") ? expression(true) : null;
      then = new TemplateExpr.Conditional(condition, then, otherwise, line);
    }
    return then;
  }

  private TemplateExpr or() {
    int line = current().line();
    TemplateExpr left = and();
    while (skipName("or")) {
      left = new TemplateExpr.Or(left, and(), line);
    }
    return left;
  }

  private TemplateExpr and() {
    int line = current().line();
    TemplateExpr left = not();
    while (skipName("and")) {
      left = new TemplateExpr.And(left, not(), line);
    }
    return left;
  }

  private TemplateExpr not() {
    int line = current().line();
    if (skipName("not")) {
      enter();
      TemplateExpr operand = not();
      nesting--;
      return new TemplateExpr.Not(operand, line);
    }
    return comparison();
  }

  private TemplateExpr comparison() {
    int line = current().line();
    TemplateExpr first = sum();
    var steps = new ArrayList<TemplateExpr.Comparison.Step>();
    while (true) {
      String operator;
      if (current().type() == Type.OPERATOR && COMPARISONS.contains(current().text())) {
        operator = next().text();
      } else if (skipName("in")) {
        operator = "in";
      } else if (current().isName("not") && tokens.get(at + 1).isName("in")) {
        at += 2;
        operator = "not in";
      } else {
        return steps.isEmpty() ? first : new TemplateExpr.Comparison(first, steps, line);
      }
      steps.add(new TemplateExpr.Comparison.Step(operator, sum()));
    }
  }

  private TemplateExpr sum() {
    int line = current().line();
    TemplateExpr left = concat();
    while (current().isOperator("+") || current().isOperator("-")) {
      left = new TemplateExpr.Binary(next().text(), left, concat(), line);
    }
    return left;
  }

  private TemplateExpr concat() {
    int line = current().line();
    TemplateExpr first = product();
    if (!current().isOperator("~")) {
      return first;
    }
    var parts = new ArrayList<>(List.of(first));
    while (skipOperator("~")) {
      parts.add(product());
    }
    return new TemplateExpr.Concat(parts, line);
  }

  private TemplateExpr product() {
    int line = current().line();
    TemplateExpr left = power();
    while (current().type() == Type.OPERATOR
        && Set.of("*", "/", "//", "%").contains(current().text())) {
      left = new TemplateExpr.Binary(next().text(), left, power(), line);
    }
    return left;
  }

  private TemplateExpr power() {
    int line = current().line();
    TemplateExpr left = unary(true);
    while (skipOperator("**")) {
      left = new TemplateExpr.Binary("**", left, unary(true), line);
    }
    return left;
  }

  private TemplateExpr unary(boolean withFilters) {
    int line = current().line();
    TemplateExpr node;
    if (current().isOperator("-") || current().isOperator("+")) {
      enter();
      node = new TemplateExpr.Sign(next().text(), unary(false), line);
      nesting--;
    } else {
      node = primary();
    }
    node = postfix(node);
    return withFilters ? filtersAndTests(node) : node;
  }

  private TemplateExpr primary() {
    Token token = current();
    switch (token.type()) {
      case NAME -> {
        next();
        return switch (token.text()) {
          case "true", "True" -> new TemplateExpr.Literal(true, token.line());
          case "false", "False" -> new TemplateExpr.Literal(false, token.line());
          case "none", "None" -> new TemplateExpr.Literal(None.NONE, token.line());
          default -> {
            namesRead.add(token.text());
            yield new TemplateExpr.Name(token.text(), token.line());
          }
        };
      }
      case STRING -> {
        var text = new StringBuilder();
        while (current().type() == Type.STRING) {
          text.append(next().text());
        }
        return new TemplateExpr.Literal(text.toString(), token.line());
      }
      case INTEGER, FLOAT -> {
        return new TemplateExpr.Literal(next().value(), token.line());
      }
      default -> {
        if (skipOperator("(")) {
          TemplateExpr inner = tuple(true, true);
          expectOperator(")");
          return inner;
        }
        if (skipOperator("[")) {
          return new TemplateExpr.ListLiteral(items("]"), token.line());
        }
        if (skipOperator("{")) {
          return dict(token.line());
        }
        throw unexpected("an expression");
      }
    }
  }

  private List<TemplateExpr> items(String close) {
    var items = new ArrayList<TemplateExpr>();
    while (!current().isOperator(close)) {
      if (!items.isEmpty()) {
        expectOperator(",");
        if (current().isOperator(close)) {
          break;
        }
      }
      items.add(expression(true));
    }
    expectOperator(close);
    return items;
  }

  private TemplateExpr dict(int line) {
    var keys = new ArrayList<TemplateExpr>();
    var values = new ArrayList<TemplateExpr>();
    while (!current().isOperator("}")) {
      if (!keys.isEmpty()) {
        expectOperator(",");
        if (current().isOperator("}")) {
          break;
        }
      }
      keys.add(expression(true));
      expectOperator(":");
      values.add(expression(true));
    }
    expectOperator("}");
    return new TemplateExpr.DictLiteral(keys, values, line);
  }

  private TemplateExpr postfix(TemplateExpr start) {
    TemplateExpr node = start;
    while (true) {
      int line = current().line();
      if (skipOperator(".")) {
        Token name = next();
        node =
            switch (name.type()) {
              case NAME -> new TemplateExpr.Attribute(node, name.text(), line);
              case INTEGER ->
                  new TemplateExpr.Element(
                      node, new TemplateExpr.Literal(name.value(), line), line);
              default ->
                  throw problem("expected a name or a number after '.', found " + name.describe());
            };
      } else if (skipOperator("[")) {
        node = subscript(node, line);
      } else if (current().isOperator("(")) {
        node = new TemplateExpr.Call(node, arguments(), line);
      } else {
        return node;
      }
    }
  }

  private TemplateExpr subscript(TemplateExpr target, int line) {
    var bounds = new @Nullable TemplateExpr[3];
    int colons = 0;
    var indexes = new ArrayList<TemplateExpr>();
    while (!current().isOperator("]")) {
      if (current().isOperator(":") && colons < 2 && indexes.size() <= 1) {
        if (colons == 0 && !indexes.isEmpty()) {
          bounds[0] = indexes.removeFirst();
        }
        colons++;
        next();
      } else if (colons > 0) {
        if (bounds[colons] != null) {
          throw unexpected("']'");
        }
        bounds[colons] = expression(true);
      } else {
        if (!indexes.isEmpty()) {
          expectOperator(",");
        }
        indexes.add(expression(true));
      }
    }
    if (colons == 0 && indexes.isEmpty()) {
      throw unexpected("an index");
    }
    expectOperator("]");
    if (colons > 0) {
      return new TemplateExpr.Slice(target, bounds[0], bounds[1], bounds[2], line);
    }
    TemplateExpr index =
        indexes.size() == 1 ? indexes.getFirst() : new TemplateExpr.TupleLiteral(indexes, line);
    return new TemplateExpr.Element(target, index, line);
  }

  private CallArguments arguments() {
    expectOperator("(");
    var positional = new ArrayList<TemplateExpr>();
    var named = new ArrayList<CallArguments.Keyword>();
    TemplateExpr star = null;
    TemplateExpr doubleStar = null;
    boolean any = false;
    while (!current().isOperator(")")) {
      if (any) {
        expectOperator(",");
        if (current().isOperator(")")) {
          break;
        }
      }
      any = true;
      if (star == null && doubleStar == null && skipOperator("*")) {
        star = expression(true);
      } else if (doubleStar == null && skipOperator("**")) {
        doubleStar = expression(true);
      } else if (doubleStar == null
          && current().type() == Type.NAME
          && tokens.get(at + 1).isOperator("=")) {
        String name = next().text();
        next();
        named.add(new CallArguments.Keyword(name, expression(true)));
      } else if (named.isEmpty() && star == null && doubleStar == null) {
        positional.add(expression(true));
      } else {
        throw problem("a positional argument cannot follow keyword or starred arguments");
      }
    }
    expectOperator(")");
    return new CallArguments(positional, named, star, doubleStar);
  }

  private TemplateExpr filtersAndTests(TemplateExpr start) {
    TemplateExpr node = start;
    while (true) {
      int line = current().line();
      if (current().isOperator("|")) {
        node = Objects.requireNonNull(filters(node, false));
      } else if (skipName("is")) {
        node = test(node, line);
      } else if (current().isOperator("(")) {
        node = new TemplateExpr.Call(node, arguments(), line);
      } else {
        return node;
      }
    }
  }

  /// A chain of filters on `value`, the first without its `|` if `inline`; null if there is none.
  private TemplateExpr.@Nullable Filter filters(@Nullable TemplateExpr value, boolean inline) {
    TemplateExpr.Filter filter = null;
    boolean first = inline;
    while (first || skipOperator("|")) {
      first = false;
      int line = current().line();
      String name = dottedName("the name of a filter");
      CallArguments arguments = current().isOperator("(") ? arguments() : CallArguments.NONE;
      filter = new TemplateExpr.Filter(filter == null ? value : filter, name, arguments, line);
    }
    return filter;
  }

  private String dottedName(String what) {
    var name = new StringBuilder(name(what));
    while (skipOperator(".")) {
      name.append('.').append(name(what));
    }
    return name.toString();
  }

  private TemplateExpr test(TemplateExpr value, int line) {
    boolean negated = skipName("not");
    String name = dottedName("the name of a test");
    CallArguments arguments = CallArguments.NONE;
    Token token = current();
    if (token.isOperator("(")) {
      arguments = arguments();
    } else if (takesArgument(token)) {
      if (token.isName("is")) {
        throw problem("tests cannot be chained with 'is'");
      }
      arguments = new CallArguments(List.of(postfix(primary())), List.of(), null, null);
    }
    TemplateExpr test = new TemplateExpr.Test(value, name, arguments, line);
    return negated ? new TemplateExpr.Not(test, line) : test;
  }

  /// Whether what follows the name of a test is its argument, as in `is divisibleby 3`.
  private static boolean takesArgument(Token token) {
    return switch (token.type()) {
      case NAME -> !Set.of("else", "or", "and").contains(token.text());
      case STRING, INTEGER, FLOAT -> true;
      default -> token.isOperator("[") || token.isOperator("{");
    };
  }
}
