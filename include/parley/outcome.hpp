// How a task ended, as a value: with its result, by an exception, or stopped. What runtime::start() hands to
// its callback.

#pragma once

#include <cassert>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
template <class T>
class outcome_await;
}

template <class T = void>
class [[nodiscard]] outcome {
public:
    // Stopped.
    outcome() noexcept = default;

    [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
    // It was told to stop, and did; there is neither value nor exception.
    [[nodiscard]] bool stopped() const noexcept { return !value_ && !exception_; }
    // nullptr unless an exception ended it.
    [[nodiscard]] const std::exception_ptr &exception() const noexcept { return exception_; }

    // The value; or throws the exception, or, if it was stopped, parley::exception with errc::stopping. Once.
    T get() &&;

    // The value, left where it is. Only when has_value().
    [[nodiscard]] std::add_lvalue_reference_t<const std::remove_reference_t<T>> peek() const noexcept
        requires(!std::is_void_v<T>)
    {
        assert(has_value());
        if constexpr (std::is_reference_v<T>)
            return **value_;
        else
            return *value_;
    }

private:
    template <class U>
    friend class detail::outcome_await;
    struct nothing {};
    using stored = std::conditional_t<std::is_void_v<T>, nothing,
                                      std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>>;

    std::optional<stored> value_;
    std::exception_ptr exception_;
};

// --- Implementation ---

namespace detail {
[[noreturn]] void throw_stopped();
}

template <class T>
T outcome<T>::get() && {
    if (exception_)
        std::rethrow_exception(std::move(exception_));
    if (!value_)
        detail::throw_stopped();
    if constexpr (std::is_reference_v<T>)
        return static_cast<T>(**value_);
    else if constexpr (!std::is_void_v<T>)
        return std::move(*value_);
}

} // namespace parley::inline PARLEY_ABI
