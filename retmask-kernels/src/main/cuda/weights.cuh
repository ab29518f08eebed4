// Matrices of weights as products read them. A type of weight is a struct that says how a row lies in
// bytes and decodes it in two ways:
//
//   fetch, decode   four neighbouring elements, loaded first and widened later
//   unit            a run of UNIT elements by four lanes, each two of every eight neighbours
//
// The values are those of to_float and of blocks.cuh.
#pragma once
#include "blocks.cuh"

// --- float types ------------------------------------------------------------------------------------

// Two neighbouring elements, widened; p is a multiple of their bytes.
__device__ __forceinline__ float2 pair_at(const float* p) { return *(const float2*)p; }
template <class E>
__device__ __forceinline__ float2 pair_at(const E* p) {
  const Pack<E, 2> pair = *(const Pack<E, 2>*)p;
  return make_float2(to_float(pair.at[0]), to_float(pair.at[1]));
}

template <class E>
struct FloatWeight {
  static constexpr int BLOCK = 1, BLOCK_BYTES = sizeof(E);  // elements that share bytes
  static constexpr int UNIT = 8, UNIT_BYTES = 8 * sizeof(E);
  // The ring of few_rows: STAGES stages of STAGE units, rows of a stage STRIDE bytes apart, so that
  // pairs of eight rows fall into different banks.
  static constexpr int STAGE = 256 / UNIT_BYTES, STAGES = 6, STRIDE = 256 + UNIT_BYTES;
  typedef Pack<E, 4> Quad;

  // Elements [at, at + 4) of a row of `columns`, zeros beyond it. `wide`: the row begins at a multiple
  // of four elements.
  static __device__ __forceinline__ Quad fetch(
      const unsigned char* row, int at, int columns, bool wide) {
    return load_pack<4>((const E*)row, at, columns, wide);
  }

  static __device__ __forceinline__ void decode(float (&to)[4], const Quad& quad) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      to[i] = to_float(quad.at[i]);
    }
  }

  // Calls step(s, w0, w1) with elements 8 s + 2 part and the next, s ascending.
  template <class Step>
  static __device__ __forceinline__ void unit(const unsigned char* from, int part, Step step) {
    const float2 w = pair_at((const E*)from + 2 * part);
    step(0, w.x, w.y);
  }
};

typedef FloatWeight<float> F32Weight;
typedef FloatWeight<bf16> Bf16Weight;
typedef FloatWeight<f16> F16Weight;

// --- block types ------------------------------------------------------------------------------------

// Two and four bytes at an even address.
__device__ __forceinline__ unsigned bytes2_at(const unsigned char* p) {
  return *(const unsigned short*)p;
}
__device__ __forceinline__ unsigned bytes4_at(const unsigned char* p) {
  return bytes2_at(p) | bytes2_at(p + 2) << 16;
}

__device__ __forceinline__ int signed_byte(unsigned word, int i) {
  return (signed char)(word >> 8 * i);
}

// The F16 in the low half of a word.
__device__ __forceinline__ float half_of(unsigned word) {
  return to_float(__ushort_as_half((unsigned short)word));
}

struct Q8_0Weight {
  static constexpr int BLOCK = 32, BLOCK_BYTES = 34;
  static constexpr int UNIT = 32, UNIT_BYTES = 34;
  static constexpr int STAGE = 8, STAGES = 5, STRIDE = 304;
  struct Quad {
    unsigned q;
    float d;
  };

  static __device__ __forceinline__ Quad fetch(
      const unsigned char* row, int at, int columns, bool) {
    if (at >= columns) {
      return {0, 0.f};
    }
    const unsigned char* block = row + at / 32 * 34;
    return {bytes4_at(block + 2 + at % 32), half_at(block)};
  }

  static __device__ __forceinline__ void decode(float (&to)[4], const Quad& quad) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      to[i] = quad.d * signed_byte(quad.q, i);
    }
  }

  template <class Step>
  static __device__ __forceinline__ void unit(const unsigned char* from, int part, Step step) {
    const float d = half_at(from);
#pragma unroll
    for (int s = 0; s < 4; s++) {
      const unsigned q = bytes2_at(from + 2 + 8 * s + 2 * part);
      step(s, d * signed_byte(q, 0), d * signed_byte(q, 1));
    }
  }
};

struct Q4_0Weight {
  static constexpr int BLOCK = 32, BLOCK_BYTES = 18;
  static constexpr int UNIT = 32, UNIT_BYTES = 18;
  static constexpr int STAGE = 8, STAGES = 6, STRIDE = 176;
  struct Quad {
    unsigned q;
    int shift;
    float d;
  };

  static __device__ __forceinline__ Quad fetch(
      const unsigned char* row, int at, int columns, bool) {
    if (at >= columns) {
      return {0, 0, 0.f};
    }
    const unsigned char* block = row + at / 32 * 18;
    return {bytes4_at(block + 2 + at % 16), at % 32 / 16 * 4, half_at(block)};
  }

  static __device__ __forceinline__ void decode(float (&to)[4], const Quad& quad) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      to[i] = quad.d * ((int)(quad.q >> (8 * i + quad.shift) & 15) - 8);
    }
  }

  template <class Step>
  static __device__ __forceinline__ void unit(const unsigned char* from, int part, Step step) {
    const float d = half_at(from);
    const unsigned q[2] = {bytes2_at(from + 2 + 2 * part), bytes2_at(from + 10 + 2 * part)};
#pragma unroll
    for (int s = 0; s < 4; s++) {
      const unsigned both = q[s % 2] >> s / 2 * 4;
      step(s, d * ((int)(both & 15) - 8), d * ((int)(both >> 8 & 15) - 8));
    }
  }
};

struct Q4_KWeight {
  static constexpr int BLOCK = 256, BLOCK_BYTES = 144;
  static constexpr int UNIT = 256, UNIT_BYTES = 144;
  static constexpr int STAGE = 1, STAGES = 6, STRIDE = 144;
  struct Quad {
    uint4 head;
    unsigned q;
    int group;
  };

  static __device__ __forceinline__ Quad fetch(
      const unsigned char* row, int at, int columns, bool) {
    if (at >= columns) {
      return {make_uint4(0, 0, 0, 0), 0, 0};
    }
    const unsigned char* block = row + at / 256 * 144;
    const int group = at % 256 / 32;
    const unsigned q = *(const unsigned*)(block + 16 + group / 2 * 32 + at % 32);
    return {*(const uint4*)block, q, group};
  }

  static __device__ __forceinline__ void decode(float (&to)[4], const Quad& quad) {
    float scale;
    float offset;
    group(scale, offset, quad.head, quad.group);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      to[i] = scale * (int)(quad.q >> (8 * i + quad.group % 2 * 4) & 15) - offset;
    }
  }

  template <class Step>
  static __device__ __forceinline__ void unit(const unsigned char* from, int part, Step step) {
    const uint4 head = *(const uint4*)from;
#pragma unroll 1
    for (int pair = 0; pair < 4; pair++) {
      float scale[2];
      float offset[2];
      group(scale[0], offset[0], head, 2 * pair);
      group(scale[1], offset[1], head, 2 * pair + 1);
      unsigned q[4];
#pragma unroll
      for (int t = 0; t < 4; t++) {
        q[t] = bytes2_at(from + 16 + 32 * pair + 8 * t + 2 * part);
      }
#pragma unroll
      for (int t = 0; t < 8; t++) {
        const unsigned both = q[t % 4] >> t / 4 * 4;
        const float s = scale[t / 4];
        step(8 * pair + t, s * (int)(both & 15) - offset[t / 4],
             s * (int)(both >> 8 & 15) - offset[t / 4]);
      }
    }
  }

  // Scale and offset of a group of 32, from the first 16 bytes of a block: d, e and the packed ones.
  static __device__ __forceinline__ void group(
      float& scale, float& offset, const uint4& head, int group) {
    const int shift = group % 4 * 8;
    unsigned s;
    unsigned m;
    if (group < 4) {
      s = head.y >> shift & 63;
      m = head.z >> shift & 63;
    } else {
      s = (head.w >> shift & 15) | (head.y >> shift & 192) >> 2;
      m = (head.w >> shift >> 4 & 15) | (head.z >> shift & 192) >> 2;
    }
    scale = half_of(head.x) * (int)s;
    offset = half_of(head.x >> 16) * (int)m;
  }
};

struct Q6_KWeight {
  static constexpr int BLOCK = 256, BLOCK_BYTES = 210;
  static constexpr int UNIT = 256, UNIT_BYTES = 210;
  static constexpr int STAGE = 1, STAGES = 6, STRIDE = 240;
  struct Quad {
    unsigned low, high;
    int quarter, scale;
    float d;
  };

  static __device__ __forceinline__ Quad fetch(
      const unsigned char* row, int at, int columns, bool) {
    if (at >= columns) {
      return {0, 0, 0, 0, 0.f};
    }
    const unsigned char* block = row + at / 256 * 210;
    const int half = at % 256 / 128;
    const int quarter = at % 128 / 32;
    return {bytes4_at(block + half * 64 + quarter % 2 * 32 + at % 32),
            bytes4_at(block + 128 + half * 32 + at % 32), quarter,
            (signed char)block[192 + at % 256 / 16], half_at(block + 208)};
  }

  static __device__ __forceinline__ void decode(float (&to)[4], const Quad& quad) {
    const float scale = quad.d * quad.scale;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      to[i] = scale * integer(quad.low >> 8 * i, quad.high >> 8 * i, quad.quarter);
    }
  }

  template <class Step>
  static __device__ __forceinline__ void unit(const unsigned char* from, int part, Step step) {
    const float d = half_at(from + 208);
#pragma unroll 1
    for (int pair = 0; pair < 4; pair++) {  // of quarters, whose low bits lie in the same half-bytes
      const int half = pair / 2;
      const unsigned char* at = from + 2 * part;
      unsigned low[8];
      unsigned high[4];
#pragma unroll
      for (int t = 0; t < 8; t++) {
        low[t] = bytes2_at(at + 64 * half + 8 * t) >> pair % 2 * 4;
      }
#pragma unroll
      for (int t = 0; t < 4; t++) {
        high[t] = bytes2_at(at + 128 + 32 * half + 8 * t) >> pair % 2 * 4;
      }
#pragma unroll
      for (int s = 0; s < 8; s++) {
        const float scale = d * (signed char)from[192 + 4 * pair + s / 2];
        step(8 * pair + s, scale * integer(low[s], high[s % 4], s / 4),
             scale * integer(low[s] >> 8, high[s % 4] >> 8, s / 4));
      }
    }
  }

  // The 6-bit integer less 32, from the byte that holds its low bits and the one with its high bits.
  static __device__ __forceinline__ int integer(unsigned low, unsigned high, int quarter) {
    return (int)((low >> quarter / 2 * 4 & 15) | (high >> 2 * quarter & 3) << 4) - 32;
  }
};
