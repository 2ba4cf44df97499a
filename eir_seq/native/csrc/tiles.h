// What both passes of attention share: a call with its texts, scratch memory, keys in float32, tiles and their scores.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "products.h"

namespace eir_seq {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t QUERIES = 48;       // most rows of a tile: a multiple of 8, and of the rows of register blocks
constexpr int64_t KEYS = 192;         // columns of a tile
constexpr double COST_OF_TILE = 200;  // besides its scores, in scores of a query; measured
constexpr int64_t MOST_CHANNELS = 272;  // 256 and a vector for a constant one
constexpr int LD_CHANNELS = MOST_CHANNELS + LANES;  // not a power of two: rows would meet in the same sets of the cache
constexpr int LD_KEYS = KEYS + LANES;
constexpr int64_t GROUP = 8;  // rows that share random bits
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
  const Tensor &query, &key, &value;  // of which the last two may be one
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
  int64_t rows = QUERIES;  // of a tile
  bool narrow = false;     // one tile has all keys that its queries see
  bool one_side = &key == &value;

  Problem(
      const Tensor& query_, const Tensor& key_, const optional<Tensor>& value_, at::IntArrayRef query_lengths,
      at::IntArrayRef key_lengths, at::TensorList biases_, const optional<Tensor>& distances_, int64_t center_,
      const optional<Tensor>& shared_, int64_t before_, int64_t after_, double scale_, double dropout_, int64_t seed)
      : query(query_), key(key_), value(value_ ? *value_ : key_), queries(query_lengths), keys(key_lengths), heads(query_.size(1)),
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
    if (before >= 0 && after >= 0) choose_rows();
  }

  float keep() const { return 1.0f - static_cast<float>(threshold) / 65536.0f; }

 private:
  // Rows of a tile and their window: few scores unused, and few tiles.
  void choose_rows() {
    double least = INF;
    for (int64_t count : {8, 16, 24, 32, 48}) {
      const int64_t columns = count + before + after + shares;
      const double cost = static_cast<double>(padded(columns)) + COST_OF_TILE / static_cast<double>(count);
      if (columns > KEYS || cost >= least) continue;
      least = cost;
      rows = count;
      narrow = true;
    }
  }
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

// Rows of `channels` numbers -> rows of `padded_channels` in float32, zero after the channels.
template <class T>
void pack_rows(const T* from, int64_t stride, int64_t rows, const Problem& p, float scale, float* to, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i, from += stride, to += ld) {
    widen(from, to, p.channels, scale);
    for (int64_t c = p.channels; c < p.padded_channels; ++c) to[c] = 0;
  }
}

// Where rows of numbers begin, `stride` numbers apart.
template <class Number>
struct Rows {
  Number* first;
  int64_t stride;
  Number* operator[](int64_t row) const { return first + row * stride; }
};

// Have the second cache fetch some rows, which the processor does not guess where a head is a part of each.
template <bool WRITTEN = false, class T>
void fetch(const T* from, int64_t stride, int64_t first, int64_t end, int64_t channels) {
  constexpr int64_t LINE = 64 / sizeof(T);
  for (int64_t row = first; row < end; ++row)
    for (int64_t c = 0; c < channels; c += LINE) __builtin_prefetch(from + row * stride + c, WRITTEN, 2);
}

// `count` rows of `padded_channels` -> columns (padded_channels, ld), zero up to the next multiple of 16 rows.
template <class RowOf>
void pack_columns(RowOf row_of, int64_t count, const Problem& p, float* to, int64_t ld) {
  for (int64_t i = 0; i < count; i += LANES)
    for (int64_t c = 0; c < p.padded_channels; c += LANES) {
      vfloat rows[LANES];
      for (int64_t j = 0; j < LANES; ++j) rows[j] = i + j < count ? load(row_of(i + j) + c) : vfloat{};
      transpose(rows);
      for (int64_t j = 0; j < LANES; ++j) store(to + (c + j) * ld + i, rows[j]);
    }
}

// Some queries and some keys of a head: the part of the scores that exists at a time.
struct Tile {
  int64_t query, rows;     // the first query in its text, how many
  int64_t position;        // where the first query stands among the keys
  int64_t column, near;    // the first key, how many follow each other
  int64_t shares;          // keys after these that all queries see
  int64_t columns() const { return near + shares; }
  int64_t vectors() const { return (columns() + LANES - 1) / LANES; }
};

constexpr int64_t FARTHEST = 256;  // numbers between rows: farther ones meet in the same sets of the cache

// Whether rows of a tensor's head serve as they are.
template <class T>
bool in_place(const Problem& p, int64_t stride) {
  return std::is_same_v<T, float> && p.channels == p.padded_channels && stride <= (p.narrow ? FARTHEST : p.channels);
}

// Keys or values of a head of a text in float32.
struct Side {
  Rows<const float> rows;  // (keys, padded channels)
  float* shared;           // (shares, padded channels)
  float* columns;          // both in the other order, (padded channels, width): of the text, or, if windows are narrow, of a tile
  float* copies;

  Side(const Problem& p, Scratch& scratch, bool turned) {
    copies = scratch.take(padded(p.keys.longest()) * p.padded_channels);
    shared = scratch.take(padded(p.shares) * p.padded_channels);
    columns = turned ? scratch.take((p.narrow ? LD_KEYS : padded(p.keys.longest()) + padded(p.shares)) * p.padded_channels) : nullptr;
  }

  template <class T>
  void read(const Problem& p, const Tensor& x, int64_t text, int64_t head, const int64_t* places, int64_t shares) {
    const T* from = x.const_data_ptr<T>() + p.keys.start[text] * x.stride(0) + head * x.stride(1);
    if (in_place<T>(p, x.stride(0))) {
      rows = {reinterpret_cast<const float*>(from), x.stride(0)};
    } else {
      pack_rows(from, x.stride(0), p.keys.length[text], p, 1, copies, p.padded_channels);
      rows = {copies, p.padded_channels};
    }
    for (int64_t j = 0; j < shares; ++j) std::copy_n(rows[places[j]], p.padded_channels, shared + j * p.padded_channels);
  }
};

// Keys and values of a head of a text, and what all of its queries see.
struct Keys {
  Side keys, values;
  int64_t count, width, shares_at, shares;
  const int64_t* places;

  static int64_t most(const Problem& p) { return padded(p.keys.longest()) + padded(p.shares); }

  Keys(const Problem& p, Scratch& scratch, bool backward)
      : keys(p, scratch, true), values(p.one_side ? keys : Side(p, scratch, backward)) {}

  template <class T>
  void pack(const Problem& p, int64_t text, int64_t head) {
    count = p.keys.length[text];
    shares_at = padded(count);
    shares = 0;
    places = p.shared == nullptr ? nullptr : p.shared + text * p.shares;
    while (shares < p.shares && places[shares] >= 0) {
      TORCH_CHECK(places[shares] < count, "a shared key beyond its text");
      ++shares;
    }
    width = p.narrow ? LD_KEYS : shares_at + padded(shares);
    pack_side<T>(p, p.key, text, head, keys);
    if (p.one_side)
      values = keys;
    else
      pack_side<T>(p, p.value, text, head, values);
  }

  // The columns of a tile, `width` numbers apart.
  const float* columns(const Problem& p, const Side& side, const Tile& t) const {
    if (!p.narrow) return side.columns + (t.shares ? shares_at : t.column);
    pack_columns(
        [&](int64_t row) { return row < t.near ? side.rows[t.column + row] : side.shared + (row - t.near) * p.padded_channels; },
        t.columns(), p, side.columns, width);
    return side.columns;
  }

 private:
  template <class T>
  void pack_side(const Problem& p, const Tensor& x, int64_t text, int64_t head, Side& side) const {
    side.read<T>(p, x, text, head, places, shares);
    if (p.narrow || side.columns == nullptr) return;
    pack_columns([&](int64_t row) { return side.rows[row]; }, count, p, side.columns, width);
    pack_columns([&](int64_t row) { return side.shared + row * p.padded_channels; }, shares, p, side.columns + shares_at, width);
  }
};

// Tiles of some queries with all keys that one of them sees.
template <class Visit>
void for_tiles(const Problem& p, const Keys& keys, int64_t queries, int64_t query, int64_t rows, Visit visit) {
  const int64_t position = query + keys.count - queries;
  const int64_t first = p.before < 0 ? 0 : std::max<int64_t>(0, position - p.before);
  const int64_t end = p.after < 0 ? keys.count : std::min(keys.count, position + rows + p.after);
  if (p.narrow) {
    const int64_t near = std::max<int64_t>(0, end - first);
    if (near + keys.shares) visit(Tile{query, rows, position, first, near, keys.shares});
    return;
  }
  if (keys.shares) visit(Tile{query, rows, position, 0, 0, keys.shares});
  for (int64_t column = first; column < end; column += KEYS)
    visit(Tile{query, rows, position, column, std::min(KEYS, end - column), 0});
}

// C (rows, padded channels) [+]= A (rows, columns) times the keys or values of a tile.
inline void mix(const Problem& p, const Side& side, const Tile& t, const float* a, float* c, bool add) {
  const int64_t vectors = p.padded_channels / LANES;
  if (t.near)
    product<false, LD_KEYS>(t.rows, vectors, t.near, a, side.rows[t.column], side.rows.stride, c, LD_CHANNELS, add);
  if (t.shares)
    product<false, LD_KEYS>(t.rows, vectors, t.shares, a + t.near, side.shared, p.padded_channels, c, LD_CHANNELS, add || t.near);
}

// What is added to the scores of a head.
struct Additions {
  const float* bias = nullptr;       // that of query 0 and key 0
  int64_t bias_stride = 0;
  const float* distances = nullptr;  // that of distance 0
};

// Scores of a tile, in logarithms to base 2: products, biases, -infinity where a query does not see.
void score(const Problem& p, const Keys& keys, const Additions& additions, const Tile& t, const float* queries, float* scores) {
  const int64_t vectors = t.vectors();
  product<false, LD_CHANNELS>(
      t.rows, vectors, p.padded_channels, queries, keys.columns(p, keys.keys, t), keys.width, scores, LD_KEYS, false);
  const bool edge = (p.before >= 0 && t.column < t.position + t.rows - 1 - p.before) ||
                    (p.after >= 0 && t.column + t.near > t.position + p.after + 1);
  for (int64_t i = 0; i < t.rows; ++i) {
    float* row = scores + i * LD_KEYS;
    if (additions.distances) {
      const float* near = additions.distances + t.column - (t.position + i);
      for (int64_t v = 0; v < vectors; ++v) store(row + v * LANES, load(row + v * LANES) + load(near + v * LANES) * LOG2E);
    }
    if (additions.bias) {
      const float* near = additions.bias + (t.query + i) * additions.bias_stride + t.column;
      int64_t v = 0;
      for (; v < t.near / LANES; ++v) store(row + v * LANES, load(row + v * LANES) + load(near + v * LANES) * LOG2E);
      for (int64_t j = v * LANES; j < t.near; ++j) row[j] += near[j] * LOG2E;
    }
    const int64_t low = !edge || p.before < 0 ? 0 : std::max<int64_t>(0, t.position + i - p.before - t.column);
    const int64_t high = !edge || p.after < 0 ? t.near : std::min(t.near, t.position + i + p.after + 1 - t.column);
    for (int64_t v = edge ? 0 : t.near / LANES; v < vectors; ++v) {
      const int32_t at = static_cast<int32_t>(v * LANES);
      if (low <= at && at + LANES <= high) continue;
      const vint lane = iota() + at;
      vint seen = (lane >= static_cast<int32_t>(low)) & (lane < static_cast<int32_t>(high));
      if (t.shares) seen |= (lane >= static_cast<int32_t>(t.near)) & (lane < static_cast<int32_t>(t.columns()));
      store(row + at, seen ? load(row + at) : all(-INF));
    }
  }
  for (int64_t j = 0; j < keys.shares; ++j) {  // not twice
    const int64_t at = keys.places[j] - t.column;
    if (at < 0 || at >= t.near) continue;
    for (int64_t i = 0; i < t.rows; ++i) scores[i * LD_KEYS + at] = -INF;
  }
}

constexpr int32_t SHARED_COUNTER = std::numeric_limits<int32_t>::min();  // 2^31 of 32 bits

// Which weights of 8 queries and 16 keys are dropped. Word w of the random bits at counter (key, query / 8, head, text)
// decides for the queries 2 w (lower half) and 2 w + 1 (upper half) of the eight.
struct Dropped {
  vuint bits[4];
  vuint threshold;

  Dropped(const Problem& p, const Tile& t, int64_t text, int64_t head, int64_t row, int64_t vector) {
    const vint lane = iota() + static_cast<int32_t>(vector * LANES);
    vint counter = lane + static_cast<int32_t>(t.column);
    if (t.shares) counter = lane < static_cast<int32_t>(t.near) ? counter : lane - static_cast<int32_t>(t.near) + SHARED_COUNTER;
    std::memcpy(&bits[0], &counter, sizeof counter);
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

}  // namespace
}  // namespace eir_seq
