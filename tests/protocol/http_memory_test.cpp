// Memory that runs out in a parse or an encode, at each allocation in turn: ENOMEM, and the message can be used again.
// It replaces operator new for its executable.

#include <parley/http/http1.hpp>

#include <doctest/doctest.h>

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <string_view>

namespace {

constexpr long long plenty = std::numeric_limits<long long>::max();
thread_local long long left = plenty; // allocations until the one that fails

void *allocate(std::size_t size) {
    if (left != plenty && --left == 0)
        return nullptr;
    return std::malloc(size == 0 ? 1 : size);
}

template <class M>
struct open : M {
    using M::append;
    using M::encode;
    using M::M;
};

} // namespace

void *operator new(std::size_t size) {
    if (void *memory = allocate(size))
        return memory;
    throw std::bad_alloc();
}
void operator delete(void *memory) noexcept {
    std::free(memory);
}
void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

TEST_CASE("a parse that runs out of memory fails with ENOMEM, wherever it does") {
    const std::string input =
        "PUT /somewhere/with/a/long/path/that/fits/no/small/string HTTP/1.1\r\nHost: example\r\n"
        "X-Long: " +
        std::string(300, 'x') +
        "\r\nTransfer-Encoding: chunked\r\n\r\n"
        "28\r\n" +
        std::string(40, 'b') + "\r\n0\r\nX-Sum: " + std::string(40, 's') + "\r\n\r\n";
    int failures = 0;
    for (long long n = 1;; ++n) {
        open<parley::http::request> message;
        int result = 0, error = 0;
        bool injected = false;
        for (std::size_t at = 0, piece = 50; result == 0 && at < input.size(); at += piece) {
            std::size_t size = std::min(piece, input.size() - at);
            errno = 0;
            left = at == 0 ? n : left;
            result = message.append(input.data() + at, &size);
            error = errno;
        }
        injected = left <= 0;
        left = plenty;
        CAPTURE(n);
        if (!injected) {
            CHECK(result == 1);
            CHECK_FALSE(message.error());
            break;
        }
        ++failures;
        CHECK(result == -1);
        CHECK(error == ENOMEM);
        message.clear();
        std::size_t size = input.size();
        CHECK(message.append(input.data(), &size) == 1);
        CHECK(message.body() == std::string(40, 'b'));
    }
    CHECK(failures > 5);
}

TEST_CASE("so does an encode") {
    open<parley::http::request> message;
    message.set("X-Long", std::string(3000, 'x'));
    struct iovec vectors[4];
    left = 1;
    errno = 0;
    const int result = message.encode(vectors, 4);
    const int error = errno;
    left = plenty;
    CHECK(result == -1);
    CHECK(error == ENOMEM);
    CHECK(message.encode(vectors, 4) == 1);
}
