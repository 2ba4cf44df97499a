// Steps of decoding: a list of operations on fixed buffers, a row for each text or beam, which is run once per token.
#include <functional>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include "activations.h"
#include "few_rows.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t WIDEST_HEAD = 256;
constexpr int64_t FEW_ROWS = 8;  // see `MOST_ROWS` in eir_seq.native.decoding

// What differs from step to step: tensors, and the columns of keys that are there after it, its own from `first` on.
struct Step {
  const std::vector<Tensor>& inputs;
  int64_t first, columns;

  // A tensor that may be left out, by an empty one or a negative number.
  const Tensor* input(int64_t number) const {
    if (number < 0 || inputs[number].numel() == 0) return nullptr;
    TORCH_CHECK(inputs[number].scalar_type() == at::kFloat && inputs[number].stride(-1) == 1, "an input");
    return &inputs[number];
  }
};

void check(const Tensor& x, int64_t dims, const char* name) {
  TORCH_CHECK(x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == dims, name);
  TORCH_CHECK(x.numel() > 0 && x.stride(-1) == 1, name);
}

Rows rows_of(const Tensor& x) { return {x.mutable_data_ptr<float>(), x.stride(0), x.size(0)}; }

// Attention of a token per row to what is kept of earlier ones, (2, texts, shared heads, room, channels).
//
// Rows of a text side by side are its beams, which share its keys. x: own heads of queries, and where they are kept
// (`grows`), shared heads of keys and of values after them.
struct Attend {
  Tensor x, y;
  int64_t kept, added, rotation;  // numbers of inputs: see above; what is added to scores; matrices that rotate heads
  int64_t own, shared, channels;
  float scale;
  bool grows;

  void operator()(const Step& step) const {
    const Tensor& store = step.inputs[kept];
    TORCH_CHECK(store.is_contiguous() && store.dim() == 5 && store.size(2) == shared && store.size(4) == channels, "keys");
    if (const Tensor* more = step.input(added)) TORCH_CHECK(more->dim() == 4, "what is added");
    if (const Tensor* turns = step.input(rotation)) TORCH_CHECK(turns->stride(-2) == channels, "rotations");
    const int64_t texts = store.size(1), beams = x.size(0) / texts, columns = grows ? step.columns : store.size(3);
    TORCH_CHECK(columns <= store.size(3) && texts * beams == x.size(0), "keys");
    const int64_t grain = std::max<int64_t>(1, WORTH / (2 * beams * (own / shared) * columns * channels));
    at::parallel_for(0, texts * shared, grain, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(columns + LANES);
      for (int64_t task = begin; task < end; ++task) head(step, store, task / shared, task % shared, beams, columns, scores.data());
    });
  }

  // The queries of a text that share a head of keys.
  void head(
      const Step& step, const Tensor& store, int64_t text, int64_t shared_head, int64_t beams, int64_t columns,
      float* scores) const {
    const int64_t groups = own / shared, room = store.size(3) * channels;
    float* keys = store.mutable_data_ptr<float>() + (text * shared + shared_head) * room;
    float* values = keys + store.stride(0);
    const Rows from = rows_of(x), to = rows_of(y);
    const Tensor *rotations = step.input(rotation), *more = step.input(added);
    auto turned = [&](int64_t row, int64_t number, float* out) {
      const float* head = from.row(row) + number * channels;
      if (rotations)
        rotate(head, rotations->const_data_ptr<float>() + (rotations->dim() == 3 ? row * rotations->stride(0) : 0), out);
      else
        std::copy_n(head, channels, out);
    };
    for (int64_t beam = 0; grows && beam < beams; ++beam) {
      const int64_t row = text * beams + beam, at = (step.first + beam) * channels;
      turned(row, own + shared_head, keys + at);
      std::copy_n(from.row(row) + (own + shared + shared_head) * channels, channels, values + at);
    }
    float query[WIDEST_HEAD];
    for (int64_t number = 0; number < beams * groups; ++number) {
      const int64_t row = text * beams + number / groups, place = shared_head * groups + number % groups;
      turned(row, place, query);
      score(query, keys, columns, scores);
      if (more) {
        const float* add = more->const_data_ptr<float>() + (more->size(0) > 1 ? text * more->stride(0) : 0) +
            (more->size(1) > 1 ? shared_head * more->stride(1) : 0) + (more->size(2) > 1 ? number * more->stride(2) : 0);
        for (int64_t c = 0; c < columns; ++c) scores[c] += add[c];
      }
      mix(scores, values, columns, to.row(row) + place * channels);
    }
  }

  // out = head x (channels, channels)
  void rotate(const float* head, const float* matrix, float* out) const {
    for (int64_t c = 0; c < channels; c += LANES) {
      vfloat total{};
      for (int64_t k = 0; k < channels; ++k) total += head[k] * load(matrix + k * channels + c);
      store(out + c, total);
    }
  }

  // The scores of a multiple of 16 columns; those beyond the last one are of no use.
  void score(const float* query, const float* keys, int64_t columns, float* scores) const {
    for (int64_t column = 0; column < columns; column += LANES) {
      vfloat total[LANES] = {};
      const float* key[LANES];
      for (int64_t i = 0; i < LANES; ++i) key[i] = keys + std::min(column + i, columns - 1) * channels;
      for (int64_t c = 0; c < channels; c += LANES) {
        const vfloat own_part = load(query + c);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) total[i] += own_part * load(key[i] + c);
      }
      store(scores + column, sums(total) * scale);
    }
  }

  // The softmax of scores, and with its weights the sum of values.
  void mix(float* scores, const float* values, int64_t columns, float* out) const {
    const int64_t whole = (columns + LANES - 1) / LANES * LANES;
    std::fill(scores + columns, scores + whole, -INF);
    vfloat most = all(-INF);
    for (int64_t c = 0; c < whole; c += LANES) most = larger(most, load(scores + c));
    const float highest = maximum(most);
    vfloat total{};
    for (int64_t c = 0; c < whole; c += LANES) {
      const vfloat weight = exp2((load(scores + c) - highest) * LOG2E);
      total += weight;
      store(scores + c, weight);
    }
    const float by = 1.0f / sum(total);
    int64_t c = 0;
    for (; c + 4 * LANES <= channels; c += 4 * LANES) mix_part<4>(scores, values + c, columns, by, out + c);
    for (; c < channels; c += LANES) mix_part<1>(scores, values + c, columns, by, out + c);
  }

  template <int N>
  void mix_part(const float* weights, const float* values, int64_t columns, float by, float* out) const {
    vfloat even[N] = {}, odd[N] = {};
    int64_t column = 0;
    for (; column + 2 <= columns; column += 2, values += 2 * channels)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        even[n] += weights[column] * load(values + n * LANES);
        odd[n] += weights[column + 1] * load(values + channels + n * LANES);
      }
    if (column < columns)
      for (int n = 0; n < N; ++n) even[n] += weights[column] * load(values + n * LANES);
    for (int n = 0; n < N; ++n) store(out + n * LANES, (even[n] + odd[n]) * by);
  }
};

// Buffers are (rows, width) float32, a multiple of 16 wide but for scores of tokens; see `eir_seq.native.decoding`.
class DecodingProgram : public torch::CustomClassHolder {
 public:
  // y = x W^T + b; many rows are better served by a weight that is transposed in memory.
  void product(const Tensor& x, const Tensor& weight, const optional<Tensor>& bias, const Tensor& y) {
    check(x, 2, "x");
    check(y, 2, "y");
    TORCH_CHECK(weight.dim() == 2 && weight.size(1) == x.size(1) && weight.size(0) == y.size(1), "weight");
    TORCH_CHECK(!bias || (bias->is_contiguous() && bias->numel() == y.size(1) && bias->scalar_type() == at::kFloat), "bias");
    if (x.size(0) > FEW_ROWS) {
      const Tensor by_column = weight.t();
      operations_.push_back([=](const Step&) {
        Tensor out = y;
        if (bias)
          at::addmm_out(out, *bias, x, by_column);
        else
          at::mm_out(out, x, by_column);
      });
      return;
    }
    check(weight, 2, "weight");
    TORCH_CHECK(x.size(1) % LANES == 0, "a multiple of ", LANES, " channels");
    operations_.push_back([=](const Step&) {
      eir_seq::product(rows_of(x), rows_of(weight), bias ? bias->const_data_ptr<float>() : nullptr, rows_of(y), x.size(1));
    });
  }

  // Layer norm, or, not `centered`, root-mean-square norm.
  void norm(
      const Tensor& x, const optional<Tensor>& weight, const optional<Tensor>& bias, double eps, bool centered,
      const Tensor& y) {
    const int64_t width = x.size(1);
    check(x, 2, "x");
    check(y, 2, "y");
    for (const auto* part : {&weight, &bias})
      TORCH_CHECK(!*part || ((*part)->is_contiguous() && (*part)->numel() == width && (*part)->scalar_type() == at::kFloat), "norm");
    TORCH_CHECK(x.sizes() == y.sizes() && width % LANES == 0, "norm");
    operations_.push_back([=](const Step&) {
      const float *w = weight ? weight->const_data_ptr<float>() : nullptr, *b = bias ? bias->const_data_ptr<float>() : nullptr;
      const Rows from = rows_of(x), to = rows_of(y);
      for (int64_t row = 0; row < from.count; ++row) {
        const float* own = from.row(row);
        vfloat total{}, squares{};
        if (centered)
          for (int64_t c = 0; c < width; c += LANES) total += load(own + c);
        const float mean = sum(total) / static_cast<float>(width);
        for (int64_t c = 0; c < width; c += LANES) {
          const vfloat apart = load(own + c) - mean;
          squares += apart * apart;
        }
        const float by = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + static_cast<float>(eps));
        for (int64_t c = 0; c < width; c += LANES) {
          vfloat found = (load(own + c) - mean) * by;
          if (w) found *= load(w + c);
          if (b) found += load(b + c);
          store(to.row(row) + c, found);
        }
      }
    });
  }

  // y = x + other, rows of which may be one for all.
  void sum_of(const Tensor& x, const Tensor& other, const Tensor& y) {
    check(other, 2, "other");
    TORCH_CHECK(other.size(1) == x.size(1) && (other.size(0) == x.size(0) || other.size(0) == 1), "other");
    const Tensor more = other.expand_as(x);
    each(x, y, [=](int64_t row, int64_t width, const float* from, float* to) {
      const float* add = more.const_data_ptr<float>() + row * more.stride(0);
      for (int64_t c = 0; c < width; ++c) to[c] = from[c] + add[c];
    });
  }

  void scaled(const Tensor& x, double by, const Tensor& y) {
    const float factor = static_cast<float>(by);
    each(x, y, [=](int64_t, int64_t width, const float* from, float* to) {
      for (int64_t c = 0; c < width; ++c) to[c] = from[c] * factor;
    });
  }

  // y = f(x), or f(x) factor
  void activated(const Tensor& x, const optional<Tensor>& factor, std::string name, const Tensor& y) {
    TORCH_CHECK(x.size(1) % LANES == 0 && (!factor || factor->sizes() == x.sizes()), "x");
    if (factor) check(*factor, 2, "factor");
    by_name(name, [&](auto f) {
      each(x, y, [=](int64_t row, int64_t width, const float* from, float* to) {
        const float* by = factor ? rows_of(*factor).row(row) : nullptr;
        for (int64_t c = 0; c < width; c += LANES) {
          const vfloat value = f(load(from + c)).value;
          store(to + c, by ? value * load(by + c) : value);
        }
      });
    });
  }

  // See `Attend`.
  void attend(
      const Tensor& x, const Tensor& y, int64_t kept, int64_t added, int64_t rotation, int64_t own, int64_t shared,
      int64_t channels, double scale, bool grows) {
    check(x, 2, "x");
    check(y, 2, "y");
    TORCH_CHECK(channels % LANES == 0 && channels <= WIDEST_HEAD && own % shared == 0, "heads");
    TORCH_CHECK(x.size(1) == (grows ? own + 2 * shared : own) * channels && y.size(1) == own * channels, "heads");
    operations_.push_back(Attend{x, y, kept, added, rotation, own, shared, channels, static_cast<float>(scale), grows});
  }

  void run(std::vector<Tensor> inputs, int64_t first, int64_t columns) {
    const Step step{inputs, first, columns};
    for (const auto& operation : operations_) operation(step);
  }

 private:
  template <class Work>
  void each(const Tensor& x, const Tensor& y, Work work) {
    check(x, 2, "x");
    check(y, 2, "y");
    TORCH_CHECK(x.sizes() == y.sizes(), "y");
    operations_.push_back([=](const Step&) {
      const Rows from = rows_of(x), to = rows_of(y);
      for (int64_t row = 0; row < from.count; ++row) work(row, x.size(1), from.row(row), to.row(row));
    });
  }

  std::vector<std::function<void(const Step&)>> operations_;
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.class_<DecodingProgram>("DecodingProgram")
      .def(torch::init<>())
      .def("product", &DecodingProgram::product)
      .def("norm", &DecodingProgram::norm)
      .def("sum_of", &DecodingProgram::sum_of)
      .def("scaled", &DecodingProgram::scaled)
      .def("activated", &DecodingProgram::activated)
      .def("attend", &DecodingProgram::attend)
      .def("run", &DecodingProgram::run);
}

}  // namespace eir_seq
