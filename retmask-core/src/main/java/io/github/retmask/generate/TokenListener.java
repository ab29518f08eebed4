package io.github.retmask.generate;

/// Hears tokens as they are generated.
@FunctionalInterface
public interface TokenListener {
  /// Hears nothing.
  TokenListener NONE = (_, _, _) -> {};

  /// Called once per token, in order within a request.
  ///
  /// @param request number of the request in its call
  /// @param position number of the token within the continuation
  /// @param id the token
  void generated(int request, int position, int id);
}
