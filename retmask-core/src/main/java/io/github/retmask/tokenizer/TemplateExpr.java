package io.github.retmask.tokenizer;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// An expression of a template.
sealed interface TemplateExpr {
  int line();

  record Literal(Object value, int line) implements TemplateExpr {}

  record Name(String name, int line) implements TemplateExpr {}

  record ListLiteral(List<TemplateExpr> items, int line) implements TemplateExpr {}

  record TupleLiteral(List<TemplateExpr> items, int line) implements TemplateExpr {}

  record DictLiteral(List<TemplateExpr> keys, List<TemplateExpr> values, int line)
      implements TemplateExpr {}

  record Attribute(TemplateExpr target, String name, int line) implements TemplateExpr {}

  record Element(TemplateExpr target, TemplateExpr index, int line) implements TemplateExpr {}

  record Slice(
      TemplateExpr target,
      @Nullable TemplateExpr start,
      @Nullable TemplateExpr stop,
      @Nullable TemplateExpr step,
      int line)
      implements TemplateExpr {}

  record Call(TemplateExpr function, CallArguments arguments, int line) implements TemplateExpr {}

  /// `value | name(arguments)`. Without a value it stands for the body of the block around it.
  record Filter(@Nullable TemplateExpr value, String name, CallArguments arguments, int line)
      implements TemplateExpr {}

  /// `value is name(arguments)`.
  record Test(TemplateExpr value, String name, CallArguments arguments, int line)
      implements TemplateExpr {}

  record Not(TemplateExpr operand, int line) implements TemplateExpr {}

  record Sign(String operator, TemplateExpr operand, int line) implements TemplateExpr {}

  record Binary(String operator, TemplateExpr left, TemplateExpr right, int line)
      implements TemplateExpr {}

  record And(TemplateExpr left, TemplateExpr right, int line) implements TemplateExpr {}

  record Or(TemplateExpr left, TemplateExpr right, int line) implements TemplateExpr {}

  /// `first op operand op operand ...`, true if every neighbouring pair is.
  record Comparison(TemplateExpr first, List<Step> steps, int line) implements TemplateExpr {
    record Step(String operator, TemplateExpr operand) {}
  }

  record Concat(List<TemplateExpr> parts, int line) implements TemplateExpr {}

  record Conditional(
      TemplateExpr condition, TemplateExpr then, @Nullable TemplateExpr otherwise, int line)
      implements TemplateExpr {}

  /// The arguments of a call as written: `(a, b, key=c, *list, **dict)`.
  record CallArguments(
      List<TemplateExpr> positional,
      List<Keyword> named,
      @Nullable TemplateExpr star,
      @Nullable TemplateExpr doubleStar) {
    static final CallArguments NONE = new CallArguments(List.of(), List.of(), null, null);

    record Keyword(String name, TemplateExpr value) {}
  }
}
