// Gradients of linear layers that read the same states, by the BLAS that torch brings.
//
// Threads divide rows, and for the gradients of weights outputs, into parts that depend on the shape alone, so that results
// do not depend on the number of threads. Gradients of biases, and the sum of the gradients of the states, take no passes
// of their own.
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "elementwise.h"
#include "linear.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t LEAST_ROWS = 512, MOST_PARTS = 16;     // of the states, which a thread takes at a time
constexpr int64_t LEAST_OUTPUTS = 64, MOST_BLOCKS = 4;   // of a layer, of whose weights a thread computes the gradient
constexpr int64_t ROWS_OF_SUM = 256;                     // that are added at a time: a BLAS divides long sums among threads

int64_t rows_of_part(int64_t rows) { return std::max(LEAST_ROWS, (rows + MOST_PARTS - 1) / MOST_PARTS); }
int64_t outputs_of_block(int64_t outputs) {
  const int64_t least = (outputs + MOST_BLOCKS - 1) / MOST_BLOCKS;
  return std::max(LEAST_OUTPUTS, (least + LANES - 1) / LANES * LANES);
}

// Gradients of x, and of each weight and bias; none where none is wanted, or nothing came from above.
std::tuple<Tensor, Gradients, Gradients> linear_backward(
    const Gradients& grads, const Tensor& x, at::TensorList weights, bool x_wanted,
    at::IntArrayRef weights_wanted, at::IntArrayRef biases_wanted) {
  const size_t count = weights.size();
  TORCH_CHECK(grads.size() == count && weights_wanted.size() == count && biases_wanted.size() == count, "gradients");
  const int64_t rows = rows_of(x), in = x.size(-1);
  std::vector<const float*> above(count, nullptr);
  std::vector<Tensor> kept(count), weight_grads(count), bias_grads(count);
  struct Block {
    size_t layer;
    int64_t first, outputs;
  };
  std::vector<Block> blocks;
  for (size_t i = 0; i < count; ++i) {
    check_layer(x, weights[i]);
    const optional<Tensor> grad = grads.get(i);
    if (!grad) continue;
    const int64_t out = weights[i].size(0);
    TORCH_CHECK(grad->is_contiguous() && grad->scalar_type() == at::kFloat && grad->numel() == rows * out, "gradient");
    kept[i] = *grad;
    above[i] = grad->const_data_ptr<float>();
    if (weights_wanted[i]) weight_grads[i] = at::empty(weights[i].sizes(), weights[i].options());
    if (biases_wanted[i]) bias_grads[i] = at::empty({out}, weights[i].options());
    if (!weights_wanted[i] && !biases_wanted[i]) continue;
    const int64_t size = outputs_of_block(out);
    for (int64_t first = 0; first < out; first += size) blocks.push_back({i, first, std::min(size, out - first)});
  }
  const float* from = x.const_data_ptr<float>();
  Tensor x_grad;
  if (x_wanted) {
    x_grad = at::empty(x.sizes(), x.options());
    in_chunks(rows, rows_of_part(rows), [&](int64_t, int64_t begin, int64_t end) {
      float* to = x_grad.mutable_data_ptr<float>() + begin * in;
      bool add = false;
      for (size_t i = 0; i < count; ++i) {
        if (above[i] == nullptr) continue;
        const int64_t out = weights[i].size(0);
        multiply(
            'N', 'N', in, end - begin, out, weights[i].const_data_ptr<float>(), in, above[i] + begin * out, out, add, to, in);
        add = true;
      }
      if (!add) std::fill_n(to, (end - begin) * in, 0.0f);
    });
  }
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) {
      const Block& block = blocks[number];
      const int64_t out = weights[block.layer].size(0);
      const float* g = above[block.layer] + block.first;
      if (Tensor& to = weight_grads[block.layer]; to.defined()) {
        float* sums = to.mutable_data_ptr<float>() + block.first * in;
        int64_t row = 0;
        do {
          const int64_t part = std::min(ROWS_OF_SUM, rows - row);
          multiply('N', 'T', in, block.outputs, part, from + row * in, in, g + row * out, out, row > 0, sums, in);
          row += part;
        } while (row < rows);
      }
      if (Tensor& to = bias_grads[block.layer]; to.defined())
        add_rows(g, rows, out, block.outputs, false, to.mutable_data_ptr<float>() + block.first);
    }
  });
  return {x_grad, gradients(weight_grads), gradients(bias_grads)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def(
      "linear_backward(Tensor?[] grads, Tensor x, Tensor[] weights, bool x_wanted, int[] weights_wanted, "
      "int[] biases_wanted) -> (Tensor, Tensor?[], Tensor?[])");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("linear_backward", linear_backward);
}

}  // namespace eir_seq
