package io.github.retmask.io;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/// Tells models apart, so that work begun with one is not continued with another.
///
/// SHA-256 over config.json (keys sorted, spacing ignored) and over all tensors by name: name, type,
/// shape and data. How tensors are spread over files plays no part.
///
/// With [Coverage#SAMPLED] a tensor longer than 256 KiB is represented by 64 blocks of 4 KiB, one at
/// a pseudo-random place in each 64th of it. The places are fixed by the tensor's name and length,
/// and do not line up with its rows, where a column block (a head in `o_proj`) would fall between
/// regularly spaced blocks. That reads at most 256 KiB a tensor (75 MB for the 291 tensors of an 8B
/// Llama) and sees any training step or masked head, but not a change of single elements.
///
/// @param text `sampled:` or `all:` and 64 hexadecimal digits
public record CheckpointFingerprint(String text) {
  private static final int BLOCKS = 64;
  private static final int BLOCK_BYTES = 4096;
  private static final long PIECE_BYTES = 1 << 30;

  /// How much of the data is read.
  public enum Coverage {
    /// At most 256 KiB of each tensor.
    SAMPLED,
    /// Every byte.
    ALL;

    private String prefix() {
      return this == SAMPLED ? "sampled:" : "all:";
    }
  }

  /// @throws IllegalArgumentException when the text has another form
  public CheckpointFingerprint {
    if (!text.matches("(sampled|all):[0-9a-f]{64}")) {
      throw new IllegalArgumentException(
          "%s is no model fingerprint; want sampled: or all: and 64 hexadecimal digits"
              .formatted(FormatException.quote(text)));
    }
  }

  /// The fingerprint of a checkpoint.
  public static CheckpointFingerprint of(Checkpoint checkpoint, Coverage coverage) {
    MessageDigest sha = sha256();
    text(sha, "retmask checkpoint 1");
    json(sha, checkpoint.config().json());
    List<Source> sources = new ArrayList<>();
    for (SafeTensors file : checkpoint.files()) {
      file.entries().forEach(entry -> sources.add(new Source(entry, file.bytes(entry.name()))));
    }
    sources.sort(Comparator.comparing(source -> source.entry.name()));
    for (Source source : sources) {
      text(sha, source.entry.name());
      text(sha, source.entry.dtype());
      text(sha, source.entry.shape().toString());
      if (coverage == Coverage.ALL || source.data.byteSize() <= (long) BLOCKS * BLOCK_BYTES) {
        bytes(sha, source.data);
      } else {
        sample(sha, source);
      }
    }
    return new CheckpointFingerprint(coverage.prefix() + HexFormat.of().formatHex(sha.digest()));
  }

  private record Source(SafeTensors.Entry entry, MemorySegment data) {}

  /// Whether `checkpoint` is the one that this fingerprint was taken from, as far as its coverage
  /// tells.
  public boolean matches(Checkpoint checkpoint) {
    Coverage coverage = text.startsWith(Coverage.ALL.prefix()) ? Coverage.ALL : Coverage.SAMPLED;
    return equals(of(checkpoint, coverage));
  }

  /// Refuses to go on with another model.
  ///
  /// @param what the file that records this fingerprint
  /// @throws FormatException when `checkpoint` is not the one that this fingerprint was taken from
  public void requireMatches(Checkpoint checkpoint, String what) {
    if (!matches(checkpoint)) {
      throw new FormatException(
          "%s: begun with another model than %s; go on with the same one or begin anew"
              .formatted(what, checkpoint.folder()));
    }
  }

  private static void sample(MessageDigest sha, Source source) {
    long length = source.data.byteSize();
    long state = length;
    for (byte b : source.entry.name().getBytes(StandardCharsets.UTF_8)) {
      state = mix(state + b);
    }
    long share = length / BLOCKS;
    for (int block = 0; block < BLOCKS; block++) {
      state = mix(state);
      long offset = block * share + Math.floorMod(state, share - BLOCK_BYTES + 1);
      bytes(sha, source.data.asSlice(offset, BLOCK_BYTES));
    }
  }

  /// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) after one step of its sequence.
  private static long mix(long state) {
    long z = state + 0x9e3779b97f4a7c15L;
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }

  private static void bytes(MessageDigest sha, MemorySegment data) {
    for (long from = 0; from < data.byteSize(); from += PIECE_BYTES) {
      long length = Math.min(PIECE_BYTES, data.byteSize() - from);
      sha.update(data.asSlice(from, length).asByteBuffer());
    }
  }

  /// Length first, so that no two sequences of texts have the same bytes.
  private static void text(MessageDigest sha, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    sha.update((bytes.length + ":").getBytes(StandardCharsets.UTF_8));
    sha.update(bytes);
  }

  private static void json(MessageDigest sha, JsonNode node) {
    switch (node.getNodeType()) {
      case OBJECT -> {
        text(sha, "object of " + node.size());
        node.properties().stream()
            .sorted(Map.Entry.comparingByKey())
            .forEach(
                entry -> {
                  text(sha, entry.getKey());
                  json(sha, entry.getValue());
                });
      }
      case ARRAY -> {
        text(sha, "array of " + node.size());
        node.forEach(item -> json(sha, item));
      }
      default -> text(sha, node.getNodeType() + " " + node.asText());
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform must have SHA-256", e);
    }
  }

  @Override
  public String toString() {
    return text;
  }
}
