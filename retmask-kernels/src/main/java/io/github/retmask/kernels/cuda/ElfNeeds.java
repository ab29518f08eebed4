package io.github.retmask.kernels.cuda;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/// What a shared object needs of others, in a 64-bit little-endian ELF file (System V ABI, and the Linux
/// Standard Base for versions of symbols).
final class ElfNeeds {
  private static final int VERSION_NEEDS = 0x6ffffffe; // section type SHT_GNU_verneed
  private static final int SECTIONS = 0x28; // offset of e_shoff

  private ElfNeeds() {}

  /// The same object needing `to` in place of `from`, both as library and as version of the symbols
  /// that come from it. The names are equally long, so that nothing moves.
  ///
  /// @throws IllegalStateException when it does not need `from`
  static byte[] renamed(byte[] elf, String from, String to) {
    if (from.length() != to.length()) {
      throw new IllegalArgumentException(from + " and " + to + " are not equally long");
    }
    byte[] result = elf.clone();
    ByteBuffer file = ByteBuffer.wrap(result).order(ByteOrder.LITTLE_ENDIAN);
    int sections = offset(file, SECTIONS);
    int size = file.getShort(0x3a);
    int count = file.getShort(0x3c);
    boolean found = false;
    for (int s = 0; s < count; s++) {
      int section = sections + s * size;
      if (file.getInt(section + 4) == VERSION_NEEDS) {
        int names = sections + file.getInt(section + 0x28) * size; // sh_link: its string table
        int strings = offset(file, names + 0x18);
        int length = offset(file, names + 0x20);
        found |= rehash(file, offset(file, section + 0x18), strings, from, to);
        replace(result, strings, length, from, to);
      }
    }
    if (!found) {
      throw new IllegalStateException("the library does not need version " + from);
    }
    return result;
  }

  /// Verneed entries, each a library, with Vernaux entries, each a version.
  private static boolean rehash(ByteBuffer file, int needs, int strings, String from, String to) {
    boolean found = false;
    for (int need = needs, next = 1; next != 0; need += next) {
      int versions = file.getShort(need + 2);
      int version = need + file.getInt(need + 8);
      for (int v = 0; v < versions; v++) {
        if (isAt(file.array(), strings + file.getInt(version + 8), from)) {
          file.putInt(version, hash(to));
          found = true;
        }
        version += file.getInt(version + 12);
      }
      next = file.getInt(need + 12);
    }
    return found;
  }

  private static void replace(byte[] bytes, int start, int length, String from, String to) {
    byte[] name = to.getBytes(StandardCharsets.US_ASCII);
    for (int i = start; i <= start + length - name.length - 1; i++) {
      if (isAt(bytes, i, from)) {
        System.arraycopy(name, 0, bytes, i, name.length);
      }
    }
  }

  private static boolean isAt(byte[] bytes, int at, String name) {
    byte[] wanted = Arrays.copyOf(name.getBytes(StandardCharsets.US_ASCII), name.length() + 1);
    return Arrays.equals(bytes, at, at + wanted.length, wanted, 0, wanted.length);
  }

  /// The hash of symbol names that the ABI gives.
  private static int hash(String name) {
    int hash = 0;
    for (int i = 0; i < name.length(); i++) {
      hash = (hash << 4) + name.charAt(i);
      int top = hash & 0xf000_0000;
      hash = (hash ^ top >>> 24) & ~top;
    }
    return hash;
  }

  private static int offset(ByteBuffer file, int at) {
    return Math.toIntExact(file.getLong(at));
  }
}
