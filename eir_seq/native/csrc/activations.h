// Activation functions of 16 numbers, with their slopes.
#pragma once

#include <c10/util/Exception.h>
#include <c10/util/string_view.h>

#include "vectors.h"

namespace eir_seq {

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

}  // namespace eir_seq
