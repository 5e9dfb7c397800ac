// A piece of an answer on its way out: bytes that it owns, and bytes that its sender keeps.

#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>

namespace parley::http::inline PARLEY_ABI {
namespace detail {

class outgoing final : public CommMessageOut {
public:
    outgoing() = default;
    explicit outgoing(std::string head, std::string_view body = {}, std::string_view tail = {}) noexcept
        : head_(std::move(head)), body_(body), tail_(tail) {}

    outgoing &last() noexcept {
        keep_ = false;
        return *this;
    }
    [[nodiscard]] bool keep_alive() const noexcept { return keep_; }

private:
    int encode(struct iovec vectors[], int max) override;

    std::string head_;
    std::string_view body_;
    std::string_view tail_;
    bool keep_ = true;
};

} // namespace detail
} // namespace parley::http::inline PARLEY_ABI
