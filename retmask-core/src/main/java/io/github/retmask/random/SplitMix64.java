package io.github.retmask.random;

import java.nio.charset.StandardCharsets;

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014;
/// reference code `splitmix64.c` by Sebastiano Vigna): a 64-bit counter that advances by the golden
/// ratio, and a bijective finaliser.
///
/// Output number i is a function of (seed, i) alone, so besides drawing in order ([#next()]) any
/// output can be addressed directly ([#at], [#mix]). Sampling noise is addressed this way by
/// (seed, record, position, token): batch composition, thread count and resume points cannot change
/// it.
///
/// Everything built on it is specified here, bit for bit: bounded integers, subsets, uniform reals.
public final class SplitMix64 {
  private static final long GOLDEN_GAMMA = 0x9e3779b97f4a7c15L;

  private long state;

  public SplitMix64(long seed) {
    this.state = seed;
  }

  /// The next 64 bits of the stream.
  public long next() {
    state += GOLDEN_GAMMA;
    return finish(state);
  }

  /// A uniform integer in [0, bound): the high word of the 128-bit product of 64 random bits and
  /// the bound; products whose low word falls below 2^64 mod bound are drawn again (Lemire, "Fast
  /// random integer generation in an interval", 2019).
  ///
  /// @throws IllegalArgumentException when `bound` is below 1
  public int nextInt(int bound) {
    if (bound < 1) {
      throw new IllegalArgumentException("random integer below " + bound + ": want at least 1");
    }
    long rejected = Long.remainderUnsigned(-(long) bound, bound);
    while (true) {
      long bits = next();
      if (Long.compareUnsigned(bits * bound, rejected) >= 0) {
        return (int) Math.unsignedMultiplyHigh(bits, bound);
      }
    }
  }

  /// A uniform real in (0, 1), from the next 64 bits.
  public double nextDouble() {
    return toOpenDouble(next());
  }

  /// `count` different integers of [0, n), in the order drawn: the first `count` steps of a
  /// Fisher-Yates shuffle of 0, 1, … n-1 that swaps entry i with entry i + nextInt(n - i). With
  /// `count` = n a permutation.
  ///
  /// @throws IllegalArgumentException when there are fewer than `count` integers
  public int[] sample(int n, int count) {
    if (count < 0 || count > n) {
      throw new IllegalArgumentException("sample of " + count + " from " + n);
    }
    int[] items = new int[n];
    for (int i = 0; i < n; i++) {
      items[i] = i;
    }
    int[] drawn = new int[count];
    for (int i = 0; i < count; i++) {
      int j = i + nextInt(n - i);
      drawn[i] = items[j];
      items[j] = items[i];
    }
    return drawn;
  }

  /// Output number `index` (from 0) of the stream that starts at `seed`. For one seed, different
  /// indices give different outputs.
  public static long at(long seed, long index) {
    return finish(seed + (index + 1) * GOLDEN_GAMMA);
  }

  /// 64 bits for the address (seed, a, b, c): `at(at(at(seed, a), b), c)`. Stateless; addresses that
  /// differ in c alone never collide.
  public static long mix(long seed, long a, long b, long c) {
    return at(at(at(seed, a), b), c);
  }

  /// A 64-bit key for a name, such as a record id: FNV-1a over its UTF-8 bytes, then the finaliser.
  public static long key(String name) {
    long hash = 0xcbf29ce484222325L;
    for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
      hash = (hash ^ (b & 0xff)) * 0x100000001b3L;
    }
    return finish(hash);
  }

  /// A real in (0, 1), never an end: the upper 52 bits as k, then (k + 1/2) / 2^52, which is exact.
  public static double toOpenDouble(long bits) {
    return ((bits >>> 12) + 0.5) * 0x1p-52;
  }

  /// A real in (0, 1), never an end: the upper 23 bits as k, then (k + 1/2) / 2^23, which is exact.
  public static float toOpenFloat(long bits) {
    return ((bits >>> 41) + 0.5f) * 0x1p-23f;
  }

  private static long finish(long z) {
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }
}
