// Normalisation, activation and dilated convolution of 32 channels in one pass, on one core.
//
// A track is one layer's activations [position, 32 channels] of several members (variants), in coordinates relative to
// each member's change. What a variant changes lies in a buffer; to either side stands the reference, which members
// share, and which may be one constant (step 0) where all bases are N. So nothing is ever copied together.
//
// Short kernels are summed directly. Long ones go through fast Fourier transforms: with dilation d, position p = n*d + r,
// and a unit is one block of outputs of one residue r of one member. Two units (neighbouring residues or, without
// dilation, neighbouring blocks) travel as the real and the imaginary part of one complex signal: the taps are real, so
// the parts do not mix but for rounding. Both are always of the same member, so that its numbers do not depend on others.
//
// Forward transform: decimation in frequency, natural order in, digit-reversed out; backward: decimation in time.
// Weights stand for frequencies 0 to size/2, since those of real taps are conjugate beyond, and carry the factor 1/size.
//
// Vector width and tiles follow the instruction set: accumulators and what they need must fit into its registers.

#include <algorithm>
#include <cstdlib>
#include <type_traits>

namespace {

#if defined(__AVX512F__)  // 32 registers of 16 floats
constexpr long kLanes = 16, kVectors = 2, kSignals = 6, kPositions = 12;
constexpr const char* kSet = "AVX-512";
#elif defined(__AVX2__) && defined(__FMA__)  // 16 registers of 8 floats
constexpr long kLanes = 8, kVectors = 1, kSignals = 6, kPositions = 6;
constexpr const char* kSet = "AVX2";
#elif defined(__ARM_NEON)  // 32 registers of 4 floats
constexpr long kLanes = 4, kVectors = 2, kSignals = 6, kPositions = 12;
constexpr const char* kSet = "NEON";
#else
constexpr long kLanes = 4, kVectors = 1, kSignals = 4, kPositions = 4;
constexpr const char* kSet = "plain";
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

constexpr long kChannels = 32;
constexpr long kGroups = kChannels / kLanes;
constexpr long kPoint = 2 * kLanes;     // floats of a point of one group: real parts, then imaginary parts
constexpr long kTogether = 2 * kSignals;  // signals that share one reading of the weights
constexpr long kMostPasses = 8;

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
inline Vector all(float value) { return value - Vector{}; }
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

// One layer's activations of all members; positions are relative to the change.
struct Track {
  const float* const* left;   // of each member: address of position 0 in the coordinates before the change
  const float* const* right;  // the same behind the change
  const float* inside;        // address of the first member's position 0
  long step;                  // floats from one position of the reference to the next; 0 for a constant
  long member;                // floats from one member to the next inside
  long low, high;             // inside is [low, high)

  const float* at(long index, long position) const {
    if (position < low) return left[index] + position * step;
    if (position < high) return inside + index * member + position * kChannels;
    return right[index] + position * step;
  }
};

struct Convolution {
  const float *weights, *bias;
  const float *scale, *shift;  // of the normalisation before it
  const float* twiddles;       // of every pass in turn: cosine and sine of 2*pi*j*k/span, k by k, j = 1 to radix - 1
  const long* passes;          // radices in the order of the forward transform, ended by 0
  const long* order;           // where each frequency stands
  long taps, dilation, rows, size;  // size: points of the transform, at least rows + taps - 1; 0 for the direct form
  float slope;                 // of the activation below zero
  long padding;
};

struct Activation {
  Vector scale[kGroups], shift[kGroups], slope;
  explicit Activation(const Convolution& c) : slope(all(c.slope)) {
    for (long g = 0; g < kGroups; ++g) scale[g] = load(c.scale + g * kLanes), shift[g] = load(c.shift + g * kLanes);
  }
  Vector operator()(const float* from, long g) const {
    const Vector value = load(from + g * kLanes) * scale[g] + shift[g];
    return larger(value, value * slope);
  }
};

template <long kRadix>
inline void transform(Vector* re, Vector* im) {  // of so many points, times exp(-i angle)
  if constexpr (kRadix == 2) {
    const Vector r = re[1], i = im[1];
    re[1] = re[0] - r, im[1] = im[0] - i;
    re[0] += r, im[0] += i;
  } else if constexpr (kRadix == 3) {
    const Vector sr = re[1] + re[2], si = im[1] + im[2];
    const Vector dr = 0.866025404f * (re[1] - re[2]), di = 0.866025404f * (im[1] - im[2]);
    const Vector mr = re[0] - 0.5f * sr, mi = im[0] - 0.5f * si;
    re[0] += sr, im[0] += si;
    re[1] = mr + di, im[1] = mi - dr;
    re[2] = mr - di, im[2] = mi + dr;
  } else if constexpr (kRadix == 4) {
    const Vector ar = re[0] + re[2], ai = im[0] + im[2], br = re[0] - re[2], bi = im[0] - im[2];
    const Vector cr = re[1] + re[3], ci = im[1] + im[3], dr = re[1] - re[3], di = im[1] - im[3];
    re[0] = ar + cr, im[0] = ai + ci;
    re[1] = br + di, im[1] = bi - dr;
    re[2] = ar - cr, im[2] = ai - ci;
    re[3] = br - di, im[3] = bi + dr;
  } else {
    constexpr float c1 = 0.309016994f, c2 = -0.809016994f, s1 = 0.951056516f, s2 = 0.587785252f;
    const Vector ar = re[1] + re[4], ai = im[1] + im[4], br = re[1] - re[4], bi = im[1] - im[4];
    const Vector cr = re[2] + re[3], ci = im[2] + im[3], dr = re[2] - re[3], di = im[2] - im[3];
    const Vector mr = re[0] + c1 * ar + c2 * cr, mi = im[0] + c1 * ai + c2 * ci;
    const Vector nr = re[0] + c2 * ar + c1 * cr, ni = im[0] + c2 * ai + c1 * ci;
    const Vector pr = s1 * br + s2 * dr, pi = s1 * bi + s2 * di, qr = s2 * br - s1 * dr, qi = s2 * bi - s1 * di;
    re[0] += ar + cr, im[0] += ai + ci;
    re[1] = mr + pi, im[1] = mi - pr;
    re[4] = mr - pi, im[4] = mi + pr;
    re[2] = nr + qi, im[2] = ni - qr;
    re[3] = nr - qi, im[3] = ni + qr;
  }
}

// Of one group of channels. The way back is the way there with real and imaginary parts exchanged.
template <long kRadix, bool kBack>
void pass(float* z, long size, long span, const float* twiddles) {
  const long step = span / kRadix;
  constexpr long kReal = kBack ? kLanes : 0, kImaginary = kLanes - kReal;
  for (long k = 0; k < step; ++k, twiddles += 2 * (kRadix - 1)) {
    for (float* at = z + k * kPoint; at < z + size * kPoint; at += span * kPoint) {
      Vector re[kRadix], im[kRadix];
      const auto turn = [&](long j) {
        const Vector cosine = all(twiddles[2 * j - 2]), sine = all(twiddles[2 * j - 1]), real = re[j];
        re[j] = real * cosine + im[j] * sine;
        im[j] = im[j] * cosine - real * sine;
      };
      for (long j = 0; j < kRadix; ++j) re[j] = load(at + j * step * kPoint + kReal);
      for (long j = 0; j < kRadix; ++j) im[j] = load(at + j * step * kPoint + kImaginary);
      if constexpr (kBack)
        for (long j = 1; j < kRadix; ++j) turn(j);
      transform<kRadix>(re, im);
      if constexpr (!kBack)
        for (long j = 1; j < kRadix; ++j) turn(j);
      for (long j = 0; j < kRadix; ++j) store(at + j * step * kPoint + kReal, re[j]);
      for (long j = 0; j < kRadix; ++j) store(at + j * step * kPoint + kImaginary, im[j]);
    }
  }
}

template <bool kBack>
void one_pass(long radix, float* z, long size, long span, const float* twiddles) {
  if (radix == 4) return pass<4, kBack>(z, size, span, twiddles);
  if (radix == 2) return pass<2, kBack>(z, size, span, twiddles);
  if (radix == 3) return pass<3, kBack>(z, size, span, twiddles);
  pass<5, kBack>(z, size, span, twiddles);
}

template <bool kBack>
void transform_all(float* z, const Convolution& c) {
  long span[kMostPasses], count = 0;
  const float* twiddles[kMostPasses];
  const float* at = c.twiddles;
  for (long left = c.size; c.passes[count] != 0; ++count) {
    span[count] = left;
    twiddles[count] = at;
    at += 2 * (c.passes[count] - 1) * (left / c.passes[count]);
    left /= c.passes[count];
  }
  for (long g = 0; g < kGroups; ++g) {
    float* group = z + g * (c.size + 1) * kPoint;
    for (long n = 0; n < count; ++n) {
      const long number = kBack ? count - 1 - n : n;
      one_pass<kBack>(c.passes[number], group, c.size, span[number], twiddles[number]);
    }
  }
}

// One frequency of `kSignals` signals, in place. weights: [group out][channel in][real, imaginary].
template <bool kMirrored>
void multiply(float* z, long signal, long group, const float* weights) {
  float result[kSignals][kGroups][kPoint];
  for (long g = 0; g < kGroups; g += kVectors) {
    Vector real[kSignals][kVectors] = {}, imaginary[kSignals][kVectors] = {};
    const float* w = weights + g * kChannels * kPoint;
    for (long from = 0; from < kGroups; ++from) {
      for (long lane = 0; lane < kLanes; ++lane, w += kPoint) {
        const float* in = z + from * group + lane;
        Vector wr[kVectors], wi[kVectors];
        for (long v = 0; v < kVectors; ++v) wr[v] = load(w + v * kChannels * kPoint);
        for (long v = 0; v < kVectors; ++v) wi[v] = load(w + v * kChannels * kPoint + kLanes);
        for (long m = 0; m < kSignals; ++m) {
          const Vector zr = all(in[m * signal]), zi = all(in[m * signal + kLanes]);
          for (long v = 0; v < kVectors; ++v) {
            real[m][v] += zr * wr[v];
            imaginary[m][v] += zi * wr[v];
            if constexpr (kMirrored) {
              real[m][v] += zi * wi[v];
              imaginary[m][v] -= zr * wi[v];
            } else {
              real[m][v] -= zi * wi[v];
              imaginary[m][v] += zr * wi[v];
            }
          }
        }
      }
    }
    for (long m = 0; m < kSignals; ++m) {
      for (long v = 0; v < kVectors; ++v) {
        store(result[m][g + v], real[m][v]);
        store(result[m][g + v] + kLanes, imaginary[m][v]);
      }
    }
  }
  for (long m = 0; m < kSignals; ++m)
    for (long g = 0; g < kGroups; ++g)
      for (long half = 0; half < kPoint; half += kLanes) store(z + m * signal + g * group + half, load(result[m][g] + half));
}

struct Scratch {
  float* data = nullptr;
  long size = 0;
  ~Scratch() { std::free(data); }
  float* floats(long wanted) {
    if (wanted <= size) return data;
    std::free(data);
    size = (wanted + 1023) / 1024 * 1024;
    data = static_cast<float*>(std::aligned_alloc(64, size * sizeof(float)));
    if (data == nullptr) size = 0;
    else std::fill(data, data + size, 0.0f);
    return data;
  }
};

thread_local Scratch scratch;

struct Job {
  const Track& in;
  const Track* residual;
  float* out;
  long out_member, members, first, last;
  const Convolution& c;

  float* target(long index, long position) const { return out + index * out_member + position * kChannels; }

  template <typename Sum>
  void put(long index, long position, Sum sum) const {
    float* to = target(index, position);
    const float* more = residual == nullptr ? nullptr : residual->at(index, position);
    for (long g = 0; g < kGroups; ++g) {
      Vector value = sum(g) + load(c.bias + g * kLanes);
      if (more != nullptr) value += load(more + g * kLanes);
      store(to + g * kLanes, value);
    }
  }
};

int by_transform(const Job& job) {
  const Convolution& c = job.c;
  const long group = (c.size + 1) * kPoint, stride = kGroups * group + kPoint;  // not powers of two
  float* const data = scratch.floats(kTogether * stride);
  if (data == nullptr) return 1;
  const Activation activation(c);
  const long radius = (c.taps - 1) / 2 * c.dilation, inputs = c.rows + c.taps - 1;
  const bool alone = c.dilation == 1;
  const long partner = alone ? c.rows : 1, parts = alone ? 1 : c.dilation;
  const long pairs = (parts + 1) / 2, span = c.rows * c.dilation * (alone ? 2 : 1);
  const long blocks = (job.last - job.first + span - 1) / span, signals = job.members * blocks * pairs;
  for (long begin = 0; begin < signals; begin += kTogether) {
    const long count = std::min(kTogether, signals - begin);
    long member[kTogether], position[kTogether];
    bool whole[kTogether];  // the second part is there
    for (long m = 0; m < count; ++m) {
      const long number = begin + m, rest = number % (blocks * pairs), residue = 2 * (rest % pairs);
      member[m] = number / (blocks * pairs);
      position[m] = job.first + rest / pairs * span + residue;
      whole[m] = alone || residue + 1 < parts;
    }
    // Signals inside, steps outside: neighbouring signals are neighbours in memory.
    for (long n = 0; n < c.size; ++n) {
      for (long m = 0; m < count; ++m) {
        float* z = data + m * stride + n * kPoint;
        const long p = position[m] + n * c.dilation - radius;
        for (long part = 0; part < 2; ++part) {
          const long here = p + part * partner;
          if (n < inputs && here < job.last + radius && (part == 0 || whole[m])) {
            const float* from = job.in.at(member[m], here);
            for (long g = 0; g < kGroups; ++g) store(z + g * group + part * kLanes, activation(from, g));
          } else {
            for (long g = 0; g < kGroups; ++g) store(z + g * group + part * kLanes, Vector{});
          }
        }
      }
    }
    for (long m = 0; m < count; ++m) transform_all<false>(data + m * stride, c);
    // Whole groups, so that every signal takes the same way.
    for (long m = count; m % kSignals != 0; ++m) std::fill(data + m * stride, data + (m + 1) * stride, 0.0f);
    for (long frequency = 0; frequency <= c.size / 2; ++frequency) {
      const float* weights = c.weights + frequency * kGroups * kChannels * kPoint;
      const long point = c.order[frequency], mirrored = c.order[(c.size - frequency) % c.size];
      for (long m = 0; m < count; m += kSignals) multiply<false>(data + m * stride + point * kPoint, stride, group, weights);
      if (mirrored == point) continue;
      for (long m = 0; m < count; m += kSignals)
        multiply<true>(data + m * stride + mirrored * kPoint, stride, group, weights);
    }
    for (long m = 0; m < count; ++m) transform_all<true>(data + m * stride, c);
    for (long n = 0; n < c.rows; ++n) {
      for (long m = 0; m < count; ++m) {
        const float* z = data + m * stride + n * kPoint;
        for (long part = 0; part < (whole[m] ? 2 : 1); ++part) {
          const long here = position[m] + n * c.dilation + part * partner;
          if (here >= job.last) continue;
          job.put(member[m], here, [&](long g) { return load(z + g * group + part * kLanes); });
        }
      }
    }
  }
  return 0;
}

// weights: [group out][tap][channel in][lanes].
int directly(const Job& job) {
  const Convolution& c = job.c;
  const long radius = (c.taps - 1) / 2 * c.dilation, length = job.last - job.first;
  const long rounded = (length + kPositions - 1) / kPositions * kPositions;
  float* const x = scratch.floats((rounded + 2 * radius) * kChannels);
  if (x == nullptr) return 1;
  const Activation activation(c);
  for (long index = 0; index < job.members; ++index) {
    for (long n = 0; n < length + 2 * radius; ++n) {
      const float* from = job.in.at(index, job.first + n - radius);
      for (long g = 0; g < kGroups; ++g) store(x + n * kChannels + g * kLanes, activation(from, g));
    }
    for (long start = 0; start < length; start += kPositions) {
      float result[kPositions][kChannels];
      constexpr long kAtOnce = 2;  // vectors
      for (long g = 0; g < kGroups; g += kAtOnce) {
        Vector sum[kPositions][kAtOnce] = {};
        for (long tap = 0; tap < c.taps; ++tap) {
          const float* in = x + (start + tap * c.dilation) * kChannels;
          const float* w = c.weights + (g * c.taps + tap) * kChannels * kLanes;
          for (long channel = 0; channel < kChannels; ++channel, w += kLanes) {
            Vector weight[kAtOnce];
            for (long v = 0; v < kAtOnce; ++v) weight[v] = load(w + v * c.taps * kChannels * kLanes);
            for (long m = 0; m < kPositions; ++m) {
              const Vector value = all(in[m * kChannels + channel]);
              for (long v = 0; v < kAtOnce; ++v) sum[m][v] += value * weight[v];
            }
          }
        }
        for (long m = 0; m < kPositions; ++m)
          for (long v = 0; v < kAtOnce; ++v) store(result[m] + (g + v) * kLanes, sum[m][v]);
      }
      for (long m = 0; m < std::min(kPositions, length - start); ++m)
        job.put(index, job.first + start + m, [&](long g) { return load(result[m] + g * kLanes); });
    }
  }
  return 0;
}

}  // namespace

extern "C" long lanes() { return kLanes; }
extern "C" const char* instruction_set() { return kSet; }

// Positions [first, last) of every member's out; residual may be null, and may lie where out does. Other than 0: no memory.
extern "C" int convolve(const Track* in, const Track* residual, float* out, long out_member, long members, long first,
                        long last, const Convolution* convolution) {
  const Job job{*in, residual, out, out_member, members, first, last, *convolution};
  return convolution->size == 0 ? directly(job) : by_transform(job);
}
