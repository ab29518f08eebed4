package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import io.github.retmask.io.SafeTensors.Entry;
import io.github.retmask.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import org.jspecify.annotations.Nullable;

/// The header of a safetensors file, checked against the file's length. What is allowed follows the
/// reference reader (`Metadata::validate` in safetensors/src/tensor.rs): tensors sorted by offset
/// cover the data exactly. Memory use is bounded by a small multiple of the header's real length.
///
/// @param metadata `__metadata__`, in file order
/// @param entries tensors in the order of their data
/// @param dataStart byte at which the first tensor begins
record SafeTensorsHeader(
    SequencedMap<String, String> metadata, SequencedMap<String, Entry> entries, long dataStart) {

  static final String METADATA = "__metadata__";

  private static final ValueLayout.OfLong LENGTH =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final int MAX_RANK = 64; // torch's limit; keeps a list of a million extents out

  private static final JsonFactory JSON =
      JsonFactory.builder()
          // Names from broken files must not fill tables that live as long as the JVM.
          .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .build();

  /// Reads and checks the header of `file`, whose whole content is `mapped`.
  static SafeTensorsHeader read(Path file, MemorySegment mapped) {
    long size = mapped.byteSize();
    if (size < Long.BYTES) {
      throw new FormatException(
          "%s: %d bytes, want a safetensors file (at least 10 bytes)".formatted(file, size));
    }
    long length = mapped.get(LENGTH, 0);
    if (length < 2 || length > SafeTensors.MAX_HEADER_BYTES) {
      throw new FormatException(
          "%s: header length %s, want 2 to %d; this is no safetensors file"
              .formatted(file, Long.toUnsignedString(length), SafeTensors.MAX_HEADER_BYTES));
    }
    if (length > size - Long.BYTES) {
      throw new FormatException(
          "%s: header of %d bytes in a file of %d bytes; the file is cut short"
              .formatted(file, length, size));
    }
    Reader reader = new Reader(file);
    reader.read(mapped.asSlice(Long.BYTES, length));
    long dataStart = Long.BYTES + length;
    return new SafeTensorsHeader(reader.metadata, reader.contiguous(size - dataStart), dataStart);
  }

  /// One pass over the JSON text.
  private static final class Reader {
    final Path file;
    final SequencedMap<String, String> metadata = new LinkedHashMap<>();
    final Map<String, Entry> entries = new LinkedHashMap<>();
    boolean metadataSeen;

    Reader(Path file) {
      this.file = file;
    }

    void read(MemorySegment text) {
      CharBuffer chars;
      try {
        chars = StandardCharsets.UTF_8.newDecoder().decode(text.asByteBuffer());
      } catch (CharacterCodingException e) {
        throw new FormatException(file + ": the header is not UTF-8 text", e);
      }
      try (JsonParser json = JSON.createParser(chars.array(), 0, chars.limit())) {
        if (json.nextToken() != JsonToken.START_OBJECT) {
          throw bad("the header is not a JSON object");
        }
        while (json.nextToken() != JsonToken.END_OBJECT) {
          String name = json.currentName();
          json.nextToken();
          if (name.equals(METADATA)) {
            readMetadata(json);
          } else {
            readTensor(name, json);
          }
        }
        if (json.nextToken() != null) {
          throw bad("text after the end of the header's JSON object");
        }
      } catch (JsonProcessingException e) {
        throw new FormatException(
            "%s: the header is not JSON: %s (character %d)"
                .formatted(
                    file,
                    Json.problem(e),
                    e.getLocation() == null ? -1 : e.getLocation().getCharOffset()),
            e);
      } catch (IOException e) {
        throw new FormatException(file + ": the header is not JSON: " + e.getMessage(), e);
      }
    }

    private void readMetadata(JsonParser json) throws IOException {
      if (metadataSeen) {
        throw bad("two " + METADATA + " in the header");
      }
      metadataSeen = true;
      if (json.currentToken() != JsonToken.START_OBJECT) {
        throw bad(METADATA + " is not a JSON object");
      }
      while (json.nextToken() != JsonToken.END_OBJECT) {
        String key = json.currentName();
        if (json.nextToken() != JsonToken.VALUE_STRING) {
          throw bad("%s %s is not a string".formatted(METADATA, FormatException.quote(key)));
        }
        if (metadata.put(key, json.getText()) != null) {
          throw bad("%s has %s twice".formatted(METADATA, FormatException.quote(key)));
        }
      }
    }

    private void readTensor(String name, JsonParser json) throws IOException {
      if (json.currentToken() != JsonToken.START_OBJECT) {
        throw bad(name, "described by %s, want an object".formatted(json.currentToken()));
      }
      String dtype = null;
      long[] dims = null;
      long[] offsets = null;
      while (json.nextToken() != JsonToken.END_OBJECT) {
        String key = json.currentName();
        json.nextToken();
        switch (key) {
          case "dtype" -> dtype = once(name, key, dtype, readText(name, key, json));
          case "shape" -> dims = once(name, key, dims, readLongs(name, key, json, MAX_RANK));
          case "data_offsets" -> offsets = once(name, key, offsets, readLongs(name, key, json, 2));
          default -> json.skipChildren(); // the reference reader passes over unknown keys too
        }
      }
      Entry entry =
          entry(
              name,
              required(name, "dtype", dtype),
              required(name, "shape", dims),
              required(name, "data_offsets", offsets));
      if (entries.put(name, entry) != null) {
        throw bad(name, "described twice");
      }
    }

    private String readText(String name, String key, JsonParser json) throws IOException {
      if (json.currentToken() != JsonToken.VALUE_STRING) {
        throw bad(name, key + " is not a string");
      }
      return json.getText();
    }

    private long[] readLongs(String name, String key, JsonParser json, int most)
        throws IOException {
      if (json.currentToken() != JsonToken.START_ARRAY) {
        throw bad(name, key + " is not a list");
      }
      List<Long> values = new ArrayList<>();
      while (json.nextToken() != JsonToken.END_ARRAY) {
        boolean whole =
            json.currentToken() == JsonToken.VALUE_NUMBER_INT
                && json.getNumberType() != JsonParser.NumberType.BIG_INTEGER;
        if (!whole || json.getLongValue() < 0) {
          throw bad(
              name,
              "%s contains %s, want whole numbers from 0 to 2^63-1"
                  .formatted(key, FormatException.quote(json.getText())));
        }
        if (values.size() == most) {
          throw bad(name, "%s has more than %d numbers".formatted(key, most));
        }
        values.add(json.getLongValue());
      }
      return values.stream().mapToLong(Long::longValue).toArray();
    }

    private <T> T once(String name, String key, @Nullable T before, T value) {
      if (before != null) {
        throw bad(name, key + " given twice");
      }
      return value;
    }

    private <T> T required(String name, String key, @Nullable T value) {
      if (value == null) {
        throw bad(name, "no " + key);
      }
      return value;
    }

    private Entry entry(String name, String dtype, long[] dims, long[] offsets) {
      int bits = bits(dtype);
      if (bits == 0) {
        throw bad(name, "unknown dtype " + FormatException.quote(dtype));
      }
      if (offsets.length != 2 || offsets[0] > offsets[1]) {
        throw bad(name, "data_offsets %s, want [begin, end]".formatted(Arrays.toString(offsets)));
      }
      Shape shape;
      long wanted;
      try {
        shape = Shape.of(dims);
        wanted = Math.multiplyExact(shape.size(), bits);
      } catch (ArithmeticException e) {
        throw bad(name, "shape %s is beyond counting".formatted(Arrays.toString(dims)));
      }
      long held = offsets[1] - offsets[0];
      if (wanted % Byte.SIZE != 0 || wanted / Byte.SIZE != held) {
        String bytes = wanted % Byte.SIZE == 0 ? wanted / Byte.SIZE + " bytes" : wanted + " bits";
        throw bad(
            name,
            "%s%s takes %s, but data_offsets [%d, %d) hold %d bytes"
                .formatted(dtype, shape, bytes, offsets[0], offsets[1], held));
      }
      return new Entry(name, dtype, shape, offsets[0], offsets[1]);
    }

    /// The tensors by offset, which must cover `dataBytes` without gap or overlap.
    SequencedMap<String, Entry> contiguous(long dataBytes) {
      List<Entry> sorted = new ArrayList<>(entries.values());
      sorted.sort(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end));
      SequencedMap<String, Entry> byOffset = new LinkedHashMap<>();
      long covered = 0;
      for (Entry entry : sorted) {
        if (entry.begin() != covered) {
          throw bad(
              entry.name(),
              "data_offsets [%d, %d) %s; the tensor before it ends at %d"
                  .formatted(
                      entry.begin(),
                      entry.end(),
                      entry.begin() < covered ? "overlap another tensor" : "leave a gap",
                      covered));
        }
        if (entry.end() > dataBytes) {
          throw bad(
              entry.name(),
              "data_offsets [%d, %d) but the file has %d bytes of data; it is cut short"
                  .formatted(entry.begin(), entry.end(), dataBytes));
        }
        covered = entry.end();
        byOffset.put(entry.name(), entry);
      }
      if (covered != dataBytes) {
        throw bad("%d bytes after the last tensor".formatted(dataBytes - covered));
      }
      return byOffset;
    }

    private FormatException bad(String what) {
      return new FormatException(file + ": " + what);
    }

    private FormatException bad(String tensor, String what) {
      return new FormatException(
          "%s: tensor %s: %s".formatted(file, FormatException.quote(tensor), what));
    }
  }

  /// Bits of one element, 0 for a type that the format does not have.
  private static int bits(String dtype) {
    return switch (dtype) {
      case "F4" -> 4;
      case "F6_E2M3", "F6_E3M2" -> 6;
      case "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0" -> 8;
      case "I16", "U16", "F16", "BF16" -> 16;
      case "I32", "U32", "F32" -> 32;
      case "I64", "U64", "F64", "C64" -> 64;
      default -> 0;
    };
  }
}
