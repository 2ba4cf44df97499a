// What lies between the products of a layer, in one pass over memory: dropout, residual sum and norm, with gradients.
//
// Which numbers are dropped is a function of (seed, place), so that the backward pass needs no mask.
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "elementwise.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t LEAST_ROWS = 32;   // of a chunk, which one thread computes
constexpr int64_t MOST_CHUNKS = 64;  // each has its own sums for the gradients of weights

// Chunks depend on the shape only, so that results do not depend on the number of threads.
int64_t rows_of_chunk(int64_t rows) { return std::max(LEAST_ROWS, (rows + MOST_CHUNKS - 1) / MOST_CHUNKS); }

// dropout(update) + residual; the residual is float32 or there is none.
Tensor dropped(const Tensor& update, const optional<Tensor>& residual, double rate, int64_t seed) {
  check(update, "update");
  TORCH_CHECK(update.numel() % LANES == 0, "a multiple of ", LANES, " numbers");
  const float* base = nullptr;
  if (residual) {
    TORCH_CHECK(residual->is_contiguous() && residual->scalar_type() == at::kFloat, "residual");
    TORCH_CHECK(residual->sizes() == update.sizes(), "residual");
    base = residual->const_data_ptr<float>();
  }
  Tensor out = residual ? at::empty_like(*residual) : at::empty_like(update);
  by_dtype(update, [&](auto kind) {
    using T = decltype(kind);
    const T* from = update.const_data_ptr<T>();
    in_chunks(update.numel() / LANES, CHUNK_VECTORS, [&](int64_t, int64_t begin, int64_t end) {
      Dropout dropout(rate, seed);
      if (base) {
        float* to = out.mutable_data_ptr<float>();
        for (int64_t v = begin; v < end; ++v)
          store(to + v * LANES, dropout(v, widened(from + v * LANES)) + load(base + v * LANES));
      } else {
        T* to = out.mutable_data_ptr<T>();
        for (int64_t v = begin; v < end; ++v) narrow(dropout(v, widened(from + v * LANES)), to + v * LANES);
      }
    });
  });
  return out;
}

// sum = dropout(update) + residual; the norm of sum; what the backward pass needs of each row: mean and 1 / deviation,
// or zero and 1 / root mean square where the norm is not `centered`.
std::tuple<Tensor, Tensor, Tensor> norm_forward(
    const optional<Tensor>& update, const Tensor& residual, const Tensor& weight, const optional<Tensor>& bias, double eps,
    bool centered, double rate, int64_t seed) {
  const int64_t width = residual.size(-1), rows = residual.numel() / std::max<int64_t>(width, 1), vectors = width / LANES;
  TORCH_CHECK(width % LANES == 0 && width > 0, "a multiple of ", LANES, " channels");
  TORCH_CHECK(residual.is_contiguous() && residual.scalar_type() == at::kFloat, "residual");
  TORCH_CHECK(weight.is_contiguous() && weight.scalar_type() == at::kFloat && weight.numel() == width, "weight");
  TORCH_CHECK(!bias || (bias->is_contiguous() && bias->scalar_type() == at::kFloat && bias->numel() == width), "bias");
  if (update) {
    check(*update, "update");
    TORCH_CHECK(update->sizes() == residual.sizes(), "update");
  }
  Tensor sums = update ? at::empty_like(residual) : residual, out = at::empty_like(residual);
  Tensor stats = at::empty({rows, 2}, residual.options());
  const float *w = weight.const_data_ptr<float>(), *b = bias ? bias->const_data_ptr<float>() : nullptr;
  const float* base = residual.const_data_ptr<float>();
  float *normed = out.mutable_data_ptr<float>(), *stat = stats.mutable_data_ptr<float>();
  by_dtype(update.value_or(residual), [&](auto kind) {
    using T = decltype(kind);
    const T* from = update ? update->const_data_ptr<T>() : nullptr;
    float* to = update ? sums.mutable_data_ptr<float>() : nullptr;
    in_chunks(rows, rows_of_chunk(rows), [&](int64_t, int64_t begin, int64_t end) {
      Dropout dropout(rate, seed);
      for (int64_t row = begin; row < end; ++row) {
        const float* x = base + row * width;
        if (from) {
          float* sum_row = to + row * width;
          for (int64_t v = 0; v < vectors; ++v) {
            const int64_t at = row * vectors + v;
            store(sum_row + v * LANES, dropout(at, widened(from + at * LANES)) + load(x + v * LANES));
          }
          x = sum_row;
        }
        float mean = 0;
        if (centered) {
          vfloat total{};
          for (int64_t v = 0; v < vectors; ++v) total += load(x + v * LANES);
          mean = sum(total) / static_cast<float>(width);
        }
        vfloat squares{};
        for (int64_t v = 0; v < vectors; ++v) {
          const vfloat apart = load(x + v * LANES) - mean;
          squares += apart * apart;
        }
        const float by = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + static_cast<float>(eps));
        stat[2 * row] = mean;
        stat[2 * row + 1] = by;
        float* y = normed + row * width;
        if (b)
          for (int64_t c = 0; c < width; c += LANES) store(y + c, (load(x + c) - mean) * by * load(w + c) + load(b + c));
        else
          for (int64_t c = 0; c < width; c += LANES) store(y + c, (load(x + c) - mean) * by * load(w + c));
      }
    });
  });
  return {sums, out, stats};
}

// Gradients of update (of its dtype; undefined without one), residual, weight and bias.
std::tuple<Tensor, Tensor, Tensor, Tensor> norm_backward(
    const Tensor& grad, const optional<Tensor>& grad_sums, const Tensor& sums, const Tensor& stats, const Tensor& weight,
    bool with_bias, bool centered, double rate, int64_t seed, optional<at::ScalarType> update_type) {
  const int64_t width = sums.size(-1), rows = sums.numel() / std::max<int64_t>(width, 1), vectors = width / LANES;
  TORCH_CHECK(grad.is_contiguous() && grad.scalar_type() == at::kFloat && grad.sizes() == sums.sizes(), "gradient");
  TORCH_CHECK(
      !grad_sums || (grad_sums->is_contiguous() && grad_sums->scalar_type() == at::kFloat && grad_sums->sizes() == sums.sizes()),
      "gradient");
  Tensor residual_grad = at::empty_like(sums), update_grad;
  // without dropout both gradients are one, if they are of one dtype
  const bool same = update_type == at::kFloat && rate == 0;
  if (update_type && !same) update_grad = at::empty(sums.sizes(), sums.options().dtype(*update_type));
  const int64_t size = rows_of_chunk(rows), chunks = (rows + size - 1) / size;
  Tensor parts = at::zeros({2, std::max<int64_t>(chunks, 1), width}, sums.options());
  const float *w = weight.const_data_ptr<float>(), *g = grad.const_data_ptr<float>(), *x = sums.const_data_ptr<float>();
  const float *stat = stats.const_data_ptr<float>(), *above = grad_sums ? grad_sums->const_data_ptr<float>() : nullptr;
  float *to = residual_grad.mutable_data_ptr<float>(), *part = parts.mutable_data_ptr<float>();
  by_dtype(update_grad.defined() ? update_grad : sums, [&](auto kind) {
    using T = decltype(kind);
    T* to_update = update_grad.defined() ? update_grad.mutable_data_ptr<T>() : nullptr;
    in_chunks(rows, size, [&](int64_t chunk, int64_t begin, int64_t end) {
      Dropout dropout(rate, seed);
      float *weights = part + chunk * width, *biases = part + (chunks + chunk) * width;
      for (int64_t row = begin; row < end; ++row) {
        const float mean = stat[2 * row], by = stat[2 * row + 1];
        const float *y = g + row * width, *s = x + row * width;
        vfloat total{}, product{};
        for (int64_t c = 0; c < width; c += LANES) {
          const vfloat slope = load(y + c), unit = (load(s + c) - mean) * by;
          store(weights + c, load(weights + c) + slope * unit);
          if (with_bias) store(biases + c, load(biases + c) + slope);
          const vfloat scaled = slope * load(w + c);
          total += scaled;
          product += scaled * unit;
        }
        const float first = centered ? sum(total) / static_cast<float>(width) : 0.0f;
        const float second = sum(product) / static_cast<float>(width);
        for (int64_t v = 0; v < vectors; ++v) {
          const int64_t c = v * LANES, at = row * width + c;
          const vfloat unit = (load(s + c) - mean) * by;
          vfloat found = (load(y + c) * load(w + c) - first - unit * second) * by;
          if (above) found += load(above + at);
          store(to + at, found);
          if (to_update) narrow(dropout(row * vectors + v, found), to_update + at);
        }
      }
    });
  });
  Tensor weight_grad = parts[0].sum(0), bias_grad;
  if (with_bias) bias_grad = parts[1].sum(0);
  if (same) update_grad = residual_grad;
  return {update_grad, residual_grad, weight_grad, bias_grad};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("dropped(Tensor update, Tensor? residual, float rate, int seed) -> Tensor");
  m.def(
      "norm_forward(Tensor? update, Tensor residual, Tensor weight, Tensor? bias, float eps, bool centered, float rate, "
      "int seed) -> (Tensor, Tensor, Tensor)");
  m.def(
      "norm_backward(Tensor grad, Tensor? grad_sums, Tensor sums, Tensor stats, Tensor weight, bool with_bias, "
      "bool centered, float rate, int seed, ScalarType? update_type) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("dropped", dropped);
  m.impl("norm_forward", norm_forward);
  m.impl("norm_backward", norm_backward);
}

}  // namespace eir_seq
