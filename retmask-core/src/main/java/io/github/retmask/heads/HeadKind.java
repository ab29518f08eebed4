package io.github.retmask.heads;

/// How a head computes its output z before the gate scales it.
public sealed interface HeadKind {

  /// The head as trained.
  Full FULL = new Full();

  /// Every visible key gets the same weight: the head emits the mean of V. Equal to a zero query
  /// after rope, the ablation in the modelling files of nightdessert/Retrieval_Head.
  Uniform UNIFORM = new Uniform();

  /// As trained.
  record Full() implements HeadKind {}

  /// Uniform attention over the visible keys.
  record Uniform() implements HeadKind {}

  /// The output is a constant, such as the head's average over a corpus (mean ablation).
  ///
  /// @param z the constant output, D values
  record Mean(float[] z) implements HeadKind {
    public Mean {
      z = z.clone();
    }

    @Override
    public float[] z() {
      return z.clone();
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Mean that && java.util.Arrays.equals(z, that.z);
    }

    @Override
    public int hashCode() {
      return java.util.Arrays.hashCode(z);
    }
  }

  /// A streaming head: it sees the first `sink` keys and the last `window` keys, the query's own
  /// included (DuoAttention's streaming heads, mit-han-lab/duo-attention).
  ///
  /// @param sink keys at the start of the sequence, may be 0
  /// @param window keys up to and including the query's own, at least 1
  record Local(int sink, int window) implements HeadKind {
    public Local {
      if (sink < 0 || window < 1) {
        throw new IllegalArgumentException(
            "local head: sink "
                + sink
                + " and window "
                + window
                + ", want sink >= 0 and window >= 1");
      }
    }
  }
}
