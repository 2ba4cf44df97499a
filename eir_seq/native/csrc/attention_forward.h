// Attention of some queries of a head, and what its backward pass needs.
#pragma once

#include "tiles.h"

namespace eir_seq {
namespace {

struct Forward {
  const Problem& p;
  Tensor &out, &log_sums, &kept_sums;
  float *queries, *scores, *mixed;       // (rows, channels), (rows, keys), (rows, channels)
  float *most, *total, *kept, *factor;   // (rows,)

  Forward(const Problem& problem, Tensor& out_, Tensor& log_sums_, Tensor& kept_sums_, Scratch& scratch)
      : p(problem), out(out_), log_sums(log_sums_), kept_sums(kept_sums_) {
    queries = scratch.take(QUERIES * LD_CHANNELS);
    scores = scratch.take(QUERIES * LD_KEYS);
    mixed = scratch.take(QUERIES * LD_CHANNELS);
    most = scratch.take(QUERIES);
    total = scratch.take(QUERIES);
    kept = scratch.take(QUERIES);
    factor = scratch.take(QUERIES);
  }

  template <class T>
  void rows(const Keys& keys, const Additions& additions, int64_t text, int64_t head, int64_t query, int64_t count) {
    const Tensor& q = p.query;
    const int64_t token = p.queries.start[text] + query;
    pack_rows(q.const_data_ptr<T>() + token * q.stride(0) + head * q.stride(1), q.stride(0), count, p, p.scale * LOG2E, queries, LD_CHANNELS);
    std::fill(most, most + QUERIES, -INF);
    std::fill(total, total + QUERIES, 0.0f);
    std::fill(kept, kept + QUERIES, 0.0f);
    bool first = true;
    for_tiles(p, keys, p.queries.length[text], query, count, [&](const Tile& t) {
      score(p, keys, additions, t, queries, scores);
      rescale(t, first);
      if (p.threshold)
        weigh<true>(t, text, head);
      else
        weigh<false>(t, text, head);
      if (kept_sums.defined()) add_kept(t);
      mix(p, keys.values, t, scores, mixed, !first);
      first = false;
    });
    float* sums = log_sums.mutable_data_ptr<float>() + token * p.heads + head;
    T* to = out.mutable_data_ptr<T>() + (token * p.heads + head) * p.channels;
    for (int64_t i = 0; i < count; ++i, sums += p.heads, to += p.heads * p.channels) {
      const bool sees = total[i] != 0;  // also NaN
      float* row = mixed + i * LD_CHANNELS;
      if (!sees) std::fill(row, row + p.channels, 0.0f);  // nothing may have been added up
      const float by = sees ? 1.0f / (total[i] * p.keep()) : 0.0f;
      narrow(row, to, p.channels, by);
      if (kept_sums.defined()) kept_sums.mutable_data_ptr<float>()[(token + i) * p.heads + head] = kept[i] * by;
      *sums = sees ? most[i] + std::log2(total[i]) : INF;
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
      store(kept + i, load(kept + i) * load(factor + i));
    }
    for (int64_t i = 0; i < t.rows; ++i) {
      if (factor[i] == 1.0f) continue;
      float* row = mixed + i * LD_CHANNELS;
      for (int64_t c = 0; c < p.padded_channels; c += LANES) store(row + c, load(row + c) * factor[i]);
    }
  }

  void add_kept(const Tile& t) {
    for (int64_t i = 0; i < t.rows; ++i) {
      vfloat weights{};
      for (int64_t v = 0; v < t.vectors(); ++v) weights += load(scores + i * LD_KEYS + v * LANES);
      kept[i] += sum(weights);
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

}  // namespace
}  // namespace eir_seq
