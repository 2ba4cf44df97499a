// Attention over packed texts, forward and backward, by tiles of queries and keys (https://arxiv.org/abs/2205.14135).
//
// Scores exist for one tile at a time. The forward pass keeps the logarithm of each row's sum of exponentials, from which
// the backward pass recomputes the weights; dropout is a function of (seed, text, head, query, key), see `dropped`. One
// thread computes all of a text's head of keys, so that results do not depend on the number of threads.
#include <atomic>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "attention_backward.h"
#include "attention_forward.h"

namespace eir_seq {
namespace {

// Calls `work(unit)` for every unit, the dearest first, each in one thread; `make()` makes what a thread works with.
template <class Make>
void in_threads(const std::vector<double>& costs, Make make) {
  std::vector<int64_t> order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return costs[x] > costs[y]; });
  std::atomic<size_t> next{0};
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(order.size()));
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    auto work = make();
    for (size_t i = next++; i < order.size(); i = next++) work(order[i]);
  });
}

Additions additions_of(const Problem& p, int64_t text, int64_t head, float* distances) {
  Additions found;
  if (!p.biases.empty()) {
    found.bias = p.biases[text].const_data_ptr<float>() + head * p.biases[text].stride(0);
    found.bias_stride = p.biases[text].stride(1);
  }
  if (p.distances) {
    std::copy_n(p.distances + head * p.distance_count, p.distance_count, distances);
    std::fill_n(distances + p.distance_count, LANES, 0.0f);
    found.distances = distances + p.center;
  }
  return found;
}

int64_t padded_distances(const Problem& p) { return p.distances ? p.distance_count + LANES : 0; }

// What a thread works with.
template <class Pass>
struct Workplace {
  Scratch scratch;
  optional<Keys> keys;
  optional<Pass> pass;
  float *distances, *distance_grads;
};

double cost(const Problem& p, int64_t text) {
  return static_cast<double>(p.queries.length[text] + 1) * static_cast<double>(p.keys.length[text] + 1);
}

template <class T>
void forward(const Problem& p, Tensor& out, Tensor& log_sums, Tensor& kept_sums) {
  // more parts than texts and heads where there are too few of them for the threads: rows do not depend on each other
  const int64_t whole = p.keys.count() * p.kv_heads;
  const int64_t parts = std::max<int64_t>(1, (at::get_num_threads() + whole - 1) / std::max<int64_t>(whole, 1));
  std::vector<double> costs(whole * parts);
  for (int64_t unit = 0; unit < whole * parts; ++unit) costs[unit] = cost(p, unit / parts / p.kv_heads);
  in_threads(costs, [&] {
    auto state = std::make_shared<Workplace<Forward>>();
    state->scratch.arrange([&](Scratch& scratch) {
      state->keys.emplace(p, scratch, false);
      state->pass.emplace(p, out, log_sums, kept_sums, scratch);
      state->distances = scratch.take(padded_distances(p));
    });
    return [&p, parts, state](int64_t unit) {
      const int64_t part = unit % parts, text = unit / parts / p.kv_heads, kv_head = unit / parts % p.kv_heads;
      const int64_t blocks = (p.queries.length[text] + p.rows - 1) / p.rows;
      const int64_t first = blocks * part / parts, end = blocks * (part + 1) / parts;
      if (first == end) return;
      state->keys->pack<T>(p, text, kv_head);
      for (int64_t head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
        const Additions additions = additions_of(p, text, head, state->distances);
        for (int64_t query = first * p.rows; query < std::min(end * p.rows, p.queries.length[text]); query += p.rows)
          state->pass->rows<T>(*state->keys, additions, text, head, query, std::min(p.rows, p.queries.length[text] - query));
      }
    };
  });
}

template <class T>
void backward(
    const Problem& p, const Above& above, Tensor& query_grad, Tensor& key_grad, Tensor& value_grad,
    const std::vector<Tensor>& bias_grads, Tensor& distance_grad) {
  // the gradient of distances is a sum over texts: one thread adds what belongs to a head, in order
  const bool together = distance_grad.defined();
  const int64_t texts = p.keys.count();
  std::vector<double> costs(together ? p.kv_heads : texts * p.kv_heads, 1.0);
  if (!together)
    for (size_t unit = 0; unit < costs.size(); ++unit) costs[unit] = cost(p, static_cast<int64_t>(unit) / p.kv_heads);
  in_threads(costs, [&, together] {
    auto state = std::make_shared<Workplace<Backward>>();
    state->scratch.arrange([&](Scratch& scratch) {
      state->keys.emplace(p, scratch, true);
      state->pass.emplace(p, above, scratch);
      state->distances = scratch.take(padded_distances(p));
      state->distance_grads = scratch.take(padded_distances(p));
    });
    auto text_of = [&, state](int64_t text, int64_t kv_head) {
      state->keys->pack<T>(p, text, kv_head);
      state->pass->start<T>(*state->keys, text, kv_head, key_grad, value_grad);
      for (int64_t head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
        const Additions additions = additions_of(p, text, head, state->distances);
        float* biases = nullptr;
        if (!bias_grads.empty()) biases = bias_grads[text].mutable_data_ptr<float>() + head * bias_grads[text].stride(0);
        float* distances = nullptr;
        if (distance_grad.defined()) {
          std::fill_n(state->distance_grads, padded_distances(p), 0.0f);
          distances = state->distance_grads + p.center;
        }
        const int64_t count = p.queries.length[text];
        for (int64_t query = 0; query < count; query += p.rows)
          state->pass->rows<T>(
              *state->keys, additions, biases, p.keys.length[text], distances, text, head, query,
              std::min(p.rows, count - query), query_grad);
        if (distances) {
          float* to = distance_grad.mutable_data_ptr<float>() + head * p.distance_count;
          for (int64_t i = 0; i < p.distance_count; ++i) to[i] += state->distance_grads[i];
        }
      }
      state->pass->finish<T>(*state->keys, text, kv_head, key_grad, value_grad);
    };
    return [&p, together, texts, text_of](int64_t unit) {
      if (!together) return text_of(unit / p.kv_heads, unit % p.kv_heads);
      for (int64_t text = 0; text < texts; ++text) text_of(text, unit);
    };
  });
}

std::tuple<Tensor, Tensor, Tensor> attention_forward(
    const Tensor& query, const Tensor& key, const optional<Tensor>& value, at::IntArrayRef query_lengths,
    at::IntArrayRef key_lengths, at::TensorList biases, const optional<Tensor>& distances, int64_t center,
    const optional<Tensor>& shared, int64_t before, int64_t after, double scale, double dropout, int64_t seed,
    bool sums_wanted) {
  const Problem p(
      query, key, value, query_lengths, key_lengths, biases, distances, center, shared, before, after, scale, dropout, seed);
  Tensor out = at::empty(query.sizes(), query.options());
  Tensor log_sums = at::empty({query.size(0), p.heads}, query.options().dtype(at::kFloat)), kept_sums;
  if (sums_wanted) kept_sums = at::empty(log_sums.sizes(), log_sums.options());
  if (query.scalar_type() == at::kBFloat16)
    forward<c10::BFloat16>(p, out, log_sums, kept_sums);
  else
    forward<float>(p, out, log_sums, kept_sums);
  return {out, log_sums, kept_sums};
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>, Tensor> attention_backward(
    const Tensor& grad, const Tensor& out, const Tensor& log_sums, const Tensor& query, const Tensor& key,
    const optional<Tensor>& value, at::IntArrayRef query_lengths, at::IntArrayRef key_lengths, at::TensorList biases,
    const optional<Tensor>& distances, int64_t center, const optional<Tensor>& shared, int64_t before, int64_t after,
    double scale, double dropout, int64_t seed, bool bias_wanted, const optional<Tensor>& sums_grad,
    const optional<Tensor>& sums, bool others) {
  const Problem p(
      query, key, value, query_lengths, key_lengths, biases, distances, center, shared, before, after, scale, dropout, seed);
  TORCH_CHECK(grad.is_contiguous() && out.is_contiguous() && grad.sizes() == query.sizes(), "gradient");
  TORCH_CHECK(!sums_grad || (sums && sums_grad->is_contiguous() && sums_grad->sizes() == log_sums.sizes()), "sums");
  const Above above{grad, out, log_sums, sums_grad, sums, others};
  Tensor query_grad = at::empty(query.sizes(), query.options()), key_grad = at::empty(key.sizes(), key.options());
  Tensor value_grad, distance_grad;
  if (value) value_grad = at::empty(value->sizes(), value->options());
  std::vector<Tensor> bias_grads;
  if (bias_wanted)
    for (const Tensor& bias : biases) bias_grads.push_back(at::zeros(bias.sizes(), bias.options()));
  if (bias_wanted && distances)
    distance_grad = at::zeros(distances->sizes(), distances->options());
  if (query.scalar_type() == at::kBFloat16)
    backward<c10::BFloat16>(p, above, query_grad, key_grad, value_grad, bias_grads, distance_grad);
  else
    backward<float>(p, above, query_grad, key_grad, value_grad, bias_grads, distance_grad);
  return {query_grad, key_grad, value_grad, bias_grads, distance_grad};
}

}  // namespace

#define EIR_SEQ_PROBLEM                                                                                         \
  "Tensor query, Tensor key, Tensor? value, int[] query_lengths, int[] key_lengths, Tensor[] biases, "              \
  "Tensor? distances, int center, Tensor? shared, int before, int after, float scale, float dropout, int seed"

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("attention_forward(" EIR_SEQ_PROBLEM ", bool sums_wanted) -> (Tensor, Tensor, Tensor)");
  m.def(
      "attention_backward(Tensor grad, Tensor out, Tensor log_sums, " EIR_SEQ_PROBLEM
      ", bool bias_wanted, Tensor? sums_grad, Tensor? sums, bool others) -> (Tensor, Tensor, Tensor, Tensor[], Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("attention_forward", attention_forward);
  m.impl("attention_backward", attention_backward);
}

}  // namespace eir_seq
