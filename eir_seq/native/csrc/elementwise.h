// Passes over contiguous tensors, 16 numbers at a time, with dropout on the way.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "vectors.h"

namespace eir_seq {

constexpr int64_t CHUNK_VECTORS = 4096;  // that a thread takes at a time

// Chunks depend on the shape only, so that results do not depend on the number of threads.
template <class Work>
void in_chunks(int64_t count, int64_t size, Work work) {
  const int64_t chunks = (count + size - 1) / size;
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) work(chunk, chunk * size, std::min(count, (chunk + 1) * size));
  });
}

// Dropout of the numbers of a contiguous tensor, 16 at a time in order. Number i has 16 of the 128 random bits at
// counter (i % 16, i / 128): those in half i / 16 % 8.
class Dropout {
 public:
  Dropout(double rate, int64_t seed)
      : threshold_(static_cast<uint32_t>(std::lround(rate * 65536.0))), random_(static_cast<uint64_t>(seed)),
        scale_(1.0f / (1.0f - static_cast<float>(threshold_) / 65536.0f)) {
    TORCH_CHECK(0 <= rate && rate < 1, "dropout is in [0, 1)");
  }

  inline vfloat operator()(int64_t vector, vfloat x) {
    if (threshold_ == 0) return x;
    return half(vector) < threshold_ ? vfloat{} : x * scale_;
  }

  // Of two at the same place.
  inline void operator()(int64_t vector, vfloat& x, vfloat& y) {
    if (threshold_ == 0) return;
    const auto dropped = half(vector) < threshold_;
    x = dropped ? vfloat{} : x * scale_;
    y = dropped ? vfloat{} : y * scale_;
  }

 private:
  inline vuint half(int64_t vector) {
    const int64_t group = vector >> 3;
    if (group != group_) draw(group);
    const vuint word = bits_[(vector & 7) >> 1];
    return vector & 1 ? word >> 16 : word & 0xffffu;
  }

  void draw(int64_t group) {
    const vint lane = iota();
    std::memcpy(&bits_[0], &lane, sizeof lane);
    bits_[1] = vuint{} + static_cast<uint32_t>(group);
    bits_[2] = vuint{} + static_cast<uint32_t>(group >> 32);
    bits_[3] = vuint{};
    random_(bits_);
    group_ = group;
  }

  uint32_t threshold_;
  Philox random_;
  float scale_;
  int64_t group_ = -1;
  vuint bits_[4];
};

template <class Call>
void by_dtype(const at::Tensor& x, Call call) {
  if (x.scalar_type() == at::kBFloat16)
    call(c10::BFloat16{});
  else
    call(float{});
}

inline void check(const at::Tensor& x, const char* name) {
  const auto type = x.scalar_type();
  TORCH_CHECK(x.is_contiguous() && (type == at::kFloat || type == at::kBFloat16), name);
}

}  // namespace eir_seq
