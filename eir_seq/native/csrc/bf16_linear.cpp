// Linear layers that read the same states, and their gradients, in bfloat16 with sums in float32.
//
// oneDNN compiles such products anew for each number of rows. These are compiled once. Blocks depend on the shape alone and
// one thread computes a sum, so that results do not depend on the number of threads.
#include <vector>

#include <ATen/core/List.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "amx.h"
#include "elementwise.h"

namespace eir_seq {
namespace {

using at::BFloat16;
using at::Tensor;
using std::optional;

using Gradients = c10::List<optional<Tensor>>;

#ifdef EIR_SEQ_AMX

constexpr int64_t BLOCK = 256;                // rows and columns of a product that a thread takes at a time
constexpr int64_t BLOCK_STEPS = 32;           // tiles along the depth for which factors of such a block stay in the cache
constexpr int64_t MOST_DEPTH = 1536;          // rows that are added at a time in the gradient of a weight
constexpr int64_t GROUP = 4;                  // tiles along that depth that a thread packs at a time
constexpr int64_t LARGE_WEIGHT = 256 << 10;   // numbers from which on a thread takes such a block, else of 64

Tensor tiles(int64_t panels, int64_t steps) { return at::empty({panels * steps * TILE}, at::kBFloat16); }
BFloat16* data(const Tensor& x) { return x.mutable_data_ptr<BFloat16>(); }

// Rows of bfloat16 as left factors, 32 at a time. They are read where they lie, but for the last ones, which zeros fill up;
// all are copied if their length is no multiple of a tile's depth.
class Rows {
 public:
  Rows(const BFloat16* from, int64_t rows, int64_t depth) : from_(from), stride_(steps_of(depth) * DEPTH) {
    first_copied_ = stride_ == depth ? rows / PAIR * PAIR : 0;
    const int64_t left = rows - first_copied_;
    if (left == 0) return;
    copied_ = at::empty({pairs_of(left) * PAIR, stride_}, at::kBFloat16);
    for (int64_t row = 0; row < copied_.size(0); ++row) {
      BFloat16* to = data(copied_) + row * stride_;
      const int64_t count = row < left ? depth : 0;
      if (count) std::memcpy(to, from + (first_copied_ + row) * depth, count * sizeof(BFloat16));
      std::fill(to + count, to + stride_, BFloat16(0.0f));
    }
  }
  const BFloat16* at(int64_t row) const {
    return row < first_copied_ ? from_ + row * stride_ : data(copied_) + (row - first_copied_) * stride_;
  }
  int64_t stride() const { return stride_; }

 private:
  const BFloat16* from_;
  int64_t stride_, first_copied_ = 0;
  Tensor copied_;
};

// A weight (out, in) as right tiles: W^T, whose depth is `in`, or W, whose depth is `out`.
Tensor packed_weight(const Tensor& weight, bool transposed) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const int64_t depth = transposed ? in : out, columns = transposed ? out : in;
  const int64_t panels = 2 * pairs_of(columns), steps = steps_of(depth);
  const Tensor packed = tiles(panels, steps);
  by_dtype(weight, [&](auto zero) {
    using T = decltype(zero);
    const T* from = weight.const_data_ptr<T>();
    in_chunks(panels * steps, 64, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t column = tile / steps * SIDE, first = tile % steps * DEPTH;
        const int64_t sides = std::min(SIDE, columns - column), deep = std::min(DEPTH, depth - first);
        BFloat16* to = data(packed) + tile * TILE;
        if (transposed)
          pack_along(from + column * in + first, in, sides, deep, true, to);
        else
          pack_across(from + first * in + column, in, sides, deep, true, to);
      }
    });
  });
  return packed;
}

struct Term {
  Rows left;
  Tensor right;
};

// A part of the depth of a term.
struct Piece {
  const Term* term;
  int64_t first, steps;
};

// Pieces of all terms; together those of a group are not deeper than the cache holds for a block.
std::vector<std::vector<Piece>> groups_of(const std::vector<Term>& terms) {
  std::vector<std::vector<Piece>> groups(1);
  int64_t left = BLOCK_STEPS;
  for (const Term& term : terms) {
    const int64_t all = term.left.stride() / DEPTH;
    for (int64_t first = 0, steps; first < all; first += steps, left -= steps) {
      if (left == 0) {
        groups.emplace_back();
        left = BLOCK_STEPS;
      }
      steps = std::min(left, all - first);
      groups.back().push_back({&term, first, steps});
    }
  }
  return groups;
}

// The sum of products of left and right factors, and a bias, whose length is a multiple of 32: (rows, columns).
template <class T>
void multiply(const std::vector<Term>& terms, int64_t rows, int64_t columns, const float* bias, T* out) {
  const auto groups = groups_of(terms);
  const int64_t blocks = (rows + BLOCK - 1) / BLOCK, parts = (columns + BLOCK - 1) / BLOCK;
  at::parallel_for(0, blocks * parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles sums;
    // of one pair of rows and columns, or, with several groups, of all in a block
    const Tensor kept = at::empty({groups.size() > 1 ? BLOCK * BLOCK : PAIR * PAIR}, at::kFloat);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task / parts * BLOCK, last = std::min(rows, first + BLOCK);
      const int64_t start = task % parts * BLOCK, stop = std::min(columns, start + BLOCK);
      for (size_t number = 0; number < groups.size(); ++number) {
        float* found = kept.mutable_data_ptr<float>();
        for (int64_t row = first; row < last; row += PAIR)
          for (int64_t column = start; column < stop; column += PAIR) {
            if (number == 0)
              sums.clear();
            else
              sums.load(found);
            for (const Piece& piece : groups[number]) {
              const int64_t stride = piece.term->left.stride(), beside = stride / DEPTH * TILE;
              const BFloat16* a = piece.term->left.at(row) + piece.first * DEPTH;
              const BFloat16* b = data(piece.term->right) + column / SIDE * beside + piece.first * TILE;
              sums.add(a, a + SIDE * stride, stride * sizeof(BFloat16), DEPTH, b, b + beside, piece.steps);
            }
            sums.store(found);
            if (number + 1 == groups.size()) {
              vfloat low{}, high{};
              if (bias != nullptr) low = load(bias + column), high = load(bias + column + LANES);
              const int64_t whole = std::min(PAIR, last - row), count = stop - column;
              for (int64_t i = 0; i < whole; ++i) {
                const float* sum = found + i * PAIR;
                put_sums(load(sum) + low, load(sum + LANES) + high, count, out + (row + i) * columns + column);
              }
            }
            if (groups.size() > 1) found += PAIR * PAIR;
          }
      }
    }
  });
}

// Rows of bfloat16 as tiles whose depth are the rows. Sums of the rows are added to `sums`, if there are any.
Tensor packed_rows(const BFloat16* from, int64_t rows, int64_t columns, bool right, float* sums) {
  const int64_t panels = 2 * pairs_of(columns), steps = steps_of(rows);
  const Tensor packed = tiles(panels, steps);
  const int64_t groups = (steps + GROUP - 1) / GROUP;
  std::vector<float> partial(sums == nullptr ? 0 : groups * columns);
  in_chunks(steps, GROUP, [&](int64_t group, int64_t begin, int64_t end) {
    for (int64_t step = begin; step < end; ++step) {
      const int64_t row = step * DEPTH;
      for (int64_t panel = 0; panel < panels; ++panel)
        pack_across(
            from + row * columns + panel * SIDE, columns, std::min(SIDE, columns - panel * SIDE),
            std::min(DEPTH, rows - row), right, data(packed) + (panel * steps + step) * TILE);
    }
    if (sums == nullptr) return;
    const int64_t last = std::min(rows, end * DEPTH);
    float* to = partial.data() + group * columns;
    int64_t column = 0;
    for (; column + LANES <= columns; column += LANES) {
      vfloat sum[4] = {};
      int64_t row = begin * DEPTH;
      for (; row + 4 <= last; row += 4)
        for (int64_t i = 0; i < 4; ++i) sum[i] += widened_16(from + (row + i) * columns + column);
      for (; row < last; ++row) sum[0] += widened_16(from + row * columns + column);
      store(to + column, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    for (; column < columns; ++column)
      for (int64_t row = begin * DEPTH; row < last; ++row) to[column] += from[row * columns + column];
  });
  if (sums != nullptr)
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t column = 0; column < columns; ++column) sums[column] += partial[group * columns + column];
  return packed;
}

// out (rows, columns) [+]= left right, of packed factors; or its transpose.
void multiply_packed(
    const Tensor& left, const Tensor& right, int64_t steps, int64_t rows, int64_t columns, bool transposed, bool add,
    float* out) {
  const int64_t block = rows * columns >= LARGE_WEIGHT ? BLOCK : 64;
  const int64_t parts = (columns + block - 1) / block, blocks = (rows + block - 1) / block;
  at::parallel_for(0, blocks * parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles sums;
    alignas(64) float found[PAIR * PAIR];
    const int64_t height = transposed ? columns : rows, width = transposed ? rows : columns;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task / parts * block, last = std::min(rows, first + block);
      const int64_t start = task % parts * block, stop = std::min(columns, start + block);
      for (int64_t row = first; row < last; row += PAIR)
        for (int64_t column = start; column < stop; column += PAIR) {
          const BFloat16* a = data(left) + row / SIDE * steps * TILE;
          const BFloat16* b = data(right) + column / SIDE * steps * TILE;
          sums.clear();
          sums.add(a, a + steps * TILE, DEPTH * sizeof(BFloat16), TILE, b, b + steps * TILE, steps);
          sums.store(found);
          if (transposed) {
            vfloat part[LANES];
            alignas(64) float turned[PAIR * PAIR];
            for (int64_t i = 0; i < 4; ++i) {
              const int64_t down = i / 2 * SIDE, right = i % 2 * SIDE;
              for (int64_t r = 0; r < SIDE; ++r) part[r] = load(found + (down + r) * PAIR + right);
              transpose(part);
              for (int64_t r = 0; r < SIDE; ++r) store(turned + (right + r) * PAIR + down, part[r]);
            }
            std::memcpy(found, turned, sizeof found);
          }
          const int64_t top = transposed ? column : row, left_edge = transposed ? row : column;
          const int64_t count = std::min(PAIR, width - left_edge);
          for (int64_t i = 0; i < std::min(PAIR, height - top); ++i) {
            float* to = out + (top + i) * width + left_edge;
            float* from = found + i * PAIR;
            if (add)
              for (int64_t c = 0; c < count; ++c) from[c] += to[c];
            put_sums(load(from), load(from + LANES), count, to);
          }
        }
    }
  });
}

#endif

bool bf16_is_served() {
#ifdef EIR_SEQ_AMX
  return has_amx();
#else
  return false;
#endif
}

void check_states(const Tensor& x) {
  TORCH_CHECK(bf16_is_served(), "this processor has no AMX");
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kBFloat16 && x.dim() > 0 && x.size(-1) > 0, "states");
}

void check_weight(const Tensor& weight, const Tensor& x) {
  check(weight, "weight");
  TORCH_CHECK(weight.dim() == 2 && weight.size(0) > 0 && weight.size(1) == x.size(-1), "weight");
}

std::vector<Tensor> bf16_linear_forward(const Tensor& x, at::TensorList weights, const Gradients& biases) {
  check_states(x);
  TORCH_CHECK(weights.size() == biases.size(), "biases");
  std::vector<Tensor> found;
#ifdef EIR_SEQ_AMX
  const int64_t in = x.size(-1), rows = x.numel() / in;
  const Rows left(x.const_data_ptr<BFloat16>(), rows, in);
  for (size_t i = 0; i < weights.size(); ++i) {
    check_weight(weights[i], x);
    const int64_t out = weights[i].size(0);
    Tensor bias;
    if (const optional<Tensor> given = biases.get(i)) {
      TORCH_CHECK(given->dim() == 1 && given->size(0) == out, "bias");
      bias = at::zeros({pairs_of(out) * PAIR}, at::kFloat);
      bias.narrow(0, 0, out).copy_(*given);
    }
    auto sizes = x.sizes().vec();
    sizes.back() = out;
    found.push_back(at::empty(sizes, x.options()));
    multiply(
        {{left, packed_weight(weights[i], true)}}, rows, out, bias.defined() ? bias.const_data_ptr<float>() : nullptr,
        data(found.back()));
  }
#endif
  return found;
}

Gradients gradients(const std::vector<Tensor>& found) {
  Gradients list;
  for (const Tensor& grad : found) list.push_back(grad.defined() ? optional<Tensor>(grad) : std::nullopt);
  return list;
}

// Gradients of x in a dtype, and in float32 of each weight and bias; none where none is wanted, or nothing came from above.
std::tuple<Tensor, Gradients, Gradients> bf16_linear_backward(
    const Gradients& grads, const Tensor& x, at::TensorList weights, at::ScalarType x_dtype, bool x_wanted,
    at::IntArrayRef weights_wanted, at::IntArrayRef biases_wanted) {
  check_states(x);
  const size_t count = weights.size();
  TORCH_CHECK(grads.size() == count && weights_wanted.size() == count && biases_wanted.size() == count, "gradients");
  Tensor x_grad;
  std::vector<Tensor> weight_grads(count), bias_grads(count);
#ifdef EIR_SEQ_AMX
  const int64_t in = x.size(-1), rows = x.numel() / in;
  std::vector<Term> terms;
  std::vector<const BFloat16*> above(count, nullptr);
  for (size_t i = 0; i < count; ++i) {
    check_weight(weights[i], x);
    const optional<Tensor> grad = grads.get(i);
    if (!grad) continue;
    const int64_t out = weights[i].size(0);
    TORCH_CHECK(grad->is_contiguous() && grad->scalar_type() == at::kBFloat16 && grad->numel() == rows * out, "gradient");
    above[i] = grad->const_data_ptr<BFloat16>();
    if (x_wanted) terms.push_back({Rows(above[i], rows, out), packed_weight(weights[i], false)});
    if (weights_wanted[i])
      weight_grads[i] = rows ? at::empty(weights[i].sizes(), at::kFloat) : at::zeros(weights[i].sizes(), at::kFloat);
    if (biases_wanted[i]) bias_grads[i] = at::zeros({out}, at::kFloat);
  }
  if (x_wanted) {
    x_grad = at::empty(x.sizes(), x.options().dtype(x_dtype));
    by_dtype(x_grad, [&](auto zero) {
      using T = decltype(zero);
      multiply(terms, rows, in, nullptr, x_grad.mutable_data_ptr<T>());
    });
    terms.clear();
  }
  const int64_t pieces = std::max<int64_t>(1, (rows + MOST_DEPTH - 1) / MOST_DEPTH);
  const int64_t depth = std::max<int64_t>(1, steps_of((rows + pieces - 1) / pieces)) * DEPTH;
  for (int64_t row = 0; row < rows; row += depth) {
    const int64_t deep = std::min(depth, rows - row);
    Tensor states[2];  // as left and as right factor
    for (size_t i = 0; i < count; ++i) {
      if (above[i] == nullptr || !(weight_grads[i].defined() || bias_grads[i].defined())) continue;
      const int64_t out = weights[i].size(0);
      // the narrower one is the left factor, whose tiles take more work
      const bool right = out <= in;
      float* sums = bias_grads[i].defined() ? bias_grads[i].mutable_data_ptr<float>() : nullptr;
      const Tensor grad = packed_rows(above[i] + row * out, deep, out, !right, sums);
      if (!weight_grads[i].defined()) continue;
      if (!states[right].defined())
        states[right] = packed_rows(x.const_data_ptr<BFloat16>() + row * in, deep, in, right, nullptr);
      float* to = weight_grads[i].mutable_data_ptr<float>();
      if (right)
        multiply_packed(grad, states[1], steps_of(deep), out, in, false, row > 0, to);
      else
        multiply_packed(states[0], grad, steps_of(deep), in, out, true, row > 0, to);
    }
  }
#endif
  return {x_grad, gradients(weight_grads), gradients(bias_grads)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("bf16_is_served() -> bool", bf16_is_served);
  m.def("bf16_linear_forward(Tensor x, Tensor[] weights, Tensor?[] biases) -> Tensor[]");
  m.def(
      "bf16_linear_backward(Tensor?[] grads, Tensor x, Tensor[] weights, ScalarType x_dtype, bool x_wanted, "
      "int[] weights_wanted, int[] biases_wanted) -> (Tensor, Tensor?[], Tensor?[])");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("bf16_linear_forward", bf16_linear_forward);
  m.impl("bf16_linear_backward", bf16_linear_backward);
}

}  // namespace eir_seq
