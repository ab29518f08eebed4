package io.github.retmask.tokenizer;

/// What one rendering may spend. Templates come with downloaded checkpoints, so one that loops,
/// recurses or multiplies strings without end must stop with an error instead of taking the process
/// down.
final class Budget {
  /// Nested expressions, statements, macro calls and values. Far above what templates use, far
  /// below what a 512 KiB stack holds.
  static final int MAX_DEPTH = 400;

  static final long MAX_STEPS = 20_000_000;

  /// Characters of one string, or elements of one list.
  static final int MAX_LENGTH = 1 << 24;

  private static final int CHARACTERS_PER_STEP = 16;

  private long steps;
  private int depth;

  void step() {
    spend(1);
  }

  /// Pays for building a value of the given length, and refuses one that is too long. To be called
  /// before memory is taken.
  void build(long length) {
    grow(0, length);
  }

  /// Pays for adding to a value that is being built.
  void grow(long length, long added) {
    if (length + added > MAX_LENGTH) {
      throw new EvalError(
          "a value of length " + (length + added) + " is too long, the limit is " + MAX_LENGTH);
    }
    spend(added / CHARACTERS_PER_STEP);
  }

  void enter() {
    step();
    if (++depth > MAX_DEPTH) {
      throw new EvalError("nested more than " + MAX_DEPTH + " levels deep");
    }
  }

  void leave() {
    depth--;
  }

  private void spend(long n) {
    steps += n;
    if (steps > MAX_STEPS) {
      throw new EvalError(
          "rendering took more than " + MAX_STEPS + " steps; is there an endless loop?");
    }
  }
}
