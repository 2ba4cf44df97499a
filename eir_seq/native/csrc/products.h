// Products of small matrices that lie in the caches, by blocks of registers.
#pragma once

#include <algorithm>
#include <utility>

#include "vectors.h"

namespace eir_seq {

#ifdef __AVX512F__  // 32 registers of 16 lanes
constexpr int MOST_VECTORS = 4;
constexpr int most_rows(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#else  // a vector of 16 lanes takes several registers
constexpr int MOST_VECTORS = 1;
constexpr int most_rows(int) { return 6; }
#endif

// C (ROWS, VECTORS x 16) [+]= A (ROWS, depth) B (depth, VECTORS x 16). A lies in memory by rows of LDA numbers, or, if
// TRANSPOSED, by columns.
template <int ROWS, int VECTORS, bool TRANSPOSED, int LDA>
inline void block(int64_t depth, const float* a, const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  vfloat sums[ROWS][VECTORS];
#pragma GCC unroll 12
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; ++j) sums[i][j] = add ? load(c + i * ldc + j * LANES) : vfloat{};
  for (int64_t k = 0; k < depth; ++k) {
    vfloat row[VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; ++j) row[j] = load(b + j * LANES);
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
      const vfloat factor = all(a[TRANSPOSED ? i : i * LDA]);
#pragma GCC unroll 4
      for (int j = 0; j < VECTORS; ++j) sums[i][j] += factor * row[j];
    }
    a += TRANSPOSED ? LDA : 1;
    b += ldb;
  }
#pragma GCC unroll 12
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; ++j) store(c + i * ldc + j * LANES, sums[i][j]);
}

template <int VECTORS, bool TRANSPOSED, int LDA, int... ROWS>
inline void last_rows(
    std::integer_sequence<int, ROWS...>, int64_t rows, int64_t depth, const float* a, const float* b, int64_t ldb,
    float* c, int64_t ldc, bool add) {
  const bool done =
      ((rows == ROWS && (block<std::max(ROWS, 1), VECTORS, TRANSPOSED, LDA>(depth, a, b, ldb, c, ldc, add), true)) || ...);
  (void)done;
}

template <int VECTORS, bool TRANSPOSED, int LDA>
inline void panel(
    int64_t rows, int64_t depth, const float* a, const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  constexpr int STEP = most_rows(VECTORS);
  int64_t i = 0;
  for (; i + STEP <= rows; i += STEP)
    block<STEP, VECTORS, TRANSPOSED, LDA>(depth, a + i * (TRANSPOSED ? 1 : LDA), b, ldb, c + i * ldc, ldc, add);
  if (i < rows)
    last_rows<VECTORS, TRANSPOSED, LDA>(
        std::make_integer_sequence<int, STEP>{}, rows - i, depth, a + i * (TRANSPOSED ? 1 : LDA), b, ldb, c + i * ldc,
        ldc, add);
}

// C (rows, vectors x 16) [+]= A (rows, depth) B (depth, vectors x 16), see `block`.
template <bool TRANSPOSED, int LDA>
void product(
    int64_t rows, int64_t vectors, int64_t depth, const float* a, const float* b, int64_t ldb, float* c, int64_t ldc,
    bool add) {
  for (int64_t left = (vectors + MOST_VECTORS - 1) / MOST_VECTORS; left > 0; --left) {
    const int64_t count = (vectors + left - 1) / left;
    switch (count) {
#ifdef __AVX512F__
      case 4: panel<4, TRANSPOSED, LDA>(rows, depth, a, b, ldb, c, ldc, add); break;
      case 3: panel<3, TRANSPOSED, LDA>(rows, depth, a, b, ldb, c, ldc, add); break;
      case 2: panel<2, TRANSPOSED, LDA>(rows, depth, a, b, ldb, c, ldc, add); break;
#endif
      default: panel<1, TRANSPOSED, LDA>(rows, depth, a, b, ldb, c, ldc, add);
    }
    vectors -= count;
    b += count * LANES;
    c += count * LANES;
  }
}

}  // namespace eir_seq
