// Feed-forward blocks: dropout(f(x U^T + b)) D^T + d, or dropout(f(x G^T + a) (x U^T + b)) D^T + d with a gate.
//
// Rows are taken in chunks whose inner states lie in a core's cache, so that what is between the products takes no pass
// over memory. Products before biases are all that is kept for the gradients. Gradients of parameters are sums of parts,
// which are contiguous rows. Chunks and parts depend on the shape alone, so that results do not depend on the number of
// threads.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "activations.h"
#include "elementwise.h"
#include "linear.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t LEAST_ROWS = 128, MOST_ROWS = 512;  // of a chunk: of few rows, products are slow
constexpr int64_t ROWS_OF_PART = 512, MOST_PARTS = 16;

// Rows of one of `count` equal shares.
int64_t share(int64_t rows, int64_t count) { return ((rows + count - 1) / count + LANES - 1) / LANES * LANES; }
// At least two chunks and parts, as the BLAS would divide the products of a single one among threads.
int64_t rows_of_chunk(int64_t rows) {
  return std::max(std::min(LEAST_ROWS, share(rows, 2)), std::min(MOST_ROWS, share(rows, 8)));
}
int64_t parts_of(int64_t rows) {
  int64_t parts = 2;  // a power of two, which threads share evenly
  while (parts < MOST_PARTS && rows >= 2 * parts * ROWS_OF_PART) parts *= 2;
  return parts;
}

struct Layer {
  Tensor bias;  // of zeros where there is none
  bool biased;
  int64_t in, out;
  const float *weight, *added;

  Layer(const Tensor& x, const Tensor& w, const optional<Tensor>& b)
      : bias(b ? *b : at::zeros({w.size(0)}, w.options())), biased(b), in(w.size(1)), out(w.size(0)),
        weight(w.const_data_ptr<float>()), added(bias.const_data_ptr<float>()) {
    TORCH_CHECK(bias.is_contiguous() && bias.scalar_type() == at::kFloat && bias.dim() == 1 && bias.size(0) == out, "bias");
  }
};

struct Block {
  int64_t rows, in, inner, out, vectors;
  std::vector<Layer> inward;  // f is applied to what the first one gives, the second one gives a factor
  Layer down;

  Block(const Tensor& x, at::TensorList weights, const Gradients& biases)
      : rows(rows_of(x)), in(x.size(-1)), inner(weights[0].size(0)), out(weights.back().size(0)), vectors(inner / LANES),
        down(x, weights.back(), biases.get(weights.size() - 1)) {
    TORCH_CHECK(weights.size() == 2 || weights.size() == 3, "weights");
    for (size_t i = 0; i + 1 < weights.size(); ++i) {
      check_layer(x, weights[i]);
      inward.emplace_back(x, weights[i], biases.get(i));
      TORCH_CHECK(inward[i].out == inner, "weights");
    }
    TORCH_CHECK(weights.back().is_contiguous() && weights.back().scalar_type() == at::kFloat, "weight");
    TORCH_CHECK(down.in == inner && inner % LANES == 0 && rows > 0, "sizes");
  }

  bool gated() const { return inward.size() == 2; }
};

// The products before biases of some rows, and the first of their vectors in all rows, for the numbers of dropout.
struct Inner {
  const float *z, *factor;
  int64_t rows, first;
};

// dropout(f(z) factor); `to` may be z.
void activate(const Block& block, const Inner& inner, c10::string_view name, Dropout dropout, float* to) {
  const float *added = block.inward[0].added, *factor_added = block.inward.back().added;
  by_name(name, [&](auto f) {
    for (int64_t row = 0, at = 0; row < inner.rows; ++row)
      for (int64_t v = 0; v < block.vectors; ++v, ++at) {
        vfloat y = f(load(inner.z + at * LANES) + load(added + v * LANES)).value;
        if (inner.factor) y *= load(inner.factor + at * LANES) + load(factor_added + v * LANES);
        store(to + at * LANES, dropout(inner.first + at, y));
      }
  });
}

// Gradients of z and of the factor from that of the block's inner state; they are added to `sums`, those of the biases.
// Also the inner state itself.
struct Slopes {
  float *grad, *factor, *state;  // grad: that of the state, then that of z; state: none if it is not wanted
  float *sums, *factor_sums;
};
void slopes(const Block& block, const Inner& inner, c10::string_view name, Dropout dropout, const Slopes& to) {
  const float *added = block.inward[0].added, *factor_added = block.inward.back().added;
  by_name(name, [&](auto f) {
    for (int64_t row = 0, at = 0; row < inner.rows; ++row)
      for (int64_t v = 0; v < block.vectors; ++v, ++at) {
        const int64_t place = at * LANES, column = v * LANES;
        const Point y = f(load(inner.z + place) + load(added + column));
        vfloat above = load(to.grad + place), state = y.value, slope = y.slope;
        if (inner.factor) {
          const vfloat factor = load(inner.factor + place) + load(factor_added + column);
          state *= factor;
          slope *= factor;
        }
        dropout(inner.first + at, above, state);
        if (inner.factor) {
          const vfloat found = above * y.value;
          store(to.factor + place, found);
          store(to.factor_sums + column, load(to.factor_sums + column) + found);
        }
        const vfloat found = above * slope;
        store(to.grad + place, found);
        store(to.sums + column, load(to.sums + column) + found);
        if (to.state) store(to.state + place, state);
      }
  });
}

std::tuple<Tensor, std::vector<Tensor>> feed_forward_forward(
    const Tensor& x, at::TensorList weights, const Gradients& biases, c10::string_view name, double rate, int64_t seed,
    bool keep) {
  const Block block(x, weights, biases);
  const int64_t inner = block.inner, size = rows_of_chunk(block.rows), count = block.inward.size();
  auto shape = x.sizes().vec();
  shape.back() = block.out;
  Tensor y = at::empty(shape, x.options());
  std::vector<Tensor> kept;
  for (int64_t i = 0; keep && i < count; ++i) kept.push_back(at::empty({block.rows, inner}, x.options()));
  const float* from = x.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, (block.rows + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
    Tensor memory = at::empty({keep ? 1 : count, size, inner}, x.options());
    float* own = memory.mutable_data_ptr<float>();
    for (int64_t first = begin * size; first < std::min(block.rows, end * size); first += size) {
      const int64_t rows = std::min(size, block.rows - first);
      float* z[2] = {};
      for (int64_t i = 0; i < count; ++i) {
        z[i] = keep ? kept[i].mutable_data_ptr<float>() + first * inner : own + i * size * inner;
        multiply('T', 'N', inner, rows, block.in, block.inward[i].weight, block.in, from + first * block.in, block.in, false, z[i], inner);
      }
      activate(block, {z[0], z[1], rows, first * block.vectors}, name, Dropout(rate, seed), own);
      for (int64_t row = first; row < first + rows; ++row) std::copy_n(block.down.added, block.out, to + row * block.out);
      multiply('T', 'N', block.out, rows, inner, block.down.weight, inner, own, inner, true, to + first * block.out, block.out);
    }
  });
  return {y, kept};
}

// The gradient of a parameter in parts, which are added in order.
class Sums {
 public:
  Sums(const Tensor& like, int64_t parts, bool wanted) {
    if (!wanted) return;
    total_ = at::empty(like.sizes(), like.options());
    others_ = at::empty({parts - 1, like.numel()}, like.options());
  }
  bool wanted() const { return total_.defined(); }
  float* part(int64_t number) {
    if (!wanted()) return nullptr;
    return number == 0 ? total_.mutable_data_ptr<float>()
                       : others_.mutable_data_ptr<float>() + (number - 1) * total_.numel();
  }
  Tensor total() {
    if (!wanted()) return total_;
    float* to = total_.mutable_data_ptr<float>();
    const float* from = others_.const_data_ptr<float>();
    const int64_t size = total_.numel(), parts = others_.size(0);
    in_chunks(size, CHUNK_VECTORS * LANES, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t number = 0; number < parts; ++number) {
        const float* part = from + number * size;
        for (int64_t i = begin; i < end; ++i) to[i] += part[i];
      }
    });
    return total_;
  }

 private:
  Tensor total_, others_;
};

// Gradients of x, and of each weight and bias; none where none is wanted.
std::tuple<Tensor, Gradients, Gradients> feed_forward_backward(
    const Tensor& grad, const Tensor& x, at::TensorList weights, const Gradients& biases, at::TensorList kept,
    c10::string_view name, double rate, int64_t seed, bool x_wanted, at::IntArrayRef weights_wanted,
    at::IntArrayRef biases_wanted) {
  const Block block(x, weights, biases);
  const int64_t inner = block.inner, in = block.in, out = block.out, count = block.inward.size();
  TORCH_CHECK(grad.is_contiguous() && grad.scalar_type() == at::kFloat && grad.numel() == block.rows * out, "gradient");
  TORCH_CHECK(static_cast<int64_t>(kept.size()) == count && weights_wanted.size() == weights.size(), "kept");
  TORCH_CHECK(biases_wanted.size() == weights.size(), "wanted");
  const int64_t rows_of_part = share(block.rows, parts_of(block.rows));
  const int64_t parts = (block.rows + rows_of_part - 1) / rows_of_part;
  const int64_t size = share(rows_of_part, (rows_of_part + MOST_ROWS - 1) / MOST_ROWS);
  std::vector<Sums> weight_sums, bias_sums;
  for (int64_t i = 0; i <= count; ++i) {
    weight_sums.emplace_back(weights[i], parts, weights_wanted[i]);
    const Layer& layer = i < count ? block.inward[i] : block.down;
    bias_sums.emplace_back(layer.bias, parts, i < count || (layer.biased && biases_wanted[i]));
  }
  Tensor x_grad;
  if (x_wanted) x_grad = at::empty(x.sizes(), x.options());
  const float *from = x.const_data_ptr<float>(), *above = grad.const_data_ptr<float>();
  const float* z[2] = {};
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(kept[i].is_contiguous() && kept[i].numel() == block.rows * inner, "kept");
    z[i] = kept[i].const_data_ptr<float>();
  }
  float* to = x_wanted ? x_grad.mutable_data_ptr<float>() : nullptr;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    Tensor memory = at::empty({count + 1, size, inner}, x.options());
    float* slope[2] = {memory.mutable_data_ptr<float>(), memory.mutable_data_ptr<float>() + size * inner};
    float* state = weight_sums[count].wanted() ? memory.mutable_data_ptr<float>() + count * size * inner : nullptr;
    for (int64_t part = begin; part < end; ++part) {
      float *sums[2] = {};
      for (int64_t i = 0; i < count; ++i) std::fill_n(sums[i] = bias_sums[i].part(part), inner, 0.0f);
      const int64_t part_first = part * rows_of_part, part_end = std::min(block.rows, part_first + rows_of_part);
      bool add = false;
      for (int64_t first = part_first; first < part_end; first += size, add = true) {
        const int64_t rows = std::min(size, part_end - first);
        const float* g = above + first * out;
        multiply('N', 'N', inner, rows, out, block.down.weight, inner, g, out, false, slope[0], inner);
        const Inner here{z[0] + first * inner, z[1] ? z[1] + first * inner : nullptr, rows, first * block.vectors};
        slopes(block, here, name, Dropout(rate, seed), {slope[0], slope[1], state, sums[0], sums[1]});
        for (int64_t i = 0; i < count; ++i) {
          if (to)
            multiply('N', 'N', in, rows, inner, block.inward[i].weight, in, slope[i], inner, i > 0, to + first * in, in);
          if (float* sum = weight_sums[i].part(part))
            multiply('N', 'T', in, inner, rows, from + first * in, in, slope[i], inner, add, sum, in);
        }
        if (float* sum = weight_sums[count].part(part))
          multiply('N', 'T', inner, out, rows, state, inner, g, out, add, sum, inner);
        if (float* sum = bias_sums[count].part(part)) add_rows(g, rows, out, out, add, sum);
      }
    }
  });
  std::vector<Tensor> weight_grads, bias_grads;
  for (int64_t i = 0; i <= count; ++i) {
    weight_grads.push_back(weight_sums[i].total());
    const bool wanted = i < count ? block.inward[i].biased && biases_wanted[i] : true;
    bias_grads.push_back(wanted ? bias_sums[i].total() : Tensor());
  }
  return {x_grad, gradients(weight_grads), gradients(bias_grads)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def(
      "feed_forward_forward(Tensor x, Tensor[] weights, Tensor?[] biases, str name, float rate, int seed, bool keep) -> "
      "(Tensor, Tensor[])");
  m.def(
      "feed_forward_backward(Tensor grad, Tensor x, Tensor[] weights, Tensor?[] biases, Tensor[] kept, str name, "
      "float rate, int seed, bool x_wanted, int[] weights_wanted, int[] biases_wanted) -> (Tensor, Tensor?[], Tensor?[])");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("feed_forward_forward", feed_forward_forward);
  m.impl("feed_forward_backward", feed_forward_backward);
}

}  // namespace eir_seq
