// Activation functions with what follows them, in one pass over memory: a second factor (gated), dropout; gradients.
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "activations.h"
#include "elementwise.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

void check_pair(const Tensor& x, const optional<Tensor>& factor) {
  check(x, "x");
  TORCH_CHECK(x.numel() % LANES == 0, "a multiple of ", LANES, " numbers");
  if (factor) {
    check(*factor, "factor");
    TORCH_CHECK(factor->sizes() == x.sizes() && factor->scalar_type() == x.scalar_type(), "factor");
  }
}

// dropout(f(x) factor)
Tensor activated(
    const Tensor& x, const optional<Tensor>& factor, c10::string_view name, double rate, int64_t seed) {
  check_pair(x, factor);
  Tensor out = at::empty_like(x);
  by_dtype(x, [&](auto kind) {
    using T = decltype(kind);
    const T *from = x.const_data_ptr<T>(), *by = factor ? factor->const_data_ptr<T>() : nullptr;
    T* to = out.mutable_data_ptr<T>();
    by_name(name, [&](auto f) {
      in_chunks(x.numel() / LANES, CHUNK_VECTORS, [&](int64_t, int64_t begin, int64_t end) {
        Dropout dropout(rate, seed);
        for (int64_t v = begin; v < end; ++v) {
          vfloat y = f(widened(from + v * LANES)).value;
          if (by) y *= widened(by + v * LANES);
          narrow(dropout(v, y), to + v * LANES);
        }
      });
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> activated_backward(
    const Tensor& grad, const Tensor& x, const optional<Tensor>& factor, c10::string_view name, double rate, int64_t seed) {
  check_pair(x, factor);
  check_pair(grad, x);
  Tensor x_grad = at::empty_like(x), factor_grad;
  if (factor) factor_grad = at::empty_like(x);
  by_dtype(x, [&](auto kind) {
    using T = decltype(kind);
    const T *g = grad.const_data_ptr<T>(), *from = x.const_data_ptr<T>(), *by = factor ? factor->const_data_ptr<T>() : nullptr;
    T *to = x_grad.mutable_data_ptr<T>(), *to_factor = factor ? factor_grad.mutable_data_ptr<T>() : nullptr;
    by_name(name, [&](auto f) {
      in_chunks(x.numel() / LANES, CHUNK_VECTORS, [&](int64_t, int64_t begin, int64_t end) {
        Dropout dropout(rate, seed);
        for (int64_t v = begin; v < end; ++v) {
          const int64_t at = v * LANES;
          const Point y = f(widened(from + at));
          vfloat above = dropout(v, widened(g + at));
          if (by) {
            narrow(above * y.value, to_factor + at);
            above *= widened(by + at);
          }
          narrow(above * y.slope, to + at);
        }
      });
    });
  });
  return {x_grad, factor_grad};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("activated(Tensor x, Tensor? factor, str name, float rate, int seed) -> Tensor");
  m.def("activated_backward(Tensor grad, Tensor x, Tensor? factor, str name, float rate, int seed) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("activated", activated);
  m.impl("activated_backward", activated_backward);
}

}  // namespace eir_seq
