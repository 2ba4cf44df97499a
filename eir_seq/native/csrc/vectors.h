// Vectors of 16 lanes in the vector extension of GCC and Clang, which the compiler lowers to what the processor has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include <c10/util/BFloat16.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace eir_seq {

constexpr int LANES = 16;
typedef float vfloat __attribute__((vector_size(64)));
typedef int32_t vint __attribute__((vector_size(64)));
typedef uint32_t vuint __attribute__((vector_size(64)));
typedef float vhalf_float __attribute__((vector_size(32)));
typedef float vquarter_float __attribute__((vector_size(16)));

constexpr float INF = std::numeric_limits<float>::infinity();

inline vfloat load(const float* from) {
  vfloat x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, vfloat x) { std::memcpy(to, &x, sizeof x); }
inline vfloat all(float x) { return x - vfloat{}; }
// Of a pair with NaN the second one, so that it shows if x is a bound.
inline vfloat larger(vfloat x, vfloat y) {
#ifdef __AVX512F__  // the comparison below takes two instructions
  return reinterpret_cast<vfloat>(_mm512_max_ps(reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(y)));
#else
  return x > y ? x : y;
#endif
}
inline vfloat smaller(vfloat x, vfloat y) { return -larger(-x, -y); }  // likewise
inline vint iota() { return vint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

template <class Join>
inline float reduced(vfloat x, Join join) {
  vhalf_float half[2];
  std::memcpy(half, &x, sizeof x);
  auto h = join(half[0], half[1]);
  vquarter_float quarter[2];
  std::memcpy(quarter, &h, sizeof h);
  auto q = join(quarter[0], quarter[1]);
  q = join(q, __builtin_shuffle(q, typename std::remove_reference<decltype((vquarter_float{} < q))>::type{2, 3, 0, 1}));
  q = join(q, __builtin_shuffle(q, typename std::remove_reference<decltype((vquarter_float{} < q))>::type{1, 0, 3, 2}));
  return q[0];
}
inline float sum(vfloat x) {
  return reduced(x, [](auto a, auto b) { return a + b; });
}
inline float maximum(vfloat x) {
  return reduced(x, [](auto a, auto b) { return a > b ? a : b; });
}

// 2^x for x of at most 127, within 2 units in the last place; 0 below -126, where the result would be subnormal.
inline vfloat exp2(vfloat x) {
  const vfloat least = all(-126.0f);
  const vfloat shift = all(12582912.0f);  // 1.5 x 2^23: adding it rounds to the nearest integer
  const vfloat bounded = larger(all(-127.0f), x);
  const vfloat n = (bounded + shift) - shift;
  const vfloat r = bounded - n;
  vfloat p = r * 1.535336188319500e-4f + 1.339887440266574e-3f;  // Cephes' exp2f
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
#ifdef __AVX512F__
  const auto normal = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(least), _CMP_NLT_UQ);
  return reinterpret_cast<vfloat>(
      _mm512_maskz_scalef_ps(normal, reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
  const vint power = (__builtin_convertvector(n, vint) + 127) << 23;
  vfloat scale;
  std::memcpy(&scale, &power, sizeof power);
  return x < least ? vfloat{} : p * scale;
#endif
}

constexpr float LOG2E = 1.44269504088896341f;
constexpr float LN2 = 0.693147180559945309f;

// 16 numbers of memory in float32, and back.
inline vfloat widened(const float* from) { return load(from); }
inline vfloat widened(const c10::BFloat16* from) {
  typedef uint16_t vshort __attribute__((vector_size(32)));
  vshort bits;
  std::memcpy(&bits, from, sizeof bits);
  const vuint wide = __builtin_convertvector(bits, vuint) << 16;
  vfloat x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}
inline void narrow(vfloat x, float* to) { store(to, x); }
inline void narrow(vfloat x, c10::BFloat16* to) {  // to the nearest, ties to even
  typedef uint16_t vshort __attribute__((vector_size(32)));
  vuint bits;
  std::memcpy(&bits, &x, sizeof bits);
  const vuint rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const vuint found = x == x ? rounded : vuint{} + 0x7fc0u;
  const vshort half = __builtin_convertvector(found, vshort);
  std::memcpy(to, &half, sizeof half);
}

// Rows of any length; `by` is a factor.
template <class T>
inline void widen(const T* from, float* to, int64_t count, float by = 1) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, widened(from + i) * by);
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]) * by;
}
template <class T>
inline void narrow(const float* from, T* to, int64_t count, float by = 1) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) narrow(load(from + i) * by, to + i);
  for (; i < count; ++i) to[i] = static_cast<T>(from[i] * by);
}

// Masks of shuffles that interleave two vectors in runs of n lanes: LOWn has the runs at even places, HIGHn the others.
constexpr vint LOW8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
constexpr vint HIGH8 = {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31};
constexpr vint LOW4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
constexpr vint HIGH4 = {4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31};
constexpr vint LOW2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
constexpr vint HIGH2 = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
constexpr vint LOW1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
constexpr vint HIGH1 = {1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31};

// Rows and columns of 16 x 16 numbers exchanged.
inline void transpose(vfloat (&rows)[LANES]) {
#define EIR_SEQ_STAGE(step, low, high)                              \
  for (int i = 0; i < LANES; ++i)                                   \
    if (!(i & step)) {                                              \
      const vfloat a = rows[i], b = rows[i + step];                 \
      rows[i] = __builtin_shuffle(a, b, low);                       \
      rows[i + step] = __builtin_shuffle(a, b, high);               \
    }
#pragma GCC unroll 16
  EIR_SEQ_STAGE(8, LOW8, HIGH8)
#pragma GCC unroll 16
  EIR_SEQ_STAGE(4, LOW4, HIGH4)
#pragma GCC unroll 16
  EIR_SEQ_STAGE(2, LOW2, HIGH2)
#pragma GCC unroll 16
  EIR_SEQ_STAGE(1, LOW1, HIGH1)
#undef EIR_SEQ_STAGE
}

// The upper and lower halves of products of 32 bits, lane by lane.
inline void multiply(vuint x, uint32_t factor, vuint& high, vuint& low) {
  typedef uint64_t vlong __attribute__((vector_size(64)));
  vlong even, odd;
  std::memcpy(&even, &x, sizeof x);
#ifdef __AVX512F__  // GCC takes a product of 64 bits, which is slower
  const __m512i by = _mm512_set1_epi64(factor);
  odd = reinterpret_cast<vlong>(_mm512_mul_epu32(reinterpret_cast<__m512i>(even >> 32), by));
  even = reinterpret_cast<vlong>(_mm512_mul_epu32(reinterpret_cast<__m512i>(even), by));
#else
  odd = (even >> 32) * static_cast<uint64_t>(factor);
  even = (even & 0xffffffffULL) * static_cast<uint64_t>(factor);
#endif
  const vlong lower = (even & 0xffffffffULL) | (odd << 32);
  const vlong upper = (even >> 32) | (odd & 0xffffffff00000000ULL);
  std::memcpy(&low, &lower, sizeof low);
  std::memcpy(&high, &upper, sizeof high);
}

// Philox 4x32 with 7 rounds (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405): random bits as a function of
// a counter and a key, 16 counters at once.
struct Philox {
  uint32_t key[2];

  explicit Philox(uint64_t seed) : key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

  inline void operator()(vuint (&x)[4]) const {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 7; ++round) {
      vuint high0, low0, high2, low2;
      multiply(x[0], 0xD2511F53u, high0, low0);
      multiply(x[2], 0xCD9E8D57u, high2, low2);
      x[0] = high2 ^ x[1] ^ k0;
      x[1] = low2;
      x[2] = high0 ^ x[3] ^ k1;
      x[3] = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
};

}  // namespace eir_seq
