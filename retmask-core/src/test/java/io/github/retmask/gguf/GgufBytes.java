package io.github.retmask.gguf;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/// A GGUF file put together byte by byte, so that it can also be wrong.
final class GgufBytes {
  static final int UINT32 = 4;
  static final int FLOAT32 = 6;
  static final int BOOL = 7;
  static final int STRING = 8;
  static final int ARRAY = 9;

  int version = 3;
  Long tensorCount;
  Long keyCount;
  int alignment = 32;
  private final List<byte[]> keys = new ArrayList<>();
  private final List<byte[]> tensors = new ArrayList<>();
  private final ByteArrayOutputStream data = new ByteArrayOutputStream();

  static byte[] le(int bytes, long value) {
    ByteBuffer all = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(value);
    byte[] some = new byte[bytes];
    all.get(0, some);
    return some;
  }

  static byte[] join(byte[]... parts) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      all.writeBytes(part);
    }
    return all.toByteArray();
  }

  static byte[] string(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    return join(le(8, bytes.length), bytes);
  }

  GgufBytes raw(String key, int kind, byte[] value) {
    keys.add(join(string(key), le(4, kind), value));
    return this;
  }

  GgufBytes rawKey(byte[] bytes) {
    keys.add(bytes);
    return this;
  }

  GgufBytes text(String key, String value) {
    return raw(key, STRING, string(value));
  }

  GgufBytes u32(String key, long value) {
    return raw(key, UINT32, le(4, value));
  }

  GgufBytes f32(String key, float value) {
    return raw(key, FLOAT32, le(4, Float.floatToRawIntBits(value)));
  }

  GgufBytes flag(String key, boolean value) {
    return raw(key, BOOL, new byte[] {(byte) (value ? 1 : 0)});
  }

  GgufBytes texts(String key, String... values) {
    byte[] items = new byte[0];
    for (String value : values) {
      items = join(items, string(value));
    }
    return raw(key, ARRAY, join(le(4, STRING), le(8, values.length), items));
  }

  GgufBytes u32s(String key, long... values) {
    byte[] items = new byte[0];
    for (long value : values) {
      items = join(items, le(4, value));
    }
    return raw(key, ARRAY, join(le(4, UINT32), le(8, values.length), items));
  }

  GgufBytes f32s(String key, float... values) {
    byte[] items = new byte[0];
    for (float value : values) {
      items = join(items, le(4, Float.floatToRawIntBits(value)));
    }
    return raw(key, ARRAY, join(le(4, FLOAT32), le(8, values.length), items));
  }

  GgufBytes flags(String key, boolean... values) {
    byte[] items = new byte[values.length];
    for (int i = 0; i < items.length; i++) {
      items[i] = (byte) (values[i] ? 1 : 0);
    }
    return raw(key, ARRAY, join(le(4, BOOL), le(8, values.length), items));
  }

  /// Describes a tensor; extents innermost first, as in the file.
  GgufBytes described(String name, int type, long offset, long... dims) {
    byte[] extents = new byte[0];
    for (long dim : dims) {
      extents = join(extents, le(8, dim));
    }
    tensors.add(join(string(name), le(4, dims.length), extents, le(4, type), le(8, offset)));
    return this;
  }

  /// Describes a tensor and appends its bytes to the data.
  GgufBytes tensor(String name, int type, byte[] bytes, long... dims) {
    while (data.size() % alignment != 0) {
      data.write(0xee);
    }
    described(name, type, data.size(), dims);
    data.writeBytes(bytes);
    return this;
  }

  /// An F32 tensor of values 0, 1/8, 2/8, ...; extents innermost first.
  GgufBytes floats(String name, long... dims) {
    int size = 1;
    for (long dim : dims) {
      size *= (int) dim;
    }
    ByteBuffer bytes = ByteBuffer.allocate(4 * size).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < size; i++) {
      bytes.putFloat(i / 8f);
    }
    return tensor(name, 0, bytes.array(), dims);
  }

  GgufBytes data(int bytes) {
    data.writeBytes(new byte[bytes]);
    return this;
  }

  byte[] bytes() {
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    file.writeBytes("GGUF".getBytes(StandardCharsets.US_ASCII));
    file.writeBytes(le(4, version));
    file.writeBytes(le(8, tensorCount == null ? tensors.size() : tensorCount));
    file.writeBytes(le(8, keyCount == null ? keys.size() : keyCount));
    keys.forEach(file::writeBytes);
    tensors.forEach(file::writeBytes);
    while (file.size() % alignment != 0) {
      file.write(0);
    }
    file.writeBytes(data.toByteArray());
    return file.toByteArray();
  }
}
