// Runs one compiled convolution on numbers from standard input, for processors other than this one (see test_convolutions).
#include SOURCE

#include <cstdio>
#include <vector>

template <typename T>
std::vector<T> numbers(long count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != static_cast<size_t>(count)) std::exit(1);
  return values;
}

int main() {
  const auto h = numbers<long>(9);
  const long radius = (h[0] - 1) / 2 * h[1];
  const float slope = numbers<float>(2)[0];
  const auto x = numbers<float>((h[4] + 2 * radius) * kChannels), weights = numbers<float>(h[8]);
  const auto bias = numbers<float>(kChannels), scale = numbers<float>(kChannels), shift = numbers<float>(kChannels);
  const auto turns = numbers<float>(h[5]);
  const auto passes = numbers<long>(h[6]), order = numbers<long>(h[7]);
  std::vector<float> out(h[4] * kChannels);
  const Convolution c{weights.data(), bias.data(), scale.data(), shift.data(), turns.data(), passes.data(),
                      order.data(),   h[0],        h[1],         h[2],         h[3],         slope, 0};
  const Track in{nullptr, nullptr, x.data() + radius * kChannels, 0, 0, -(1L << 40), 1L << 40};
  if (convolve(&in, nullptr, out.data(), 0, 1, 0, h[4], &c) != 0) return 1;
  std::printf("%s\n", instruction_set());
  std::fwrite(out.data(), sizeof(float), out.size(), stdout);
}
