// Recurrences of rwkv and mamba without gradients: one pass over the tokens of a text with the states in registers.
//
// Channels are independent: a thread takes some of those of a text, so that results do not depend on the number of threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "vectors.h"

namespace eir_seq {
namespace {

using at::Tensor;

constexpr int64_t MOST_STATES = 64;  // of a channel

void check(const Tensor& x, at::IntArrayRef sizes) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.is_contiguous() && x.sizes() == sizes, "float32, contiguous, ", sizes);
}

inline vfloat absolute(vfloat x) { return larger(x, -x); }

// Calls `work(text, channel)` for the first of each `channels` channels of each text.
template <class Work>
void by_channels(int64_t texts, int64_t width, int64_t channels, Work work) {
  const int64_t blocks = (width + channels - 1) / channels;
  at::parallel_for(0, texts * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) work(unit / blocks, unit % blocks * channels);
  });
}

// Weighted sum of values and sum of weights, over exp(top).
struct Sums {
  vfloat above, below, top;
};

// The average at a time, and the sums after it. Of two weights the larger one is scaled to 1.
inline vfloat next(Sums& sums, vfloat key, vfloat value, vfloat rate, vfloat bonus) {
  const vfloat own = key + bonus, less = exp2(absolute(sums.top - own) * -LOG2E);
  const vfloat old = sums.top >= own ? all(1.0f) : less, fresh = sums.top >= own ? less : all(1.0f);
  const vfloat average = (old * sums.above + fresh * value) / (old * sums.below + fresh);
  const vfloat faded = sums.top - rate, least = exp2(absolute(faded - key) * -LOG2E);
  const vfloat kept = faded >= key ? all(1.0f) : least, added = faded >= key ? least : all(1.0f);
  sums = {kept * sums.above + added * value, kept * sums.below + added, larger(faded, key)};
  return average;
}

template <int VECTORS>
void wkv_of(
    int64_t length, int64_t width, const float* key, const float* value, const float* rate, const float* bonus,
    const float* const (&start)[3], float* average, float* const (&last)[3]) {
  Sums sums[VECTORS];
  for (int v = 0; v < VECTORS; ++v)
    sums[v] = {load(start[0] + v * LANES), load(start[1] + v * LANES), load(start[2] + v * LANES)};
  for (int64_t t = 0; t < length; ++t, key += width, value += width, average += width)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) {
      const int at = v * LANES;
      store(average + at, next(sums[v], load(key + at), load(value + at), load(rate + at), load(bonus + at)));
    }
  for (int v = 0; v < VECTORS; ++v) {
    store(last[0] + v * LANES, sums[v].above);
    store(last[1] + v * LANES, sums[v].below);
    store(last[2] + v * LANES, sums[v].top);
  }
}

// (texts, length, width), (width,), (texts, width) for the sums -> averages, and the sums after the last time.
std::tuple<Tensor, Tensor, Tensor, Tensor> wkv(
    const Tensor& key, const Tensor& value, const Tensor& rate, const Tensor& bonus, const Tensor& above,
    const Tensor& below, const Tensor& top) {
  const int64_t texts = key.size(0), length = key.size(1), width = key.size(2);
  TORCH_CHECK(width % LANES == 0, "a multiple of ", LANES);
  for (const Tensor& x : {key, value}) check(x, {texts, length, width});
  for (const Tensor& x : {rate, bonus}) check(x, {width});
  for (const Tensor& x : {above, below, top}) check(x, {texts, width});
  Tensor average = at::empty_like(value), last[3] = {at::empty_like(above), at::empty_like(below), at::empty_like(top)};
  const float *k = key.const_data_ptr<float>(), *x = value.const_data_ptr<float>();
  const float *r = rate.const_data_ptr<float>(), *b = bonus.const_data_ptr<float>();
  const float* first[3] = {above.const_data_ptr<float>(), below.const_data_ptr<float>(), top.const_data_ptr<float>()};
  float* y = average.mutable_data_ptr<float>();
  float* end[3] = {last[0].mutable_data_ptr<float>(), last[1].mutable_data_ptr<float>(), last[2].mutable_data_ptr<float>()};
  by_channels(texts, width, 4 * LANES, [&](int64_t text, int64_t channel) {
    const int64_t at = text * length * width + channel, place = text * width + channel;
    auto run = [&](auto kernel, int64_t offset) {
      const int64_t i = at + offset, j = place + offset, c = channel + offset;
      kernel(length, width, k + i, x + i, r + c, b + c, {first[0] + j, first[1] + j, first[2] + j}, y + i, {end[0] + j, end[1] + j, end[2] + j});
    };
    if (channel + 4 * LANES <= width) return run(wkv_of<4>, 0);
    for (int64_t offset = 0; channel + offset < width; offset += LANES) run(wkv_of<1>, offset);
  });
  return {average, last[0], last[1], last[2]};
}

// h_t = exp(step_t rates) h_(t-1) + step_t x_t write_t; y_t = read_t h_t, see `selective_scan`. x and step: (texts, length,
// width); rates: (size, width); write and read: (texts, length, size); start: (texts, size, width).
std::tuple<Tensor, Tensor> selective_scan(
    const Tensor& x, const Tensor& step, const Tensor& rates, const Tensor& write, const Tensor& read,
    const Tensor& start) {
  const int64_t texts = x.size(0), length = x.size(1), width = x.size(2), size = rates.size(0);
  TORCH_CHECK(width % LANES == 0 && size <= MOST_STATES, "a multiple of ", LANES, ", at most ", MOST_STATES, " states");
  for (const Tensor& given : {x, step}) check(given, {texts, length, width});
  for (const Tensor& given : {write, read}) check(given, {texts, length, size});
  check(rates, {size, width});
  check(start, {texts, size, width});
  Tensor y = at::empty_like(x), last = at::empty_like(start);
  const float *inputs = x.const_data_ptr<float>(), *steps = step.const_data_ptr<float>();
  const float *writes = write.const_data_ptr<float>(), *reads = read.const_data_ptr<float>();
  const float *fading = rates.const_data_ptr<float>(), *first = start.const_data_ptr<float>();
  float *to = y.mutable_data_ptr<float>(), *end = last.mutable_data_ptr<float>();
  by_channels(texts, width, LANES, [&](int64_t text, int64_t channel) {
    vfloat states[MOST_STATES], rate[MOST_STATES];
    for (int64_t s = 0; s < size; ++s) {
      states[s] = load(first + (text * size + s) * width + channel);
      rate[s] = load(fading + s * width + channel) * LOG2E;
    }
    for (int64_t t = 0; t < length; ++t) {
      const int64_t at = (text * length + t) * width + channel;
      const float *w = writes + (text * length + t) * size, *r = reads + (text * length + t) * size;
      const vfloat pace = load(steps + at), given = pace * load(inputs + at);
      vfloat sum{};
      for (int64_t s = 0; s < size; ++s) {
        states[s] = exp2(pace * rate[s]) * states[s] + given * w[s];
        sum += states[s] * r[s];
      }
      store(to + at, sum);
    }
    for (int64_t s = 0; s < size; ++s) store(end + (text * size + s) * width + channel, states[s]);
  });
  return {y, last};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def(
      "wkv(Tensor key, Tensor value, Tensor rate, Tensor bonus, Tensor above, Tensor below, Tensor top) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "selective_scan(Tensor x, Tensor step, Tensor rates, Tensor write, Tensor read, Tensor start) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("wkv", wkv);
  m.impl("selective_scan", selective_scan);
}

}  // namespace eir_seq
