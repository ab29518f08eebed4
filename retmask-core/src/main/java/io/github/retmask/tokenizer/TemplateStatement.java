package io.github.retmask.tokenizer;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// A statement of a template.
sealed interface TemplateStatement {
  int line();

  record Text(String text, int line) implements TemplateStatement {}

  record Print(TemplateExpr value, int line) implements TemplateStatement {}

  record If(List<Branch> branches, List<TemplateStatement> otherwise, int line)
      implements TemplateStatement {
    record Branch(TemplateExpr condition, List<TemplateStatement> body) {}
  }

  record For(
      Target target,
      TemplateExpr sequence,
      @Nullable TemplateExpr filter,
      List<TemplateStatement> body,
      List<TemplateStatement> otherwise,
      int line)
      implements TemplateStatement {}

  record Break(int line) implements TemplateStatement {}

  record Continue(int line) implements TemplateStatement {}

  record Set(Target target, TemplateExpr value, int line) implements TemplateStatement {}

  /// `{% set name %}...{% endset %}`, the text passed through `filter` if there is one.
  record SetBlock(
      Target target, TemplateExpr.@Nullable Filter filter, List<TemplateStatement> body, int line)
      implements TemplateStatement {}

  record FilterBlock(TemplateExpr.Filter filter, List<TemplateStatement> body, int line)
      implements TemplateStatement {}

  record With(List<Binding> bindings, List<TemplateStatement> body, int line)
      implements TemplateStatement {
    record Binding(Target target, TemplateExpr value) {}
  }

  /// Variables of its own, nothing else: `{% generation %}` marks an assistant turn for training
  /// and renders as its body.
  record Block(List<TemplateStatement> body, int line) implements TemplateStatement {}

  /// @param usesVarargs the body reads `varargs`, so further positional arguments are welcome
  /// @param usesKwargs the body reads `kwargs`, so further keyword arguments are welcome
  record Macro(
      String name,
      List<Parameter> parameters,
      List<TemplateStatement> body,
      boolean usesVarargs,
      boolean usesKwargs,
      int line)
      implements TemplateStatement {
    record Parameter(String name, @Nullable TemplateExpr fallback) {}
  }

  /// What a `set` or `for` assigns to.
  sealed interface Target {
    record Variable(String name) implements Target {}

    /// `namespace.attribute`.
    record NamespaceAttribute(String namespace, String attribute) implements Target {}

    record Several(List<Target> targets) implements Target {}
  }
}
