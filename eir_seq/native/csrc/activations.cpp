// Activation functions with what follows them, in one pass over memory: a second factor (gated), dropout; gradients.
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "elementwise.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

struct Point {
  vfloat value, slope;
};

// x sigmoid(first x + third x^3): silu, and approximations of gelu.
struct Swish {
  float first, third;

  inline Point operator()(vfloat x) const {
    const vfloat square = x * x;
    const vfloat power = smaller(all(126.0f), x * (square * third + first) * -LOG2E);
    const vfloat gate = 1.0f / (1.0f + exp2(power));
    const vfloat value = x * gate;
    return {value, gate + (value - value * gate) * (square * (3 * third) + first)};
  }
};

// x times the normal distribution function, whose error is below 1e-7 (Abramowitz and Stegun 1964, 7.1.26).
struct Gelu {
  inline Point operator()(vfloat x) const {
    const vfloat density = exp2(x * x * (-0.5f * LOG2E));  // times sqrt(2 pi)
    const vfloat t = 1.0f / (1.0f + larger(x, -x) * (0.3275911f * 0.70710678118654752f));
    vfloat p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const vfloat tail = p * t * density * 0.5f;
    const vfloat below = x < vfloat{} ? tail : 1.0f - tail;
    return {x * below, below + x * density * 0.3989422804014327f};
  }
};

struct Relu {
  inline Point operator()(vfloat x) const { return {larger(vfloat{}, x), x > vfloat{} ? all(1.0f) : vfloat{}}; }
};

template <class Call>
void by_name(c10::string_view name, Call call) {
  if (name == "gelu")
    call(Gelu{});
  else if (name == "gelu_tanh")  // 2 sqrt(2 / pi) (x + 0.044715 x^3)
    call(Swish{1.5957691216057308f, 1.5957691216057308f * 0.044715f});
  else if (name == "quick_gelu")
    call(Swish{1.702f, 0});
  else if (name == "silu")
    call(Swish{1, 0});
  else if (name == "relu")
    call(Relu{});
  else
    TORCH_CHECK(false, "no activation: ", name);
}

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
