// Products of bfloat16 with sums in float32 by AMX: tiles of 16 x 16 sums, and the layouts in memory that they are made of.
//
// A left tile has 16 rows of 32 numbers along the depth. A right tile has 16 columns: its row i holds the numbers 2 i and
// 2 i + 1 along the depth of each column side by side. So a right tile is a left one with pairs of numbers transposed.
#pragma once

#include <algorithm>

#include <ATen/cpu/Utils.h>

#include "vectors.h"

namespace eir_seq {

constexpr int64_t SIDE = 16, DEPTH = 32, TILE = SIDE * DEPTH;  // rows or columns of a tile, its depth, its numbers
constexpr int64_t PAIR = 2 * SIDE;                             // rows and columns of what is multiplied at a time

inline int64_t steps_of(int64_t depth) { return (depth + DEPTH - 1) / DEPTH; }
inline int64_t pairs_of(int64_t count) { return (count + PAIR - 1) / PAIR; }

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__)

// Whether the system lets this process use the tiles.
inline bool has_amx() {
  static const bool served = at::cpu::init_amx();
  return served;
}

// While it lives, the tiles of this thread have 16 rows of 64 bytes.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, unused[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
    } config;
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  void clear() const {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  // Adds the product of 32 rows and 32 columns. `a`, `a_below`: of the first and of the other 16 rows; `a_stride`: bytes
  // between rows; `a_step`: numbers between tiles along the depth. `b`, `b_beside`: right tiles one after the other.
  void add(
      const c10::BFloat16* a, const c10::BFloat16* a_below, int64_t a_stride, int64_t a_step, const c10::BFloat16* b,
      const c10::BFloat16* b_beside, int64_t steps) const {
    for (int64_t step = 0; step < steps; ++step) {
      _tile_loadd(4, a, a_stride);
      _tile_loadd(6, b, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b_beside, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a_below, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      a += a_step;
      a_below += a_step;
      b += TILE;
      b_beside += TILE;
    }
  }

  // Sums that were stored.
  void load(const float* from) const {
    _tile_loadd(0, from, PAIR * sizeof(float));
    _tile_loadd(1, from + SIDE, PAIR * sizeof(float));
    _tile_loadd(2, from + SIDE * PAIR, PAIR * sizeof(float));
    _tile_loadd(3, from + SIDE * PAIR + SIDE, PAIR * sizeof(float));
  }

  // The sums, row by row.
  void store(float* to) const {
    _tile_stored(0, to, PAIR * sizeof(float));
    _tile_stored(1, to + SIDE, PAIR * sizeof(float));
    _tile_stored(2, to + SIDE * PAIR, PAIR * sizeof(float));
    _tile_stored(3, to + SIDE * PAIR + SIDE, PAIR * sizeof(float));
  }
};

inline uint32_t first_bits(int64_t count, int64_t most) {
  return static_cast<uint32_t>((uint64_t{1} << std::min(std::max<int64_t>(count, 0), most)) - 1);
}

// Up to 16 or 32 numbers in bfloat16, the rest zero.
inline __m256i up_to_16(const c10::BFloat16* from, __mmask16 mask) { return _mm256_maskz_loadu_epi16(mask, from); }
inline __m256i up_to_16(const float* from, __mmask16 mask) {
  return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from));
}
inline __m512i up_to_32(const c10::BFloat16* from, int64_t count) {
  return _mm512_maskz_loadu_epi16(first_bits(count, 32), from);
}
inline __m512i up_to_32(const float* from, int64_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(count, 16)), from);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(count - 16, 16)), from + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// As `widened`, in fewer instructions.
inline vfloat widened_16(const c10::BFloat16* from) {
  return (vfloat)_mm512_slli_epi32(_mm512_cvtepu16_epi32(up_to_16(from, 0xffff)), 16);
}
inline vfloat interleaved(__m256i even, __m256i odd) {
  return (vfloat)_mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

inline void put(const vfloat& row, c10::BFloat16* to) { _mm512_storeu_ps(to, (__m512)row); }
inline void put(vfloat (&rows)[SIDE], bool transposed, c10::BFloat16* to) {
  if (transposed) transpose(rows);
  for (int64_t i = 0; i < SIDE; ++i) put(rows[i], to + i * DEPTH);
}

// A tile of numbers that lie side by side along the depth, zeros where there are none.
template <class T>
inline void pack_along(const T* from, int64_t stride, int64_t sides, int64_t depth, bool right, c10::BFloat16* to) {
  vfloat rows[SIDE] = {};
  for (int64_t i = 0; i < std::min(sides, SIDE); ++i) rows[i] = (vfloat)up_to_32(from + i * stride, depth);
  put(rows, right, to);
}

// A tile of numbers that lie one below the other along the depth.
template <class T>
inline void pack_across(const T* from, int64_t stride, int64_t sides, int64_t depth, bool right, c10::BFloat16* to) {
  const auto mask = static_cast<__mmask16>(first_bits(sides, SIDE));
  if (right && depth >= DEPTH) {
    for (int64_t i = 0; i < SIDE; ++i, from += 2 * stride)
      put(interleaved(up_to_16(from, mask), up_to_16(from + stride, mask)), to + i * DEPTH);
    return;
  }
  vfloat rows[SIDE] = {};
  for (int64_t i = 0; 2 * i < std::min(depth, DEPTH); ++i, from += 2 * stride)
    rows[i] = interleaved(up_to_16(from, mask), 2 * i + 1 < depth ? up_to_16(from + stride, mask) : __m256i{});
  put(rows, !right, to);
}

// Up to 32 sums to memory.
inline void put_sums(vfloat low, vfloat high, int64_t count, float* to) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(first_bits(count, 16)), (__m512)low);
  _mm512_mask_storeu_ps(to + LANES, static_cast<__mmask16>(first_bits(count - LANES, 16)), (__m512)high);
}
inline void put_sums(vfloat low, vfloat high, int64_t count, c10::BFloat16* to) {
  _mm512_mask_storeu_epi16(to, first_bits(count, 32), (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

#define EIR_SEQ_AMX 1
#endif

}  // namespace eir_seq
