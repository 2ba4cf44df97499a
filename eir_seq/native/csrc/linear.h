// Products of matrices by the BLAS that torch brings, and what the gradients of linear layers share.
#pragma once

#include <optional>
#include <vector>

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include "vectors.h"

extern "C" void sgemm_(
    const char* transa, const char* transb, const int* m, const int* n, const int* k, const float* alpha, const float* a,
    const int* lda, const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace eir_seq {

// C [+]= A B with columns in memory one after the other; 'T': with rows.
inline void multiply(
    char a_order, char b_order, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
    bool add, float* c, int64_t ldc) {
  const int sizes[] = {static_cast<int>(m), static_cast<int>(n), static_cast<int>(k)};
  const int strides[] = {static_cast<int>(lda), static_cast<int>(ldb), static_cast<int>(ldc)};
  const float one = 1, beta = add ? 1.0f : 0.0f;
  sgemm_(&a_order, &b_order, &sizes[0], &sizes[1], &sizes[2], &one, a, &strides[0], b, &strides[1], &beta, c, &strides[2]);
}

inline int64_t rows_of(const at::Tensor& x) { return x.numel() / x.size(-1); }

inline void check_layer(const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat && x.dim() > 0, "x");
  TORCH_CHECK(weight.is_contiguous() && weight.scalar_type() == at::kFloat && weight.dim() == 2, "weight");
  TORCH_CHECK(weight.size(1) == x.size(-1) && x.size(-1) > 0 && weight.size(0) > 0, "weight");
}

// Sums over rows of some columns, set or added.
inline void add_rows(const float* from, int64_t rows, int64_t stride, int64_t columns, bool add, float* to) {
  int64_t c = 0;
  for (; c + LANES <= columns; c += LANES) {
    vfloat sums[4] = {};
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4)
      for (int i = 0; i < 4; ++i) sums[i] += load(from + (row + i) * stride + c);
    for (; row < rows; ++row) sums[0] += load(from + row * stride + c);
    const vfloat found = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    store(to + c, add ? load(to + c) + found : found);
  }
  for (; c < columns; ++c) {
    float sum = add ? to[c] : 0;
    for (int64_t row = 0; row < rows; ++row) sum += from[row * stride + c];
    to[c] = sum;
  }
}

using Gradients = c10::List<std::optional<at::Tensor>>;

// Undefined tensors are none.
inline Gradients gradients(const std::vector<at::Tensor>& found) {
  Gradients list;
  for (const at::Tensor& grad : found) list.push_back(grad.defined() ? std::optional<at::Tensor>(grad) : std::nullopt);
  return list;
}

}  // namespace eir_seq
