// Dilated convolutions of 32 channels through fast Fourier transforms, on one core.
//
// Activations are [positions, batch, 32 channels], positions and batch at any distance in memory; with dilation d,
// position p = n*d + r. A unit is one block of
// outputs of one residue r of one batch member. Two units of neighbouring residues travel as the real and the
// imaginary part of one complex signal: the taps are real, so the parts do not mix but for rounding. The partner is
// always of the same batch member, so a member's numbers do not depend on the others. All loops run over the 32
// channels, which stand next to each other in memory, so nothing is ever shuffled.
//
// Forward transform: decimation in frequency, natural order in, bit-reversed out; backward: decimation in time,
// bit-reversed in, natural out. Weights stand for frequencies 0 to size/2, since those of real taps are conjugate
// beyond, and carry the factor 1/size.

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));  // 16 channels

constexpr long kChannels = 32;
constexpr long kRow = 2 * kChannels;  // real parts, then imaginary parts
constexpr long kTogether = 16;        // signals that share one reading of the weights
constexpr long kMostPoints = 128;

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
inline Vector all(float value) { return value - Vector{}; }

// twiddles: cosine and sine of 2*pi*k/size for k < size/2.
void forward(float* z, long size, const float* twiddles) {
  for (long half = size / 2; half >= 1; half /= 2) {
    const long step = size / 2 / half;
    for (long k = 0; k < half; ++k) {
      const Vector cosine = all(twiddles[2 * k * step]), sine = all(twiddles[2 * k * step + 1]);
      for (long start = k; start < size; start += 2 * half) {
        float* a = z + start * kRow;
        float* b = a + half * kRow;
        for (long c = 0; c < kChannels; c += 16) {
          const Vector ar = load(a + c), ai = load(a + kChannels + c), br = load(b + c), bi = load(b + kChannels + c);
          const Vector dr = ar - br, di = ai - bi;
          store(a + c, ar + br);
          store(a + kChannels + c, ai + bi);
          store(b + c, dr * cosine + di * sine);  // times exp(-i angle)
          store(b + kChannels + c, di * cosine - dr * sine);
        }
      }
    }
  }
}

void backward(float* z, long size, const float* twiddles) {
  for (long half = 1; half < size; half *= 2) {
    const long step = size / 2 / half;
    for (long k = 0; k < half; ++k) {
      const Vector cosine = all(twiddles[2 * k * step]), sine = all(twiddles[2 * k * step + 1]);
      for (long start = k; start < size; start += 2 * half) {
        float* a = z + start * kRow;
        float* b = a + half * kRow;
        for (long c = 0; c < kChannels; c += 16) {
          const Vector ar = load(a + c), ai = load(a + kChannels + c), br = load(b + c), bi = load(b + kChannels + c);
          const Vector tr = br * cosine - bi * sine, ti = bi * cosine + br * sine;  // times exp(+i angle)
          store(a + c, ar + tr);
          store(a + kChannels + c, ai + ti);
          store(b + c, ar - tr);
          store(b + kChannels + c, ai - ti);
        }
      }
    }
  }
}

long reversed(long index, long size) {
  long result = 0;
  for (long bit = 1; bit < size; bit *= 2, index /= 2) result = 2 * result + index % 2;
  return result;
}

// One frequency of four signals, in place. weights: [channel in][real 32, imaginary 32]; sign: -1 for their conjugate.
void multiply(float* z, long stride, const float* weights, float sign) {
  Vector real[4][2] = {}, imaginary[4][2] = {};
  for (long c = 0; c < kChannels; ++c) {
    const float* w = weights + c * kRow;
    const Vector wr0 = load(w), wr1 = load(w + 16), wi0 = sign * load(w + 32), wi1 = sign * load(w + 48);
    for (long m = 0; m < 4; ++m) {
      const Vector zr = all(z[m * stride + c]), zi = all(z[m * stride + kChannels + c]);
      real[m][0] += zr * wr0;
      real[m][1] += zr * wr1;
      imaginary[m][0] += zr * wi0;
      imaginary[m][1] += zr * wi1;
      real[m][0] -= zi * wi0;
      real[m][1] -= zi * wi1;
      imaginary[m][0] += zi * wr0;
      imaginary[m][1] += zi * wr1;
    }
  }
  for (long m = 0; m < 4; ++m) {
    float* to = z + m * stride;
    store(to, real[m][0]);
    store(to + 16, real[m][1]);
    store(to + 32, imaginary[m][0]);
    store(to + 48, imaginary[m][1]);
  }
}

struct Scratch {
  float* data = static_cast<float*>(std::aligned_alloc(64, kTogether * (kMostPoints + 1) * kRow * sizeof(float)));
  ~Scratch() { std::free(data); }
};

}  // namespace

// x: [length + (taps - 1) * dilation, batch, 32]; out: [length, batch, 32], written or added to; *_position, *_member:
// floats from one position, and from one batch member, to the next.
// size: points of the transform, a power of two of at least rows + taps - 1; weights: [size / 2 + 1][32 in][32 real, 32
// imaginary].
extern "C" int convolve(const float* x, float* out, const float* weights, const float* bias, const float* twiddles,
                        long length, long batch, long dilation, long taps, long rows, long size, long x_position,
                        long x_member, long out_position, long out_member, int add) {
  static thread_local Scratch scratch;
  if (scratch.data == nullptr || size > kMostPoints || rows + taps - 1 > size) return 1;
  const long inputs = length + (taps - 1) * dilation;
  const long steps = (length + dilation - 1) / dilation, blocks = (steps + rows - 1) / rows;
  const long pairs = (dilation + 1) / 2, signals = batch * blocks * pairs;
  const long stride = size * kRow + kRow;  // not a power of two, which would crowd a few lines of the cache
  const Vector bias0 = load(bias), bias1 = load(bias + 16);
  for (long first = 0; first < signals; first += kTogether) {
    const long count = std::min(kTogether, signals - first);
    const float* from[kTogether];
    float* to[kTogether];
    long position[kTogether], residue[kTogether];
    for (long m = 0; m < count; ++m) {
      const long signal = first + m, member = signal / (blocks * pairs), rest = signal % (blocks * pairs);
      residue[m] = 2 * (rest % pairs);
      position[m] = rest / pairs * rows * dilation + residue[m];
      from[m] = x + position[m] * x_position + member * x_member;
      to[m] = out + position[m] * out_position + member * out_member;
    }
    // Signals inside, steps outside: neighbouring signals are neighbours in memory.
    for (long n = 0; n < size; ++n) {
      const long ahead = n * dilation;
      const bool inside = n < rows + taps - 1;
      for (long m = 0; m < count; ++m) {
        float* z = scratch.data + m * stride + n * kRow;
        const float* source = from[m] + ahead * x_position;
        const bool first_part = inside && position[m] + ahead < inputs;
        const bool second_part = inside && residue[m] + 1 < dilation && position[m] + ahead + 1 < inputs;
        for (long c = 0; c < kChannels; c += 16) {
          store(z + c, first_part ? load(source + c) : Vector{});
          store(z + kChannels + c, second_part ? load(source + x_position + c) : Vector{});
        }
      }
    }
    for (long m = 0; m < count; ++m) forward(scratch.data + m * stride, size, twiddles);
    // Whole groups of four, so that every signal takes the same way through `multiply`.
    const long padded = (count + 3) / 4 * 4;
    std::memset(scratch.data + count * stride, 0, (padded - count) * stride * sizeof(float));
    for (long frequency = 0; frequency <= size / 2; ++frequency) {
      const float* at = weights + frequency * kChannels * kRow;
      const long point = reversed(frequency, size), mirrored = reversed((size - frequency) % size, size);
      for (long m = 0; m < padded; m += 4) multiply(scratch.data + m * stride + point * kRow, stride, at, 1);
      if (mirrored == point) continue;
      for (long m = 0; m < padded; m += 4) multiply(scratch.data + m * stride + mirrored * kRow, stride, at, -1);
    }
    for (long m = 0; m < count; ++m) backward(scratch.data + m * stride, size, twiddles);
    for (long n = 0; n < rows; ++n) {
      const long ahead = n * dilation;
      for (long m = 0; m < count; ++m) {
        const float* z = scratch.data + m * stride + n * kRow;
        for (long part = 0; part < 2; ++part) {
          if (residue[m] + part >= dilation || position[m] + ahead + part >= length) continue;
          float* target = to[m] + (ahead + part) * out_position;
          Vector low = load(z + part * kChannels) + bias0, high = load(z + part * kChannels + 16) + bias1;
          if (add) {
            low += load(target);
            high += load(target + 16);
          }
          store(target, low);
          store(target + 16, high);
        }
      }
    }
  }
  return 0;
}
