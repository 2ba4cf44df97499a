// The sum of rows of several tables: token, position and segment embeddings in one pass, and one for their gradients.
#include <vector>

#include <ATen/core/List.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "elementwise.h"

namespace eir_seq {
namespace {

using at::Tensor;

constexpr int64_t ROWS = 256;  // of the sum, that a thread computes at a time

void check_ids(const Tensor& ids, int64_t count, int64_t rows) {
  TORCH_CHECK(ids.is_contiguous() && ids.scalar_type() == at::kLong && ids.numel() == count, "ids");
  const int64_t* id = ids.const_data_ptr<int64_t>();
  uint64_t largest = 0;  // of negative ones, too
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint64_t>(id[i]));
  TORCH_CHECK_INDEX(count == 0 || largest < static_cast<uint64_t>(rows), "index out of range in self");
}

// tables (rows, width) and ids (...) of each -> (..., width)
Tensor embeddings_forward(const std::vector<Tensor>& tables, const std::vector<Tensor>& ids) {
  TORCH_CHECK(!tables.empty() && tables.size() == ids.size(), "ids");
  const int64_t width = tables[0].size(1), count = ids[0].numel();
  std::vector<const float*> from;
  std::vector<const int64_t*> places;
  for (size_t i = 0; i < tables.size(); ++i) {
    const Tensor& table = tables[i];
    TORCH_CHECK(table.is_contiguous() && table.scalar_type() == at::kFloat && table.dim() == 2, "table");
    TORCH_CHECK(table.size(1) == width && width % LANES == 0, "a multiple of ", LANES, " channels");
    check_ids(ids[i], count, table.size(0));
    from.push_back(table.const_data_ptr<float>());
    places.push_back(ids[i].const_data_ptr<int64_t>());
  }
  std::vector<int64_t> shape = ids[0].sizes().vec();
  shape.push_back(width);
  Tensor out = at::empty(shape, tables[0].options());
  float* to = out.mutable_data_ptr<float>();
  in_chunks(count, ROWS, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t c = 0; c < width; c += LANES) {
        vfloat total = load(from[0] + places[0][row] * width + c);
        for (size_t i = 1; i < from.size(); ++i) total += load(from[i] + places[i][row] * width + c);
        store(to + row * width + c, total);
      }
  });
  return out;
}

// Gradients of tables with `rows` rows; those of the rows `padding` stay zero (-1: there is none).
std::vector<Tensor> embeddings_backward(
    const Tensor& grad, const std::vector<Tensor>& ids, const std::vector<int64_t>& rows, const std::vector<int64_t>& padding) {
  TORCH_CHECK(ids.size() == rows.size() && ids.size() == padding.size() && !ids.empty(), "ids");
  const int64_t width = grad.size(-1), count = ids[0].numel();
  TORCH_CHECK(grad.is_contiguous() && grad.scalar_type() == at::kFloat && grad.numel() == count * width, "gradient");
  TORCH_CHECK(width % LANES == 0, "a multiple of ", LANES, " channels");
  std::vector<Tensor> found;
  std::vector<float*> to;
  std::vector<const int64_t*> places;
  for (size_t i = 0; i < ids.size(); ++i) {
    check_ids(ids[i], count, rows[i]);
    found.push_back(at::zeros({rows[i], width}, grad.options()));
    to.push_back(found[i].mutable_data_ptr<float>());
    places.push_back(ids[i].const_data_ptr<int64_t>());
  }
  const float* from = grad.const_data_ptr<float>();
  // Threads divide channels, so that each number is a sum in the order of the tokens, whatever their number.
  at::parallel_for(0, width / LANES, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < count; ++row)
      for (size_t i = 0; i < to.size(); ++i) {
        const int64_t place = places[i][row];
        if (place == padding[i]) continue;
        for (int64_t c = begin * LANES; c < end * LANES; c += LANES) {
          float* sum = to[i] + place * width + c;
          store(sum, load(sum) + load(from + row * width + c));
        }
      }
  });
  return found;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("embeddings_forward(Tensor[] tables, Tensor[] ids) -> Tensor");
  m.def("embeddings_backward(Tensor grad, Tensor[] ids, int[] rows, int[] padding) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("embeddings_forward", embeddings_forward);
  m.impl("embeddings_backward", embeddings_backward);
}

}  // namespace eir_seq
