// Activation functions with what stands around them, in one pass over memory: the bias of the linear layer before, a
// second factor (gated), dropout; gradients.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "activations.h"
#include "elementwise.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

void check_all(const Tensor& x, const optional<Tensor>& bias, const optional<Tensor>& factor) {
  check(x, "x");
  TORCH_CHECK(x.numel() % LANES == 0, "a multiple of ", LANES, " numbers");
  if (factor) {
    check(*factor, "factor");
    TORCH_CHECK(factor->sizes() == x.sizes() && factor->scalar_type() == x.scalar_type(), "factor");
  }
  if (bias) {
    TORCH_CHECK(bias->is_contiguous() && bias->scalar_type() == at::kFloat && bias->dim() == 1, "bias");
    TORCH_CHECK(x.dim() > 0 && bias->size(0) == x.size(-1) && x.size(-1) % LANES == 0, "bias");
  }
}

// Vectors of a row: all of x where there is no bias, which alone tells rows apart.
int64_t vectors_of_row(const Tensor& x, const optional<Tensor>& bias) {
  return std::max<int64_t>(1, (bias ? bias->numel() : x.numel()) / LANES);
}

constexpr int64_t MOST_CHUNKS = 64;  // each has its own sums for the gradient of a bias

// Rows of a chunk, by the shape alone.
int64_t rows_of_chunk(int64_t rows, int64_t vectors) {
  return std::max({int64_t{1}, CHUNK_VECTORS / vectors, (rows + MOST_CHUNKS - 1) / MOST_CHUNKS});
}

// dropout(f(x + bias) factor), in place of x or in new memory
void activate(
    const Tensor& x, const optional<Tensor>& bias, const optional<Tensor>& factor, c10::string_view name, double rate,
    int64_t seed, const Tensor& out) {
  check_all(x, bias, factor);
  const float* added = bias ? bias->const_data_ptr<float>() : nullptr;
  const int64_t count = x.numel() / LANES, vectors = vectors_of_row(x, bias);
  by_dtype(x, [&](auto kind) {
    using T = decltype(kind);
    const T *from = x.const_data_ptr<T>(), *by = factor ? factor->const_data_ptr<T>() : nullptr;
    T* to = out.mutable_data_ptr<T>();
    by_name(name, [&](auto f) {
      in_chunks(count, CHUNK_VECTORS, [&](int64_t, int64_t begin, int64_t end) {
        Dropout dropout(rate, seed);
        for (int64_t v = begin, column = begin % vectors; v < end; ++v) {
          vfloat z = widened(from + v * LANES);
          if (added) {
            z += load(added + column * LANES);
            if (++column == vectors) column = 0;
          }
          vfloat y = f(z).value;
          if (by) y *= widened(by + v * LANES);
          narrow(dropout(v, y), to + v * LANES);
        }
      });
    });
  });
}

Tensor activated(
    const Tensor& x, const optional<Tensor>& bias, const optional<Tensor>& factor, c10::string_view name, double rate,
    int64_t seed) {
  Tensor out = at::empty_like(x);
  activate(x, bias, factor, name, rate, seed, out);
  return out;
}

Tensor& activated_(
    Tensor& x, const optional<Tensor>& bias, const optional<Tensor>& factor, c10::string_view name, double rate,
    int64_t seed) {
  activate(x, bias, factor, name, rate, seed, x);
  return x;
}

// Gradients of x, bias and factor; undefined where there is none.
std::tuple<Tensor, Tensor, Tensor> activated_backward(
    const Tensor& grad, const Tensor& x, const optional<Tensor>& bias, const optional<Tensor>& factor,
    c10::string_view name, double rate, int64_t seed) {
  check_all(x, bias, factor);
  check_all(grad, bias, x);
  Tensor x_grad = at::empty_like(x), bias_grad, factor_grad;
  if (factor) factor_grad = at::empty_like(x);
  const int64_t vectors = vectors_of_row(x, bias), count = x.numel() / LANES, rows = count / vectors;
  const int64_t size = bias ? rows_of_chunk(rows, vectors) * vectors : CHUNK_VECTORS, chunks = (count + size - 1) / size;
  Tensor parts;
  if (bias) parts = at::zeros({std::max<int64_t>(chunks, 1), bias->numel()}, bias->options());
  const float* added = bias ? bias->const_data_ptr<float>() : nullptr;
  float* sums = bias ? parts.mutable_data_ptr<float>() : nullptr;
  by_dtype(x, [&](auto kind) {
    using T = decltype(kind);
    const T *g = grad.const_data_ptr<T>(), *from = x.const_data_ptr<T>(), *by = factor ? factor->const_data_ptr<T>() : nullptr;
    T *to = x_grad.mutable_data_ptr<T>(), *to_factor = factor ? factor_grad.mutable_data_ptr<T>() : nullptr;
    by_name(name, [&](auto f) {
      in_chunks(count, size, [&](int64_t chunk, int64_t begin, int64_t end) {
        Dropout dropout(rate, seed);
        float* sum = sums ? sums + chunk * vectors * LANES : nullptr;
        for (int64_t v = begin, column = 0; v < end; ++v) {
          const int64_t at = v * LANES;
          vfloat z = widened(from + at);
          if (added) z += load(added + column * LANES);
          const Point y = f(z);
          vfloat above = dropout(v, widened(g + at));
          if (by) {
            narrow(above * y.value, to_factor + at);
            above *= widened(by + at);
          }
          const vfloat found = above * y.slope;
          narrow(found, to + at);
          if (sum) {
            store(sum + column * LANES, load(sum + column * LANES) + found);
            if (++column == vectors) column = 0;
          }
        }
      });
    });
  });
  if (bias) bias_grad = parts.sum(0);
  return {x_grad, bias_grad, factor_grad};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("activated(Tensor x, Tensor? bias, Tensor? factor, str name, float rate, int seed) -> Tensor");
  m.def("activated_(Tensor(a!) x, Tensor? bias, Tensor? factor, str name, float rate, int seed) -> Tensor(a!)");
  m.def(
      "activated_backward(Tensor grad, Tensor x, Tensor? bias, Tensor? factor, str name, float rate, int seed) -> "
      "(Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("activated", activated);
  m.impl("activated_", activated_);
  m.impl("activated_backward", activated_backward);
}

}  // namespace eir_seq
