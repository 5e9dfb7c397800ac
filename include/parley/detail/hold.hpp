// A counted reference to an object that counts for itself.

#pragma once

#include <utility>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// T has retain() and release(); the last release() ends it.
template <class T>
class hold {
public:
    hold() noexcept = default;
    explicit hold(T &object) noexcept : object_(&object) { object.retain(); }
    // Takes over a reference that was counted already.
    static hold adopt(T *object) noexcept {
        hold taken;
        taken.object_ = object;
        return taken;
    }
    hold(hold &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    hold &operator=(hold &&other) noexcept {
        if (this != &other) {
            reset();
            object_ = std::exchange(other.object_, nullptr);
        }
        return *this;
    }
    ~hold() { reset(); }

    void reset() noexcept {
        if (T *old = std::exchange(object_, nullptr))
            old->release();
    }
    [[nodiscard]] T *leak() noexcept { return std::exchange(object_, nullptr); }
    [[nodiscard]] T *get() const noexcept { return object_; }
    T &operator*() const noexcept { return *object_; }
    T *operator->() const noexcept { return object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }

private:
    T *object_ = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
