// Products of a weight with few rows, which cost as much as reading the weight once: it is read as it is, row by row.
#pragma once

#include <algorithm>

#include <ATen/Parallel.h>

#include "vectors.h"

namespace eir_seq {

#ifdef __AVX512F__
constexpr int SUMS = 16;  // that registers hold at once
#else
constexpr int SUMS = 4;
#endif
constexpr int SHARING = std::min(8, SUMS);    // rows that share a load of the weight
constexpr int64_t AHEAD = 2048;               // numbers of a weight, from those in use to those that are prefetched
constexpr int64_t WORTH = 1 << 16;            // multiplications from which on a thread is worth its start

// The sum over the lanes of vector i in lane i.
inline vfloat sums(vfloat (&x)[LANES]) {
#define EIR_SEQ_HALVE(step, low, high) \
  for (int i = 0; i < step; ++i) x[i] = __builtin_shuffle(x[i], x[i + step], low) + __builtin_shuffle(x[i], x[i + step], high);
#pragma GCC unroll 8
  EIR_SEQ_HALVE(8, LOW8, HIGH8)
#pragma GCC unroll 4
  EIR_SEQ_HALVE(4, LOW4, HIGH4)
#pragma GCC unroll 2
  EIR_SEQ_HALVE(2, LOW2, HIGH2)
  EIR_SEQ_HALVE(1, LOW1, HIGH1)
#undef EIR_SEQ_HALVE
  return x[0];
}

// Rows of numbers; `step`: from one to the next.
struct Rows {
  float* data;
  int64_t step, count;

  float* row(int64_t r) const { return data + std::min(r, count - 1) * step; }
};

// Columns from `begin` to `end` of y = x W^T + b for R rows from `first` on; x has a multiple of 16 columns.
template <int R>
void product_of(
    const Rows& x, const Rows& weight, const float* bias, const Rows& y, int64_t width, int64_t first, int64_t begin,
    int64_t end) {
  constexpr int C = LANES / R, PART = SUMS / R;  // columns at once, and in registers at once
  const float* from[R];
  for (int r = 0; r < R; ++r) from[r] = x.row(first + r);
  const bool ahead = first == 0;  // later rows find the weight in the cache
  const int real = static_cast<int>(std::min<int64_t>(R, x.count - first));
  for (int64_t column = begin; column < end; column += C) {
    vfloat found[LANES];
    for (int part = 0; part < C; part += PART) {
      const float* w[PART];
      for (int c = 0; c < PART; ++c) w[c] = weight.row(column + part + c);
      vfloat total[R][PART] = {};
      for (int64_t k = 0; k < width; k += LANES) {
        vfloat other[PART];
#pragma GCC unroll 16
        for (int c = 0; c < PART; ++c) {
          other[c] = load(w[c] + k);
          if (ahead) __builtin_prefetch(w[c] + k + AHEAD);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const vfloat own = load(from[r] + k);
#pragma GCC unroll 16
          for (int c = 0; c < PART; ++c) total[r][c] += own * other[c];
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < PART; ++c) found[r * C + part + c] = total[r][c];
    }
    float out[LANES];
    store(out, sums(found));
    const int columns = static_cast<int>(std::min<int64_t>(C, end - column));
    if (bias)
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < R; ++r) out[r * C + c] += bias[column + c];
    for (int r = 0; r < real; ++r) {
      float* to = y.row(first + r) + column;
      if (columns == C)
        std::memcpy(to, out + r * C, C * sizeof(float));  // of a size that the compiler knows
      else
        std::copy_n(out + r * C, columns, to);
    }
  }
}

// y = x W^T + b. Each number is computed alike whatever the number of threads.
inline void product(const Rows& x, const Rows& weight, const float* bias, const Rows& y, int64_t width) {
  constexpr int64_t BLOCK = 2 * LANES;  // columns of a block, whose weights stay in the cache for all rows
  const int64_t columns = weight.count, blocks = (columns + BLOCK - 1) / BLOCK;
  const int64_t grain = std::max<int64_t>(1, WORTH / (BLOCK * width));
  at::parallel_for(0, blocks, grain, [&](int64_t first_block, int64_t last_block) {
    for (int64_t block = first_block; block < last_block; ++block) {
      const int64_t begin = block * BLOCK, end = std::min(columns, begin + BLOCK);
      for (int64_t row = 0; row < x.count;) {
        const int64_t left = x.count - row;
        if (left > 4 && SHARING > 4) {
          product_of<SHARING>(x, weight, bias, y, width, row, begin, end);
          row += SHARING;
        } else if (left > 2) {
          product_of<4>(x, weight, bias, y, width, row, begin, end);
          row += 4;
        } else if (left > 1) {
          product_of<2>(x, weight, bias, y, width, row, begin, end);
          row += 2;
        } else {
          product_of<1>(x, weight, bias, y, width, row, begin, end);
          row += 1;
        }
      }
    }
  });
}

}  // namespace eir_seq
