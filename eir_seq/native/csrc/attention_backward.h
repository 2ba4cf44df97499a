// Gradients of the attention of some queries of a head.
#pragma once

#include "tiles.h"

namespace eir_seq {
namespace {

// Gradients of keys or values of a head of a text, added up in float32: in place if they are stored as such.
struct Sums {
  Rows<float> rows;
  float *shared, *kept;  // (shares, padded channels), (keys, padded channels)

  Sums(const Problem& p, Scratch& scratch)
      : shared(scratch.take(padded(p.shares) * p.padded_channels)),
        kept(scratch.take(padded(p.keys.longest()) * p.padded_channels)) {}

  template <class T>
  void start(const Problem& p, const Keys& keys, T* to, int64_t stride) {
    if (in_place<T>(p, stride))
      rows = {reinterpret_cast<float*>(to), stride};
    else
      rows = {kept, p.padded_channels};
    ready = 0;
    std::fill_n(shared, keys.shares * p.padded_channels, 0.0f);
  }

  // += A^T B, with A (queries, columns) of a tile and B (queries, padded channels)
  void add(const Problem& p, const Tile& t, const float* a, const float* b) {
    const int64_t vectors = p.padded_channels / LANES;
    clear(p, t.column + t.near);
    if (t.near) product<true, LD_KEYS>(t.near, vectors, t.rows, a, b, LD_CHANNELS, rows[t.column], rows.stride, true);
    if (t.shares) product<true, LD_KEYS>(t.shares, vectors, t.rows, a + t.near, b, LD_CHANNELS, shared, p.padded_channels, true);
  }

  template <class T>
  void finish(const Problem& p, const Keys& keys, T* to, int64_t stride) {
    clear(p, keys.count);
    for (int64_t j = 0; j < keys.shares; ++j)
      for (int64_t c = 0; c < p.padded_channels; ++c) rows[keys.places[j]][c] += shared[j * p.padded_channels + c];
    if (rows.first != kept) return;
    for (int64_t j = 0; j < keys.count; ++j) narrow(rows[j], to + j * stride, p.channels);
  }

 private:
  int64_t ready;  // rows that were written

  void clear(const Problem& p, int64_t end) {
    for (; ready < end; ++ready)
      for (int64_t c = 0; c < p.padded_channels; c += LANES) store(rows[ready] + c, vfloat{});
  }
};

struct Above {
  const Tensor &grad, &out, &log_sums;  // that of what came out, and what this was
  const optional<Tensor> &sums_grad, &sums;  // likewise of sums of weights
  bool others;                          // whether what shared keys see was computed elsewhere
};

struct Backward {
  const Problem& p;
  const Above& above;
  float *queries, *grads, *weights, *slopes, *query_grads, *deltas, *logs;
  Sums key_sums, value_sums;

  Backward(const Problem& problem, const Above& above_, Scratch& scratch)
      : p(problem), above(above_), key_sums(problem, scratch), value_sums(problem, scratch) {
    queries = scratch.take(QUERIES * LD_CHANNELS);
    grads = scratch.take(QUERIES * LD_CHANNELS);
    weights = scratch.take(QUERIES * LD_KEYS);
    slopes = scratch.take(QUERIES * LD_KEYS);
    query_grads = scratch.take(QUERIES * LD_CHANNELS);
    deltas = scratch.take(QUERIES);
    logs = scratch.take(QUERIES);
  }

  template <class T>
  void start(const Keys& keys, int64_t text, int64_t head, Tensor& key_grad, Tensor& value_grad) {
    key_sums.start(p, keys, of_head<T>(text, head, key_grad), key_grad.stride(0));
    if (!p.one_side) value_sums.start(p, keys, of_head<T>(text, head, value_grad), value_grad.stride(0));
  }

  template <class T>
  void rows(
      const Keys& keys, const Additions& additions, float* bias_grads, int64_t bias_stride, float* distance_grads,
      int64_t text, int64_t head, int64_t query, int64_t count, Tensor& query_grad) {
    const Tensor& q = p.query;
    const int64_t token = p.queries.start[text] + query, stride = p.heads * p.channels;
    const int64_t at = token * stride + head * p.channels, next = std::min(count + p.rows, p.queries.length[text] - query);
    fetch(q.const_data_ptr<T>() + token * q.stride(0) + head * q.stride(1), q.stride(0), count, next, p.channels);
    fetch(above.grad.const_data_ptr<T>() + at, stride, count, next, p.channels);
    fetch(above.out.const_data_ptr<T>() + at, stride, count, next, p.channels);
    fetch<true>(query_grad.const_data_ptr<T>() + at, stride, count, next, p.channels);
    pack_rows(q.const_data_ptr<T>() + token * q.stride(0) + head * q.stride(1), q.stride(0), count, p, p.scale * LOG2E, queries, LD_CHANNELS);
    pack_rows(above.grad.const_data_ptr<T>() + at, stride, count, p, 1, grads, LD_CHANNELS);
    if (above.others) hide(keys, query + keys.count - p.queries.length[text], count);
    pack_rows(above.out.const_data_ptr<T>() + at, stride, count, p, 1, query_grads, LD_CHANNELS);
    const int64_t first_sum = token * p.heads + head;
    const float* sums = above.log_sums.const_data_ptr<float>() + first_sum;
    const float* sums_grad = above.sums_grad ? above.sums_grad->const_data_ptr<float>() + first_sum : nullptr;
    for (int64_t i = 0; i < count; ++i) {
      vfloat products{};
      for (int64_t c = 0; c < p.padded_channels; c += LANES)
        products += load(grads + i * LD_CHANNELS + c) * load(query_grads + i * LD_CHANNELS + c);
      deltas[i] = sum(products) * LN2;
      if (sums_grad) deltas[i] += sums_grad[i * p.heads] * above.sums->const_data_ptr<float>()[first_sum + i * p.heads] * LN2;
      logs[i] = sums[i * p.heads];
    }
    bool first = true;
    for_tiles(p, keys, p.queries.length[text], query, count, [&](const Tile& t) {
      score(p, keys, additions, t, queries, weights);
      product<false, LD_CHANNELS>(
          t.rows, t.vectors(), p.padded_channels, grads, keys.columns(p, keys.values, t), keys.width, slopes, LD_KEYS, false);
      if (sums_grad)
        for (int64_t i = 0; i < t.rows; ++i)
          for (int64_t v = 0; v < t.vectors(); ++v)
            store(slopes + i * LD_KEYS + v * LANES, load(slopes + i * LD_KEYS + v * LANES) + sums_grad[i * p.heads]);
      if (p.threshold)
        slope<true>(t, text, head);
      else
        slope<false>(t, text, head);
      if (bias_grads) add_bias(t, bias_grads, bias_stride);
      if (distance_grads) add_distances(t, distance_grads);
      (p.one_side ? key_sums : value_sums).add(p, t, weights, grads);
      key_sums.add(p, t, slopes, queries);
      mix(p, keys.keys, t, slopes, query_grads, !first);
      first = false;
    });
    T* to = query_grad.mutable_data_ptr<T>() + at;
    for (int64_t i = 0; i < count; ++i, to += stride) {
      float* row = query_grads + i * LD_CHANNELS;
      if (first) std::fill(row, row + p.channels, 0.0f);
      narrow(row, to, p.channels, p.scale * LOG2E);
    }
  }

  template <class T>
  void finish(const Keys& keys, int64_t text, int64_t head, Tensor& key_grad, Tensor& value_grad) {
    key_sums.finish(p, keys, of_head<T>(text, head, key_grad), key_grad.stride(0));
    if (!p.one_side) value_sums.finish(p, keys, of_head<T>(text, head, value_grad), value_grad.stride(0));
  }

 private:
  template <class T>
  T* of_head(int64_t text, int64_t head, Tensor& x) const {
    return x.mutable_data_ptr<T>() + p.keys.start[text] * x.stride(0) + head * x.stride(1);
  }

  // Gradients of what shared keys see are not for their queries.
  void hide(const Keys& keys, int64_t position, int64_t count) {
    for (int64_t j = 0; j < keys.shares; ++j) {
      const int64_t row = keys.places[j] - position;
      if (0 <= row && row < count) std::fill_n(grads + row * LD_CHANNELS, p.padded_channels, 0.0f);
    }
  }

  // Scores and gradients of the dropped weights -> dropped weights and gradients of the scores, by which logarithms to
  // base 2 are multiplied.
  template <bool DROPOUT>
  void slope(const Tile& t, int64_t text, int64_t head) {
    const int64_t vectors = t.vectors();
    const float by = 1.0f / p.keep(), slope_by = by * LN2;
    for (int64_t i = 0; i < t.rows; i += GROUP) {
      const int count = static_cast<int>(std::min(GROUP, t.rows - i));
      for (int64_t v = 0; v < vectors; ++v) {
        if (DROPOUT) {
          const Dropped dropped(p, t, text, head, i, v);
          for (int r = 0; r < count; ++r) {
            const int64_t at = (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(weights + at) - logs[i + r]);
            const vfloat above = dropped.zeroed(r, load(slopes + at) * slope_by);
            store(slopes + at, weight * (above - deltas[i + r]));
            store(weights + at, dropped.zeroed(r, weight * by));
          }
        } else {
          for (int r = 0; r < count; ++r) {
            const int64_t at = (i + r) * LD_KEYS + v * LANES;
            const vfloat weight = exp2(load(weights + at) - logs[i + r]);
            store(slopes + at, weight * (load(slopes + at) * LN2 - deltas[i + r]));
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
      for (int64_t j = 0; j < t.near; ++j) near[j] += row[j] * LOG2E;
    }
  }

  void add_distances(const Tile& t, float* to) const {
    for (int64_t i = 0; i < t.rows; ++i) {
      float* near = to + t.column - (t.position + i);
      const float* row = slopes + i * LD_KEYS;
      for (int64_t v = 0; v < t.vectors(); ++v) store(near + v * LANES, load(near + v * LANES) + load(row + v * LANES) * LOG2E);
    }
  }
};

}  // namespace
}  // namespace eir_seq
