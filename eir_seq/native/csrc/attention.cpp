// Attention over packed texts, forward and backward, by tiles of queries and keys (https://arxiv.org/abs/2205.14135).
//
// Scores exist for one tile at a time. The forward pass keeps the logarithm of each row's sum of exponentials, from which
// the backward pass recomputes the weights; dropout is a function of (seed, text, head, query, key), see `dropped`. One
// thread computes all of a text's head of keys, so that results do not depend on the number of threads.
#include <atomic>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "products.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t QUERIES = 48;       // rows of a tile: a multiple of 8, and of the rows of register blocks
constexpr int64_t KEYS = 192;         // columns of a tile
constexpr int64_t MOST_CHANNELS = 256;
constexpr int LD_CHANNELS = MOST_CHANNELS + LANES;  // not a power of two: rows would meet in the same sets of the cache
constexpr int LD_KEYS = KEYS + LANES;
constexpr int64_t KEPT_SCRATCH = 4 << 20;  // numbers that a thread keeps between calls

int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

struct Texts {
  std::vector<int64_t> start, length;

  explicit Texts(at::IntArrayRef lengths) : start(lengths.size()), length(lengths.begin(), lengths.end()) {
    std::exclusive_scan(length.begin(), length.end(), start.begin(), int64_t{0});
  }
  int64_t total() const { return length.empty() ? 0 : start.back() + length.back(); }
  int64_t longest() const { return length.empty() ? 0 : *std::max_element(length.begin(), length.end()); }
  int64_t count() const { return static_cast<int64_t>(length.size()); }
};

// One call, as both passes see it.
struct Problem {
  const Tensor &query, &key, &value;
  Texts queries, keys;
  int64_t heads, kv_heads, group, channels, padded_channels, before, after;
  float scale, dropout;
  uint32_t threshold;  // of 16 random bits, below which a weight is dropped
  Philox random;
  at::TensorList biases;  // (heads, queries, keys) of each text; or none
  const float* distances = nullptr;  // (heads, distances)
  int64_t distance_count = 0, center = 0;
  const int64_t* shared = nullptr;  // (texts, shares): keys that every query of a text sees; -1: none
  int64_t shares = 0;

  Problem(
      const Tensor& query_, const Tensor& key_, const Tensor& value_, at::IntArrayRef query_lengths,
      at::IntArrayRef key_lengths, at::TensorList biases_, const optional<Tensor>& distances_, int64_t center_,
      const optional<Tensor>& shared_, int64_t before_, int64_t after_, double scale_, double dropout_, int64_t seed)
      : query(query_), key(key_), value(value_), queries(query_lengths), keys(key_lengths), heads(query_.size(1)),
        kv_heads(key_.size(1)), channels(query_.size(2)), before(before_), after(after_),
        scale(static_cast<float>(scale_)), dropout(static_cast<float>(dropout_)),
        threshold(static_cast<uint32_t>(std::lround(dropout_ * 65536.0))), random(static_cast<uint64_t>(seed)), biases(biases_) {
    TORCH_CHECK(query.dim() == 3 && key.dim() == 3 && value.sizes() == key.sizes(), "(tokens, heads, head size)");
    TORCH_CHECK(key.scalar_type() == query.scalar_type() && value.scalar_type() == query.scalar_type(), "dtypes differ");
    TORCH_CHECK(queries.count() == keys.count(), "as many texts of queries as of keys");
    TORCH_CHECK(queries.total() == query.size(0) && keys.total() == key.size(0), "lengths add up to the tokens");
    TORCH_CHECK(channels == key.size(2) && channels <= MOST_CHANNELS, "a head size of at most ", MOST_CHANNELS);
    TORCH_CHECK(kv_heads > 0 && heads % kv_heads == 0, "query heads are a multiple of those of keys");
    TORCH_CHECK(query.stride(2) == 1 && key.stride(2) == 1 && value.stride(2) == 1, "channels lie side by side");
    TORCH_CHECK(0 <= dropout_ && dropout_ < 1, "dropout is in [0, 1)");
    group = heads / kv_heads;
    padded_channels = padded(channels);
    TORCH_CHECK(biases.empty() || static_cast<int64_t>(biases.size()) == keys.count(), "a bias for each text");
    for (size_t text = 0; text < biases.size(); ++text) {
      const Tensor& bias = biases[text];
      TORCH_CHECK(bias.scalar_type() == at::kFloat && bias.dim() == 3 && (bias.stride(2) == 1 || bias.size(2) < 2), "bias");
      TORCH_CHECK(
          bias.size(0) == heads && bias.size(1) == queries.length[text] && bias.size(2) == keys.length[text], "bias");
    }
    if (distances_) {
      TORCH_CHECK(distances_->scalar_type() == at::kFloat && distances_->is_contiguous(), "distances");
      TORCH_CHECK(distances_->dim() == 2 && distances_->size(0) == heads, "distances");
      distances = distances_->const_data_ptr<float>();
      distance_count = distances_->size(1);
      center = center_;
      for (int64_t text = 0; text < keys.count(); ++text) {
        if (keys.length[text] == 0 || queries.length[text] == 0) continue;
        const int64_t first = keys.length[text] - queries.length[text];
        TORCH_CHECK(
            first >= 0 && keys.length[text] - 1 <= center && keys.length[text] - 1 - first < distance_count - center,
            "distances");
      }
    }
    if (shared_) {
      TORCH_CHECK(shared_->scalar_type() == at::kLong && shared_->is_contiguous() && shared_->dim() == 2, "shared");
      TORCH_CHECK(shared_->size(0) == keys.count() && biases.empty() && !distances, "shared");
      shared = shared_->const_data_ptr<int64_t>();
      shares = shared_->size(1);
      TORCH_CHECK(shares <= KEYS, "at most ", KEYS, " shared keys");
    }
  }

  float keep() const { return 1.0f - static_cast<float>(threshold) / 65536.0f; }
};

// Memory of a thread.
class Scratch {
 public:
  float* take(int64_t count) {
    const int64_t at = used_;
    used_ += padded(count);
    return base_ == nullptr ? nullptr : base_ + at;
  }
  // `layout` takes all of it; it runs twice, first to measure.
  template <class Layout>
  void arrange(Layout layout) {
    base_ = nullptr;
    used_ = 0;
    layout(*this);
    static thread_local std::vector<float> kept;
    std::vector<float>& memory = used_ + LANES <= KEPT_SCRATCH ? kept : own_;
    if (static_cast<int64_t>(memory.size()) < used_ + LANES) memory.resize(used_ + LANES);
    base_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
    used_ = 0;
    layout(*this);
  }

 private:
  float* base_ = nullptr;
  int64_t used_ = 0;
  std::vector<float> own_;
};

// Rows of `channels` numbers -> rows of `padded_channels` in float32, zero behind the channels.
template <class T>
void pack_rows(const T* from, int64_t stride, int64_t rows, const Problem& p, float scale, float* to, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i, from += stride, to += ld) {
    widen(from, to, p.channels, scale);
    for (int64_t c = p.channels; c < p.padded_channels; ++c) to[c] = 0;
  }
}

// Rows (count, padded_channels) -> columns (padded_channels, ld), zero up to the next multiple of 16 rows.
void pack_columns(const float* from, int64_t count, const Problem& p, float* to, int64_t ld) {
  for (int64_t i = 0; i < count; i += LANES)
    for (int64_t c = 0; c < p.padded_channels; c += LANES) {
      vfloat rows[LANES];
      for (int64_t j = 0; j < LANES; ++j)
        rows[j] = i + j < count ? load(from + (i + j) * p.padded_channels + c) : vfloat{};
      transpose(rows);
      for (int64_t j = 0; j < LANES; ++j) store(to + (c + j) * ld + i, rows[j]);
    }
}

// Keys and values of a head of a text in float32: those of the text, then the shared ones.
struct Keys {
  float *rows, *columns, *values, *value_columns;  // rows (width, padded channels), columns (padded channels, width)
  float* hidden;                                   // (width,) added to scores: -infinity where a key is also shared
  int64_t count, width, shares_at, shares;
  const int64_t* places;
  bool hides;

  static int64_t most(const Problem& p) { return padded(p.keys.longest()) + padded(p.shares); }

  Keys(const Problem& p, Scratch& scratch, bool backward) {
    const int64_t size = most(p) * p.padded_channels;
    rows = scratch.take(size);
    columns = scratch.take(size);
    values = scratch.take(size);
    value_columns = backward ? scratch.take(size) : nullptr;
    hidden = scratch.take(p.shares ? most(p) : 0);
  }

  template <class T>
  void pack(const Problem& p, int64_t text, int64_t head) {
    count = p.keys.length[text];
    shares_at = padded(count);
    width = shares_at + padded(p.shares);
    shares = 0;
    places = p.shared == nullptr ? nullptr : p.shared + text * p.shares;
    gather<T>(p, p.key, text, head, rows, columns);
    gather<T>(p, p.value, text, head, values, value_columns);
    hides = shares > 0;
    if (hides) {
      std::fill(hidden, hidden + width, 0.0f);
      for (int64_t j = 0; j < shares; ++j) hidden[places[j]] = -INF;
    }
  }

 private:
  template <class T>
  void gather(const Problem& p, const Tensor& x, int64_t text, int64_t head, float* to, float* transposed) {
    const T* from = x.const_data_ptr<T>() + p.keys.start[text] * x.stride(0) + head * x.stride(1);
    pack_rows(from, x.stride(0), count, p, 1, to, p.padded_channels);
    float* behind = to + shares_at * p.padded_channels;
    shares = 0;
    while (shares < p.shares && places[shares] >= 0) {
      TORCH_CHECK(places[shares] < count, "a shared key beyond its text");
      pack_rows(from + places[shares] * x.stride(0), 0, 1, p, 1, behind + shares * p.padded_channels, p.padded_channels);
      ++shares;
    }
    if (transposed == nullptr) return;
    pack_columns(to, count, p, transposed, width);
    pack_columns(behind, shares, p, transposed + shares_at, width);
  }
};

// Some queries and some keys of a head: the part of the scores that exists at a time.
struct Tile {
  int64_t query, rows;     // the first query in its text, how many
  int64_t position;        // where the first query stands among the keys
  int64_t column, columns; // the first key as packed, how many
  int64_t counter;         // the first key as dropout counts them
  bool shared;
  int64_t vectors() const { return (columns + LANES - 1) / LANES; }
};

constexpr int64_t SHARED_COUNTER = int64_t{1} << 31;

// Tiles of some queries with all keys that one of them sees.
template <class Visit>
void for_tiles(const Problem& p, const Keys& keys, int64_t queries, int64_t query, int64_t rows, Visit visit) {
  const int64_t position = query + keys.count - queries;
  if (keys.shares)
    visit(Tile{query, rows, position, keys.shares_at, keys.shares, SHARED_COUNTER, true});
  const int64_t first = p.before < 0 ? 0 : std::max<int64_t>(0, position - p.before);
  const int64_t end = p.after < 0 ? keys.count : std::min(keys.count, position + rows + p.after);
  for (int64_t column = first; column < end; column += KEYS)
    visit(Tile{query, rows, position, column, std::min(KEYS, end - column), column, false});
}

// What is added to the scores of a head.
struct Additions {
  const float* bias = nullptr;       // that of query 0 and key 0
  int64_t bias_stride = 0;
  const float* distances = nullptr;  // that of distance 0
};

// Scores of a tile, in logarithms to base 2: products, biases, -infinity where a query does not see.
void score(const Problem& p, const Keys& keys, const Additions& additions, const Tile& t, const float* queries, float* scores) {
  product<false, LD_CHANNELS>(
      t.rows, t.vectors(), p.padded_channels, queries, keys.columns + t.column, keys.width, scores, LD_KEYS, false);
  const int64_t vectors = t.vectors(), rest = t.columns % LANES;
  const bool edge = !t.shared && ((p.before >= 0 && t.column < t.position + t.rows - 1 - p.before) ||
                                  (p.after >= 0 && t.column + t.columns > t.position + p.after + 1));
  const bool hides = keys.hides && !t.shared;
  for (int64_t i = 0; i < t.rows; ++i) {
    float* row = scores + i * LD_KEYS;
    if (additions.distances) {
      const float* near = additions.distances + t.column - (t.position + i);
      for (int64_t v = 0; v < vectors; ++v) store(row + v * LANES, load(row + v * LANES) + load(near + v * LANES) * LOG2E);
    }
    if (additions.bias) {
      const float* near = additions.bias + (t.query + i) * additions.bias_stride + t.column;
      int64_t v = 0;
      for (; v < t.columns / LANES; ++v) store(row + v * LANES, load(row + v * LANES) + load(near + v * LANES) * LOG2E);
      for (int64_t j = v * LANES; j < t.columns; ++j) row[j] += near[j] * LOG2E;
    }
    if (hides)
      for (int64_t v = 0; v < vectors; ++v)
        store(row + v * LANES, load(row + v * LANES) + load(keys.hidden + t.column + v * LANES));
    if (edge) {
      const int64_t low = p.before < 0 ? 0 : t.position + i - p.before - t.column;
      const int64_t high = std::min(t.columns, p.after < 0 ? t.columns : t.position + i + p.after + 1 - t.column);
      for (int64_t v = 0; v < vectors; ++v) {
        const int64_t at = v * LANES;
        if (low <= at && at + LANES <= high) continue;
        const vint lane = iota() + static_cast<int32_t>(at);
        const vfloat x = load(row + at);
        store(row + at, (lane >= static_cast<int32_t>(std::max<int64_t>(low, 0))) & (lane < static_cast<int32_t>(std::max<int64_t>(high, 0))) ? x : all(-INF));
      }
    } else if (rest) {
      float* last = row + (vectors - 1) * LANES;
      store(last, iota() < static_cast<int32_t>(rest) ? load(last) : all(-INF));
    }
  }
}

// Which weights of 8 queries and 16 keys are dropped. Word w of the random bits at counter (key, query / 8, head, text)
// decides for the queries 2 w (lower half) and 2 w + 1 (upper half) of the eight.
struct Dropped {
  vuint bits[4];
  vuint threshold;

  Dropped(const Problem& p, const Tile& t, int64_t text, int64_t head, int64_t row, int64_t vector) {
    const vint lane = iota() + static_cast<int32_t>(vector * LANES);
    std::memcpy(&bits[0], &lane, sizeof lane);
    bits[0] += static_cast<uint32_t>(t.counter);
    bits[1] = vuint{} + static_cast<uint32_t>((t.query + row) / 8);
    bits[2] = vuint{} + static_cast<uint32_t>(head);
    bits[3] = vuint{} + static_cast<uint32_t>(text);
    p.random(bits);
    threshold = vuint{} + p.threshold;
  }
  vfloat zeroed(int row, vfloat x) const {
    const vuint half = row & 1 ? bits[row / 2] >> 16 : bits[row / 2] & 0xffffu;
    return half < threshold ? vfloat{} : x;
  }
};

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
