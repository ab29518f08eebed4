package io.github.retmask.pretrained;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.Batch;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.TemplateException;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Model folders with one file changed at random: each is opened and used, or refused in one line
/// that names the folder. Anything else (another exception, a hang, memory that the files do not
/// justify) fails with the seed and the change, which reproduce it.
///
/// `-Dretmask.mutations=N` sets the changes per family.
class HostileModelsTest {
  private static final int MUTATIONS = Integer.getInteger("retmask.mutations", 250);
  private static final long HEAP_BYTES = 100_000_000;
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String NESTED = "deeply nested";
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(strings = {"llama", "mistral", "olmo2", "olmo3", "phi3", "qwen2", "qwen3"})
  @Timeout(value = 10, unit = TimeUnit.MINUTES) // a hang, not a speed
  void changedModelsAreUsedOrRefusedInOneLine(String family) throws IOException {
    Map<String, byte[]> files = files(family);
    List<String> names = List.copyOf(files.keySet());
    for (Map.Entry<String, byte[]> file : files.entrySet()) {
      Files.write(folder.resolve(file.getKey()), file.getValue());
    }
    int refused = 0;
    try (Kernels kernels = new ReferenceBackend().open(1)) {
      use(folder, new Ops(kernels)); // the unchanged model works
      for (int seed = 0; seed < MUTATIONS; seed++) {
        Random random = new Random(31L * family.hashCode() + seed);
        String name = names.get(random.nextInt(names.size()));
        Change change = change(name, files.get(name), random);
        Files.write(folder.resolve(name), change.bytes());
        String what = "%s, seed %d, %s: %s".formatted(family, seed, name, change.what());
        long before = allocatedBytes();
        try {
          use(folder, new Ops(kernels));
        } catch (IOException | FormatException | TemplateException refusal) {
          refused++;
          assertThat(refusal.getMessage()).as(what).contains(folder.toString());
          assertThat(refusal.getMessage()).as(what).doesNotContain("\n");
        } catch (Throwable failure) {
          throw new AssertionError(what, failure);
        }
        assertThat(allocatedBytes() - before).as(what).isLessThan(HEAP_BYTES);
        Files.write(folder.resolve(name), files.get(name));
      }
    }
    assertThat(refused).as("changes that were noticed").isGreaterThan(MUTATIONS / 5);
  }

  /// Opens a model, runs it, and takes a text to tokens and back.
  private static void use(Path folder, Ops ops) throws IOException {
    try (PretrainedModel model = PretrainedModel.open(folder, ops);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      int[] ids = {1, 0, 2};
      if (model.config().vocabSize() > 2 && model.config().maxPositions() >= ids.length) {
        Batch.Row row = Batch.Row.whole(ids, model.transformer().noMask());
        Tensor logits =
            model
                .transformer()
                .logits(model.transformer().forward(Batch.of(row), step), step, 0, 2);
        assertThat(logits.dim(1)).isEqualTo(model.config().vocabSize());
      }
      Tokenizer tokenizer = model.tokenizer();
      model.eosIds();
      int[] encoded = tokenizer.encode("Code 7, <s> déjà vu \uD83D\uDE00.\n", true);
      tokenizer.decode(encoded, false);
      if (tokenizer.chatTemplate() != null) {
        try {
          tokenizer.encodeChat(List.of(ChatMessage.of("user", "Hi.")), true, Map.of());
        } catch (IllegalArgumentException template) {
          assertThat(template.getMessage()).isNotBlank(); // a template that fails says why
        }
      }
    }
  }

  private record Change(String what, byte[] bytes) {}

  private static Change change(String name, byte[] file, Random random) throws IOException {
    boolean text = name.endsWith(".json");
    if (random.nextInt(4) == 0) {
      return damaged(file, random);
    }
    if (text) {
      JsonNode tree = JSON.readTree(file);
      String what = edit(tree, random);
      return new Change(what, bytes(tree));
    }
    int length = (int) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong();
    JsonNode header = JSON.readTree(Arrays.copyOfRange(file, 8, 8 + length));
    String what = edit(header, random);
    byte[] edited = bytes(header);
    byte[] data = Arrays.copyOfRange(file, 8 + length, file.length);
    ByteBuffer whole =
        ByteBuffer.allocate(8 + edited.length + data.length).order(ByteOrder.LITTLE_ENDIAN);
    return new Change(what, whole.putLong(edited.length).put(edited).put(data).array());
  }

  /// Bytes flipped, overwritten, cut off, cut out or said twice.
  private static Change damaged(byte[] file, Random random) {
    byte[] bytes = file.clone();
    int head = Math.min(bytes.length, random.nextBoolean() ? bytes.length : 4096);
    int at = random.nextInt(head);
    int count = Math.min(1 + random.nextInt(40), bytes.length - at);
    return switch (random.nextInt(5)) {
      case 0 -> {
        bytes[at] ^= (byte) (1 << random.nextInt(8));
        yield new Change("bit flipped in byte " + at, bytes);
      }
      case 1 -> {
        for (int i = 0; i < count; i++) {
          bytes[at + i] = (byte) random.nextInt();
        }
        yield new Change(count + " random bytes from " + at, bytes);
      }
      case 2 -> new Change("cut to " + at + " bytes", Arrays.copyOf(bytes, at));
      case 3 ->
          new Change(
              count + " bytes cut out at " + at, joined(bytes, 0, at, at + count, bytes.length));
      default ->
          new Change(
              count + " bytes twice at " + at, joined(bytes, 0, at + count, at, bytes.length));
    };
  }

  private static byte[] joined(byte[] bytes, int from, int to, int again, int end) {
    byte[] joined = new byte[to - from + end - again];
    System.arraycopy(bytes, from, joined, 0, to - from);
    System.arraycopy(bytes, again, joined, to - from, end - again);
    return joined;
  }

  /// Changes one place of a tree: another value, nothing, or the value of another place.
  private static String edit(JsonNode tree, Random random) {
    List<JsonNode> parents = new ArrayList<>();
    collect(tree, parents);
    JsonNode parent = parents.get(random.nextInt(parents.size()));
    if (parent instanceof ObjectNode object) {
      List<String> keys = new ArrayList<>();
      object.fieldNames().forEachRemaining(keys::add);
      String key = keys.get(random.nextInt(keys.size()));
      if (random.nextInt(5) == 0) {
        object.remove(key);
        return "no " + key;
      }
      JsonNode value = value(tree, parents, random);
      object.set(key, value);
      return key + " = " + shown(value);
    }
    ArrayNode array = (ArrayNode) parent;
    int at = random.nextInt(array.size());
    if (random.nextInt(5) == 0) {
      array.remove(at);
      return "element " + at + " removed";
    }
    JsonNode value = value(tree, parents, random);
    array.set(at, value);
    return "element " + at + " = " + shown(value);
  }

  private static String shown(JsonNode value) {
    String text = value.toString();
    return text.length() <= 80 ? text : text.substring(0, 80) + "...";
  }

  /// Objects and arrays that hold something.
  private static void collect(JsonNode node, List<JsonNode> parents) {
    if (node.isContainerNode() && !node.isEmpty()) {
      parents.add(node);
      node.forEach(child -> collect(child, parents));
    }
  }

  private static JsonNode value(JsonNode tree, List<JsonNode> parents, Random random) {
    return switch (random.nextInt(19)) {
      case 0 -> NODES.nullNode();
      case 1 -> NODES.numberNode(0);
      case 2 -> NODES.numberNode(-1);
      case 3 -> NODES.numberNode(Integer.MAX_VALUE);
      case 4 -> NODES.numberNode(Long.MAX_VALUE);
      case 5 -> NODES.numberNode(1e300);
      case 6 -> NODES.numberNode(Double.NaN);
      case 7 -> NODES.numberNode(Double.NEGATIVE_INFINITY);
      case 8 -> NODES.numberNode(random.nextInt(100));
      case 9 -> NODES.numberNode(random.nextDouble());
      case 10 -> NODES.booleanNode(random.nextBoolean());
      case 11 -> NODES.textNode("");
      case 12 -> NODES.textNode("../../etc/passwd");
      case 13 -> NODES.textNode("\u0000\uD83D\uDE00 {{ [ %s");
      case 14 -> NODES.textNode("x".repeat(100_000));
      case 15 -> NODES.objectNode();
      case 16 -> NODES.arrayNode();
      case 17 -> NODES.textNode(NESTED);
      default -> {
        JsonNode other = parents.get(random.nextInt(parents.size()));
        yield other.size() < 50 && other != tree ? other.deepCopy() : NODES.numberNode(1);
      }
    };
  }

  private static byte[] bytes(JsonNode tree) throws IOException {
    String deep = "[".repeat(3000) + "]".repeat(3000); // deeper than a tree can be written
    return JSON.writeValueAsString(tree)
        .replace('"' + NESTED + '"', deep)
        .getBytes(StandardCharsets.UTF_8);
  }

  /// The files of a golden model, without the expected values beside them.
  private static Map<String, byte[]> files(String family) throws IOException {
    Path golden =
        Path.of(
            URI.create(
                Objects.requireNonNull(HostileModelsTest.class.getResource("/goldens/" + family))
                    .toString()));
    Map<String, byte[]> files = new TreeMap<>();
    try (Stream<Path> list = Files.list(golden)) {
      for (Path file : list.toList()) {
        String name = file.getFileName().toString();
        if (name.startsWith("model")
            || name.equals("config.json")
            || name.equals("tokenizer.json")
            || name.equals("tokenizer_config.json")) {
          files.put(name, Files.readAllBytes(file));
        }
      }
    }
    files.put(
        "generation_config.json",
        "{\"eos_token_id\": [1, 2], \"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.9}"
            .getBytes(StandardCharsets.UTF_8));
    return files;
  }

  private static long allocatedBytes() {
    return ((com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean())
        .getCurrentThreadAllocatedBytes();
  }
}
