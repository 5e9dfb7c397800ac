#include "choices.h"

#include <bit>
#include <cstring>

namespace parley::sim::detail {

generator::generator(std::uint64_t seed) noexcept {
    for (std::uint64_t &word : s_) {
        seed += 0x9e3779b97f4a7c15;
        std::uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        word = z ^ (z >> 31);
    }
}

std::uint64_t generator::next() noexcept {
    const std::uint64_t result = std::rotl(s_[1] * 5, 7) * 9;
    const std::uint64_t t = s_[1] << 17;
    s_[2] ^= s_[0];
    s_[3] ^= s_[1];
    s_[1] ^= s_[2];
    s_[0] ^= s_[3];
    s_[2] ^= t;
    s_[3] = std::rotl(s_[3], 45);
    return result;
}

choices::choices(std::uint64_t seed) noexcept
    : generators_{generator(seed * 8 + 1), generator(seed * 8 + 2), generator(seed * 8 + 3),
                  generator(seed * 8 + 4)},
      bytes_(seed * 8 + 5) {}

std::uint32_t choices::told(stream from, std::uint32_t n) {
    const auto index = static_cast<std::size_t>(from);
    const std::vector<std::uint32_t> &numbers = (*told_)[index];
    const std::size_t at = taken_[index].size();
    return at < numbers.size() ? numbers[at] % n : 0;
}

std::uint32_t choices::draw(stream from, std::uint32_t n) {
    if (n < 2)
        return 0;
    const auto index = static_cast<std::size_t>(from);
    const auto value =
        told_ != nullptr ? told(from, n) : static_cast<std::uint32_t>(generators_[index].next() % n);
    taken_[index].push_back(value);
    return value;
}

std::uint32_t choices::seldom(stream from, double p, std::uint32_t n) {
    if (p <= 0 || n < 2)
        return 0;
    const auto index = static_cast<std::size_t>(from);
    std::uint32_t value = 0;
    if (told_ != nullptr) {
        value = told(from, n);
    } else {
        const std::uint64_t random = generators_[index].next();
        if (static_cast<double>(random >> 11) * 0x1p-53 < p)
            value = 1 + static_cast<std::uint32_t>(generators_[index].next() % (n - 1));
    }
    taken_[index].push_back(value);
    return value;
}

std::uint32_t choices::who(std::uint32_t n, bool free, double p) {
    if (n < 2)
        return 0;
    if (explorer_ != nullptr)
        return explorer_->branch(n, free);
    return free ? draw(stream::schedule, n) : seldom(stream::schedule, p, n);
}

void choices::bytes(void *out, std::size_t size) noexcept {
    auto *to = static_cast<unsigned char *>(out);
    while (size > 0) {
        const std::uint64_t random = bytes_.next();
        const std::size_t n = size < sizeof random ? size : sizeof random;
        std::memcpy(to, &random, n);
        to += n;
        size -= n;
    }
}

} // namespace parley::sim::detail
