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

#include "tiles.h"

namespace eir_seq {
namespace {

constexpr int64_t GROUP = 8;

// ------------------------------------------------------------------------------------------------------------ forward

struct Forward {
  const Problem& p;
  Tensor &out, &log_sums;
  float *queries, *scores, *mixed, *most, *total, *factor;  // (rows, channels), (rows, keys), (rows, channels), (rows,) x 3

  Forward(const Problem& problem, Tensor& out_, Tensor& log_sums_, Scratch& scratch)
      : p(problem), out(out_), log_sums(log_sums_) {
    queries = scratch.take(QUERIES * LD_CHANNELS);
    scores = scratch.take(QUERIES * LD_KEYS);
    mixed = scratch.take(QUERIES * LD_CHANNELS);
    most = scratch.take(QUERIES);
    total = scratch.take(QUERIES);
    factor = scratch.take(QUERIES);
  }

  template <class T>
  void rows(const Keys& keys, const Additions& additions, int64_t text, int64_t head, int64_t query, int64_t count) {
    const Tensor& q = p.query;
    const int64_t token = p.queries.start[text] + query;
    pack_rows(q.const_data_ptr<T>() + token * q.stride(0) + head * q.stride(1), q.stride(0), count, p, p.scale * LOG2E, queries, LD_CHANNELS);
    std::fill(most, most + QUERIES, -INF);
    std::fill(total, total + QUERIES, 0.0f);
    bool first = true;
    for_tiles(p, keys, p.queries.length[text], query, count, [&](const Tile& t) {
      score(p, keys, additions, t, queries, scores);
      rescale(t, first);
      if (p.threshold)
        weigh<true>(t, text, head);
      else
        weigh<false>(t, text, head);
      product<false, LD_KEYS>(
          t.rows, p.padded_channels / LANES, t.columns, scores, keys.values + t.column * p.padded_channels,
          p.padded_channels, mixed, LD_CHANNELS, !first);
      first = false;
    });
    for (int64_t i = 0; i < count; ++i) {
      const bool sees = total[i] != 0;  // also NaN
      T* to = out.mutable_data_ptr<T>() + ((token + i) * p.heads + head) * p.channels;
      float* row = mixed + i * LD_CHANNELS;
      if (!sees) std::fill(row, row + p.channels, 0.0f);  // nothing may have been added up
      narrow(row, to, p.channels, sees ? 1.0f / (total[i] * p.keep()) : 0.0f);
      log_sums.mutable_data_ptr<float>()[(token + i) * p.heads + head] = sees ? most[i] + std::log2(total[i]) : INF;
    }
  }

 private:
  // Earlier sums under the largest score that is now known.
  void rescale(const Tile& t, bool first) {
    const int64_t vectors = t.vectors();
    for (int64_t i = 0; i < t.rows; ++i) {
      const float* row = scores + i * LD_KEYS;
      vfloat largest = load(row);
      for (int64_t v = 1; v < vectors; ++v) largest = larger(largest, load(row + v * LANES));
      factor[i] = most[i];
      most[i] = std::max(most[i], maximum(largest));
    }
    if (first) return;
    for (int64_t i = 0; i < t.rows; ++i) factor[i] = most[i] == factor[i] ? 0.0f : factor[i] - most[i];
    for (int64_t i = 0; i < QUERIES; i += LANES) {
      store(factor + i, exp2(load(factor + i)));
      store(total + i, load(total + i) * load(factor + i));
    }
    for (int64_t i = 0; i < t.rows; ++i) {
      if (factor[i] == 1.0f) continue;
      float* row = mixed + i * LD_CHANNELS;
      for (int64_t c = 0; c < p.padded_channels; c += LANES) store(row + c, load(row + c) * factor[i]);
    }
  }

  // Scores -> exponentials, whose sums are added up; then dropout.
  template <bool DROPOUT>
  void weigh(const Tile& t, int64_t text, int64_t head) {
    const int64_t vectors = t.vectors();
    for (int64_t i = 0; i < t.rows; i += GROUP) {
      const int count = static_cast<int>(std::min(GROUP, t.rows - i));
      vfloat sums[GROUP], largest[GROUP];
      for (int r = 0; r < count; ++r) {
        sums[r] = vfloat{};
        largest[r] = all(most[i + r] == -INF ? 0.0f : most[i + r]);
      }
      for (int64_t v = 0; v < vectors; ++v) {
        if (DROPOUT) {
          const Dropped dropped(p, t, text, head, i, v);
          for (int r = 0; r < count; ++r) {
            float* at = scores + (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(at) - largest[r]);
            sums[r] += weight;
            store(at, dropped.zeroed(r, weight));
          }
        } else {
          for (int r = 0; r < count; ++r) {
            float* at = scores + (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(at) - largest[r]);
            sums[r] += weight;
            store(at, weight);
          }
        }
      }
      for (int r = 0; r < count; ++r) total[i + r] += sum(sums[r]);
    }
  }
};

// ----------------------------------------------------------------------------------------------------------- backward

struct Backward {
  const Problem& p;
  const Tensor &grad, &out, &log_sums;
  float *queries, *grads, *weights, *slopes, *query_grads, *deltas, *logs;
  float *key_grads, *value_grads;  // (width, padded channels)

  Backward(const Problem& problem, const Tensor& grad_, const Tensor& out_, const Tensor& log_sums_, Scratch& scratch)
      : p(problem), grad(grad_), out(out_), log_sums(log_sums_) {
    queries = scratch.take(QUERIES * LD_CHANNELS);
    grads = scratch.take(QUERIES * LD_CHANNELS);
    weights = scratch.take(QUERIES * LD_KEYS);
    slopes = scratch.take(QUERIES * LD_KEYS);
    query_grads = scratch.take(QUERIES * LD_CHANNELS);
    deltas = scratch.take(QUERIES);
    logs = scratch.take(QUERIES);
    key_grads = scratch.take(Keys::most(p) * p.padded_channels);
    value_grads = scratch.take(Keys::most(p) * p.padded_channels);
  }

  void start(const Keys& keys) {
    std::fill(key_grads, key_grads + keys.width * p.padded_channels, 0.0f);
    std::fill(value_grads, value_grads + keys.width * p.padded_channels, 0.0f);
  }

  template <class T>
  void rows(
      const Keys& keys, const Additions& additions, float* bias_grads, int64_t bias_stride, float* distance_grads,
      int64_t text, int64_t head, int64_t query, int64_t count, Tensor& query_grad) {
    const Tensor& q = p.query;
    const int64_t token = p.queries.start[text] + query;
    pack_rows(q.const_data_ptr<T>() + token * q.stride(0) + head * q.stride(1), q.stride(0), count, p, p.scale * LOG2E, queries, LD_CHANNELS);
    pack_rows(grad.const_data_ptr<T>() + (token * p.heads + head) * p.channels, p.heads * p.channels, count, p, 1, grads, LD_CHANNELS);
    pack_rows(out.const_data_ptr<T>() + (token * p.heads + head) * p.channels, p.heads * p.channels, count, p, 1, query_grads, LD_CHANNELS);
    for (int64_t i = 0; i < count; ++i) {
      vfloat products{};
      for (int64_t c = 0; c < p.padded_channels; c += LANES)
        products += load(grads + i * LD_CHANNELS + c) * load(query_grads + i * LD_CHANNELS + c);
      deltas[i] = sum(products);
      logs[i] = log_sums.const_data_ptr<float>()[(token + i) * p.heads + head];
    }
    bool first = true;
    for_tiles(p, keys, p.queries.length[text], query, count, [&](const Tile& t) {
      score(p, keys, additions, t, queries, weights);
      product<false, LD_CHANNELS>(
          t.rows, t.vectors(), p.padded_channels, grads, keys.value_columns + t.column, keys.width, slopes, LD_KEYS, false);
      if (p.threshold)
        slope<true>(t, text, head);
      else
        slope<false>(t, text, head);
      if (bias_grads) add_bias(t, bias_grads, bias_stride);
      if (distance_grads) add_distances(t, distance_grads);
      const int64_t at = t.column * p.padded_channels, vectors = p.padded_channels / LANES;
      product<true, LD_KEYS>(
          t.columns, vectors, t.rows, weights, grads, LD_CHANNELS, value_grads + at, p.padded_channels, true);
      product<true, LD_KEYS>(
          t.columns, vectors, t.rows, slopes, queries, LD_CHANNELS, key_grads + at, p.padded_channels, true);
      product<false, LD_KEYS>(
          t.rows, vectors, t.columns, slopes, keys.rows + at, p.padded_channels, query_grads, LD_CHANNELS, !first);
      first = false;
    });
    for (int64_t i = 0; i < count; ++i) {
      float* row = query_grads + i * LD_CHANNELS;
      if (first) std::fill(row, row + p.channels, 0.0f);
      narrow(row, query_grad.mutable_data_ptr<T>() + ((token + i) * p.heads + head) * p.channels, p.channels, p.scale);
    }
  }

  template <class T>
  void finish(const Keys& keys, int64_t text, int64_t head, Tensor& key_grad, Tensor& value_grad) {
    write<T>(keys, text, head, key_grads, LN2, key_grad);  // queries are packed for logarithms to base 2
    write<T>(keys, text, head, value_grads, 1, value_grad);
  }

 private:
  // Scores and gradients of the dropped weights -> dropped weights and gradients of the scores.
  template <bool DROPOUT>
  void slope(const Tile& t, int64_t text, int64_t head) {
    const int64_t vectors = t.vectors();
    const float by = 1.0f / p.keep();
    for (int64_t i = 0; i < t.rows; i += GROUP) {
      const int count = static_cast<int>(std::min(GROUP, t.rows - i));
      for (int64_t v = 0; v < vectors; ++v) {
        if (DROPOUT) {
          const Dropped dropped(p, t, text, head, i, v);
          for (int r = 0; r < count; ++r) {
            const int64_t at = (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(weights + at) - logs[i + r]);
            const vfloat above = dropped.zeroed(r, load(slopes + at) * by);
            store(slopes + at, weight * (above - deltas[i + r]));
            store(weights + at, dropped.zeroed(r, weight * by));
          }
        } else {
          for (int r = 0; r < count; ++r) {
            const int64_t at = (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(weights + at) - logs[i + r]);
            store(slopes + at, weight * (load(slopes + at) - deltas[i + r]));
            store(weights + at, weight);
          }
        }
      }
    }
  }

  void add_bias(const Tile& t, float* to, int64_t stride) const {
    for (int64_t i = 0; i < t.rows; ++i) {
      float* near = to + (t.query + i) * stride + t.column;
      const float* row = slopes + i * LD_KEYS;
      for (int64_t j = 0; j < t.columns; ++j) near[j] += row[j];
    }
  }

  void add_distances(const Tile& t, float* to) const {
    for (int64_t i = 0; i < t.rows; ++i) {
      float* near = to + t.column - (t.position + i);
      const float* row = slopes + i * LD_KEYS;
      for (int64_t v = 0; v < t.vectors(); ++v) store(near + v * LANES, load(near + v * LANES) + load(row + v * LANES));
    }
  }

  template <class T>
  void write(const Keys& keys, int64_t text, int64_t head, float* grads_, float by, Tensor& to) const {
    for (int64_t j = 0; j < keys.shares; ++j)
      for (int64_t c = 0; c < p.padded_channels; ++c)
        grads_[keys.places[j] * p.padded_channels + c] += grads_[(keys.shares_at + j) * p.padded_channels + c];
    T* at = to.mutable_data_ptr<T>() + (p.keys.start[text] * p.kv_heads + head) * p.channels;
    for (int64_t j = 0; j < keys.count; ++j, at += p.kv_heads * p.channels)
      narrow(grads_ + j * p.padded_channels, at, p.channels, by);
  }
};

// ------------------------------------------------------------------------------------------------------------- threads

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
void forward(const Problem& p, Tensor& out, Tensor& log_sums) {
  // more parts than texts and heads where there are too few of them for the threads: rows do not depend on each other
  const int64_t whole = p.keys.count() * p.kv_heads;
  const int64_t parts = std::max<int64_t>(1, (at::get_num_threads() + whole - 1) / std::max<int64_t>(whole, 1));
  std::vector<double> costs(whole * parts);
  for (int64_t unit = 0; unit < whole * parts; ++unit) costs[unit] = cost(p, unit / parts / p.kv_heads);
  in_threads(costs, [&] {
    auto state = std::make_shared<Workplace<Forward>>();
    state->scratch.arrange([&](Scratch& scratch) {
      state->keys.emplace(p, scratch, false);
      state->pass.emplace(p, out, log_sums, scratch);
      state->distances = scratch.take(padded_distances(p));
    });
    return [&p, parts, state](int64_t unit) {
      const int64_t part = unit % parts, text = unit / parts / p.kv_heads, kv_head = unit / parts % p.kv_heads;
      const int64_t blocks = (p.queries.length[text] + QUERIES - 1) / QUERIES;
      const int64_t first = blocks * part / parts, end = blocks * (part + 1) / parts;
      if (first == end) return;
      state->keys->pack<T>(p, text, kv_head);
      for (int64_t head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
        const Additions additions = additions_of(p, text, head, state->distances);
        for (int64_t query = first * QUERIES; query < std::min(end * QUERIES, p.queries.length[text]); query += QUERIES)
          state->pass->rows<T>(*state->keys, additions, text, head, query, std::min(QUERIES, p.queries.length[text] - query));
      }
    };
  });
}

template <class T>
void backward(
    const Problem& p, const Tensor& grad, const Tensor& out, const Tensor& log_sums, Tensor& query_grad, Tensor& key_grad,
    Tensor& value_grad, const std::vector<Tensor>& bias_grads, Tensor& distance_grad) {
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
      state->pass.emplace(p, grad, out, log_sums, scratch);
      state->distances = scratch.take(padded_distances(p));
      state->distance_grads = scratch.take(padded_distances(p));
    });
    auto text_of = [&, state](int64_t text, int64_t kv_head) {
      state->keys->pack<T>(p, text, kv_head);
      state->pass->start(*state->keys);
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
        for (int64_t query = 0; query < count; query += QUERIES)
          state->pass->rows<T>(
              *state->keys, additions, biases, p.keys.length[text], distances, text, head, query,
              std::min(QUERIES, count - query), query_grad);
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

std::tuple<Tensor, Tensor> attention_forward(
    const Tensor& query, const Tensor& key, const Tensor& value, at::IntArrayRef query_lengths,
    at::IntArrayRef key_lengths, at::TensorList biases, const optional<Tensor>& distances, int64_t center,
    const optional<Tensor>& shared, int64_t before, int64_t after, double scale, double dropout, int64_t seed) {
  const Problem p(
      query, key, value, query_lengths, key_lengths, biases, distances, center, shared, before, after, scale, dropout, seed);
  Tensor out = at::empty(query.sizes(), query.options());
  Tensor log_sums = at::empty({query.size(0), p.heads}, query.options().dtype(at::kFloat));
  if (query.scalar_type() == at::kBFloat16)
    forward<c10::BFloat16>(p, out, log_sums);
  else
    forward<float>(p, out, log_sums);
  return {out, log_sums};
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>, Tensor> attention_backward(
    const Tensor& grad, const Tensor& out, const Tensor& log_sums, const Tensor& query, const Tensor& key,
    const Tensor& value, at::IntArrayRef query_lengths, at::IntArrayRef key_lengths, at::TensorList biases,
    const optional<Tensor>& distances, int64_t center, const optional<Tensor>& shared, int64_t before, int64_t after,
    double scale, double dropout, int64_t seed, bool bias_wanted) {
  const Problem p(
      query, key, value, query_lengths, key_lengths, biases, distances, center, shared, before, after, scale, dropout, seed);
  TORCH_CHECK(grad.is_contiguous() && out.is_contiguous() && grad.sizes() == query.sizes(), "gradient");
  Tensor query_grad = at::empty(query.sizes(), query.options()), key_grad = at::empty(key.sizes(), key.options());
  Tensor value_grad = at::empty(value.sizes(), value.options()), distance_grad;
  std::vector<Tensor> bias_grads;
  if (bias_wanted)
    for (const Tensor& bias : biases) bias_grads.push_back(at::zeros(bias.sizes(), bias.options()));
  if (bias_wanted && distances)
    distance_grad = at::zeros(distances->sizes(), distances->options());
  if (query.scalar_type() == at::kBFloat16)
    backward<c10::BFloat16>(p, grad, out, log_sums, query_grad, key_grad, value_grad, bias_grads, distance_grad);
  else
    backward<float>(p, grad, out, log_sums, query_grad, key_grad, value_grad, bias_grads, distance_grad);
  return {query_grad, key_grad, value_grad, bias_grads, distance_grad};
}

}  // namespace

#define EIR_SEQ_PROBLEM                                                                                         \
  "Tensor query, Tensor key, Tensor value, int[] query_lengths, int[] key_lengths, Tensor[] biases, "              \
  "Tensor? distances, int center, Tensor? shared, int before, int after, float scale, float dropout, int seed"

TORCH_LIBRARY_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("attention_forward(" EIR_SEQ_PROBLEM ") -> (Tensor, Tensor)");
  m.def(
      "attention_backward(Tensor grad, Tensor out, Tensor log_sums, " EIR_SEQ_PROBLEM
      ", bool bias_wanted) -> (Tensor, Tensor, Tensor, Tensor[], Tensor)");
}

TORCH_LIBRARY_IMPL(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("attention_forward", attention_forward);
  m.impl("attention_backward", attention_backward);
}

}  // namespace eir_seq
