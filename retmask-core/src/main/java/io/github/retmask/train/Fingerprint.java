package io.github.retmask.train;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/// Names for what a training was begun with, to tell whether it may be continued.
final class Fingerprint {
  private static final long PIECE_BYTES = 8L << 20;

  private Fingerprint() {}

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java platform has SHA-256", e);
    }
  }

  static String hex(MessageDigest digest) {
    return "sha256:" + HexFormat.of().formatHex(digest.digest());
  }

  /// Of names, types, shapes and values.
  static String of(Weights weights) {
    MessageDigest digest = sha256();
    for (Tensor tensor : weights.tensors()) {
      digest.update((tensor + "\n").getBytes(StandardCharsets.UTF_8));
      MemorySegment values = tensor.toHost().segment();
      long bytes = values.byteSize();
      for (long from = 0; from < bytes; from += PIECE_BYTES) {
        long length = Math.min(PIECE_BYTES, bytes - from);
        digest.update(values.asSlice(from, length).asByteBuffer());
      }
    }
    return hex(digest);
  }

  /// The switched heads in words; of a head with a constant output, a fingerprint of the constant.
  static String of(HeadMask mask) {
    if (mask.isNeutral()) {
      return "none";
    }
    MessageDigest means = sha256();
    for (HeadId id : mask.touched()) {
      if (mask.kind(id.layer(), id.head()) instanceof HeadKind.Mean mean) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * mean.z().length);
        bytes.asFloatBuffer().put(mean.z());
        means.update(bytes.array());
      }
    }
    boolean anyMean =
        mask.touched().stream()
            .anyMatch(id -> mask.kind(id.layer(), id.head()) instanceof HeadKind.Mean);
    return anyMean ? mask + " " + hex(means) : mask.toString();
  }
}
