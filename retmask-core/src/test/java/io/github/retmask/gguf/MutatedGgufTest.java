package io.github.retmask.gguf;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tokenizer.TemplateException;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/// GGUF files damaged in every way we could think of. Each one either opens, and then every tensor can
/// be read and the tokenizer loaded or refused, or is refused in one line that names it. Nothing else
/// is thrown, nothing large is allocated, nothing waits.
class MutatedGgufTest {
  private static final int ROUNDS = 4000;
  private static final long MOST_HEAP_BYTES = 64_000_000; // the larger file has 180 kB

  private static final long[] NUMBERS = {
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    64,
    255,
    256,
    1 << 16,
    1 << 20,
    -1,
    Integer.MAX_VALUE,
    Integer.MIN_VALUE,
    1L << 31,
    1L << 32,
    1L << 40,
    1L << 62,
    Long.MAX_VALUE,
    Long.MIN_VALUE
  };

  @TempDir private Path dir;
  private final Random random = new Random(21);

  @Test
  @Timeout(600)
  void everyDamagedFileOpensSoundOrIsRefusedInOneLine() throws IOException {
    int opened = 0;
    int refused = 0;
    try (Kernels kernels = new ReferenceBackend().open(1)) {
      Ops ops = new Ops(kernels);
      List<byte[]> files = new ArrayList<>();
      Path file = dir.resolve("m.gguf");
      GgufFixtures.export(GgufModelTest.golden("llama"), file, DType.F32, ops);
      files.add(Files.readAllBytes(file));
      files.add(withoutHuggingFace(files.getFirst()));
      files.add(SentencePieceFixture.file().bytes());
      for (int round = 0; round < ROUNDS; round++) {
        byte[] intact = files.get(round % files.size());
        byte[] bytes = intact.clone();
        StringBuilder what = new StringBuilder("round " + round);
        for (int damages = 1 + random.nextInt(2); damages > 0; damages--) {
          bytes = damage(bytes, header(intact), what);
        }
        Files.write(file, bytes);
        long before = allocated();
        try {
          try (PretrainedModel model = PretrainedModel.open(file, ops)) {
            readEverything(model);
          }
          opened++;
        } catch (FormatException | IOException e) {
          requireOneLine(e, file, what.toString());
          refused++;
        } catch (RuntimeException | Error e) {
          throw new AssertionError(what.toString(), e);
        }
        tokenizer(file, what.toString());
        assertThat(allocated() - before).as(what.toString()).isLessThan(MOST_HEAP_BYTES);
      }
    }
    // Neither branch may be empty: mutations that never matter, or always, would test little.
    assertThat(opened).isGreaterThan(ROUNDS / 20);
    assertThat(refused).isGreaterThan(ROUNDS / 4);
  }

  private static void requireOneLine(Exception e, Path file, String what) {
    assertThat(e.getMessage())
        .as(what)
        .startsWith(file.toString())
        .doesNotContain("\n")
        .hasSizeLessThan(4000);
  }

  private static void readEverything(PretrainedModel model) {
    for (Tensor tensor : model.weights().tensors()) {
      tensor.get(0);
      tensor.get(tensor.size() - 1);
    }
  }

  private static void tokenizer(Path file, String what) {
    try {
      if (GgufTokenizer.isIn(file)) {
        GgufTokenizer.load(file).encode("the river bend 12", true);
      }
    } catch (FormatException | IOException e) {
      requireOneLine(e, file, what);
    } catch (TemplateException e) {
      throw new AssertionError(what, e); // a template is not parsed until it is used
    } catch (RuntimeException | Error e) {
      throw new AssertionError(what, e);
    }
  }

  private static long allocated() {
    return ((com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean())
        .getCurrentThreadAllocatedBytes();
  }

  /// Another key in the place of the whole tokenizer.json, so that the vocabulary counts.
  static byte[] withoutHuggingFace(byte[] file) {
    byte[] key = GgufKeys.HUGGING_FACE.getBytes(StandardCharsets.US_ASCII);
    byte[] bytes = file.clone();
    for (int at = 0; ; at++) {
      if (Arrays.equals(bytes, at, at + key.length, key, 0, key.length)) {
        bytes[at] = 'x';
        return bytes;
      }
    }
  }

  /// Where the data begin, about: damage belongs before that.
  private static int header(byte[] file) {
    return Math.min(file.length, 20_000);
  }

  private byte[] damage(byte[] bytes, int header, StringBuilder what) {
    int kind = random.nextInt(12);
    what.append("; kind ").append(kind);
    if (bytes.length == 0) {
      return bytes;
    }
    int at = random.nextInt(Math.min(bytes.length, header));
    switch (kind) {
      case 0:
        return Arrays.copyOf(bytes, random.nextInt(bytes.length + 1));
      case 1:
        return Arrays.copyOf(bytes, bytes.length + 1 + random.nextInt(90));
      case 2, 3:
        for (int flips = 1 + random.nextInt(4); flips > 0; flips--) {
          bytes[random.nextInt(Math.min(bytes.length, header))] ^= (byte) (1 << random.nextInt(8));
        }
        return bytes;
      case 4, 5, 6, 7:
        return overwrite(bytes, at, GgufBytes.le(8, NUMBERS[random.nextInt(NUMBERS.length)]), 8);
      case 8:
        return overwrite(bytes, at, GgufBytes.le(4, NUMBERS[random.nextInt(NUMBERS.length)]), 4);
      case 9:
        return overwrite(
            bytes, random.nextInt(24), GgufBytes.le(8, NUMBERS[random.nextInt(NUMBERS.length)]), 8);
      case 10:
        { // a piece cut from elsewhere, put over or in between
          int from = random.nextInt(bytes.length);
          byte[] piece =
              Arrays.copyOfRange(bytes, from, Math.min(bytes.length, from + random.nextInt(200)));
          if (random.nextBoolean()) {
            return overwrite(bytes, at, piece, piece.length);
          }
          return GgufBytes.join(
              Arrays.copyOf(bytes, at), piece, Arrays.copyOfRange(bytes, at, bytes.length));
        }
      default:
        {
          int to = Math.min(bytes.length, at + random.nextInt(60));
          return GgufBytes.join(
              Arrays.copyOf(bytes, at), Arrays.copyOfRange(bytes, to, bytes.length));
        }
    }
  }

  private static byte[] overwrite(byte[] bytes, int at, byte[] with, int count) {
    System.arraycopy(with, 0, bytes, at, Math.min(count, bytes.length - at));
    return bytes;
  }
}
