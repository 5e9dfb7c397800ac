// A value, or the error that stands in its place: the interface of std::expected<T, parley::error>, which
// C++20 does not have yet. Every operation on the world returns one; the compiler warns when it is thrown
// away.
//
//     if (auto line = co_await peer.recv())
//         use(*line);
//     else
//         std::cerr << line.error() << '\n';

#pragma once

#include <cassert>
#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {

// The tag of constructors that make a result with an error, as std::unexpect_t.
struct unexpect_t {
    explicit unexpect_t() = default;
};
inline constexpr unexpect_t unexpect{};

// What a function returns for failure: `return parley::unexpected(e)`.
class unexpected {
public:
    explicit unexpected(parley::error e) noexcept : error_(std::move(e)) {}
    template <class... Args>
        requires(sizeof...(Args) > 1 && std::constructible_from<parley::error, Args...>)
    explicit unexpected(Args &&...args) : error_(std::forward<Args>(args)...) {}

    [[nodiscard]] const parley::error &error() const & noexcept { return error_; }
    [[nodiscard]] parley::error &error() & noexcept { return error_; }
    [[nodiscard]] parley::error &&error() && noexcept { return std::move(error_); }

    friend bool operator==(const unexpected &a, const unexpected &b) noexcept { return a.error_ == b.error_; }

private:
    parley::error error_;
};

template <class T = void>
class result;

namespace detail {

template <class T>
inline constexpr bool is_result = false;
template <class T>
inline constexpr bool is_result<result<T>> = true;

[[noreturn]] void throw_error(const error &e);

} // namespace detail

template <class T>
class [[nodiscard]] result {
    static_assert(std::is_object_v<T> && !std::is_array_v<T>, "result<T>: T is an object type, or void");

public:
    using value_type = T;
    using error_type = parley::error;
    using unexpected_type = unexpected;
    template <class U>
    using rebind = result<U>;

    result() noexcept(std::is_nothrow_default_constructible_v<T>)
        requires std::default_initializable<T>
        : value_() {}
    template <class U = T>
        requires(std::constructible_from<T, U> && !std::same_as<std::remove_cvref_t<U>, result> &&
                 !std::same_as<std::remove_cvref_t<U>, unexpected> &&
                 !std::same_as<std::remove_cvref_t<U>, unexpect_t> &&
                 !std::same_as<std::remove_cvref_t<U>, std::in_place_t>)
    explicit(!std::convertible_to<U, T>) result(U &&value) : value_(std::forward<U>(value)) {}
    result(const unexpected &e) noexcept : error_(e.error()), has_value_(false) {}
    result(unexpected &&e) noexcept : error_(std::move(e).error()), has_value_(false) {}
    template <class... Args>
        requires std::constructible_from<T, Args...>
    explicit result(std::in_place_t, Args &&...args) : value_(std::forward<Args>(args)...) {}
    template <class... Args>
        requires std::constructible_from<parley::error, Args...>
    explicit result(unexpect_t, Args &&...args) : error_(std::forward<Args>(args)...), has_value_(false) {}

    result(const result &other)
        requires std::copy_constructible<T>
        : has_value_(other.has_value_) {
        construct_from(other);
    }
    result(result &&other) noexcept(std::is_nothrow_move_constructible_v<T>)
        requires std::move_constructible<T>
        : has_value_(other.has_value_) {
        construct_from(std::move(other));
    }
    result &operator=(const result &other)
        requires(std::copy_constructible<T> && std::is_copy_assignable_v<T>)
    {
        return assign(other);
    }
    result &operator=(result &&other) noexcept(std::is_nothrow_move_constructible_v<T> &&
                                               std::is_nothrow_move_assignable_v<T>)
        requires(std::move_constructible<T> && std::is_move_assignable_v<T>)
    {
        return assign(std::move(other));
    }
    ~result() { destroy(); }

    [[nodiscard]] bool has_value() const noexcept { return has_value_; }
    explicit operator bool() const noexcept { return has_value_; }

    // Throw parley::exception when there is no value.
    [[nodiscard]] T &value() & { return check(), value_; }
    [[nodiscard]] const T &value() const & { return check(), value_; }
    [[nodiscard]] T &&value() && { return check(), std::move(value_); }

    // Undefined when there is no value, or no error.
    [[nodiscard]] T &operator*() & noexcept { return assert(has_value_), value_; }
    [[nodiscard]] const T &operator*() const & noexcept { return assert(has_value_), value_; }
    [[nodiscard]] T &&operator*() && noexcept { return assert(has_value_), std::move(value_); }
    [[nodiscard]] T *operator->() noexcept { return assert(has_value_), std::addressof(value_); }
    [[nodiscard]] const T *operator->() const noexcept { return assert(has_value_), std::addressof(value_); }
    [[nodiscard]] parley::error &error() & noexcept { return assert(!has_value_), error_; }
    [[nodiscard]] const parley::error &error() const & noexcept { return assert(!has_value_), error_; }
    [[nodiscard]] parley::error &&error() && noexcept { return assert(!has_value_), std::move(error_); }

    template <class U>
    [[nodiscard]] T value_or(U &&other) const & {
        if (has_value_)
            return value_;
        return static_cast<T>(std::forward<U>(other));
    }
    template <class U>
    [[nodiscard]] T value_or(U &&other) && {
        if (has_value_)
            return std::move(value_);
        return static_cast<T>(std::forward<U>(other));
    }

    template <class... Args>
    T &emplace(Args &&...args) {
        if constexpr (std::is_nothrow_constructible_v<T, Args...>) {
            destroy();
            std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
        } else {
            T fresh(std::forward<Args>(args)...);
            destroy();
            std::construct_at(std::addressof(value_), std::move(fresh));
        }
        has_value_ = true;
        return value_;
    }

    // f(value) -> result<U>; an error is passed on.
    template <class F>
    auto and_then(F &&f) & {
        return and_then_of(*this, std::forward<F>(f));
    }
    template <class F>
    auto and_then(F &&f) const & {
        return and_then_of(*this, std::forward<F>(f));
    }
    template <class F>
    auto and_then(F &&f) && {
        return and_then_of(std::move(*this), std::forward<F>(f));
    }
    // f(value) -> U, which becomes result<U>.
    template <class F>
    auto transform(F &&f) & {
        return transform_of(*this, std::forward<F>(f));
    }
    template <class F>
    auto transform(F &&f) const & {
        return transform_of(*this, std::forward<F>(f));
    }
    template <class F>
    auto transform(F &&f) && {
        return transform_of(std::move(*this), std::forward<F>(f));
    }
    // f(error) -> result<T>; a value is passed on.
    template <class F>
    result or_else(F &&f) const & {
        return has_value_ ? result(std::in_place, value_) : std::invoke(std::forward<F>(f), error_);
    }
    template <class F>
    result or_else(F &&f) && {
        return has_value_ ? result(std::in_place, std::move(value_))
                          : std::invoke(std::forward<F>(f), std::move(error_));
    }
    // f(error) -> error.
    template <class F>
    result transform_error(F &&f) const & {
        return has_value_ ? result(std::in_place, value_)
                          : result(unexpect, std::invoke(std::forward<F>(f), error_));
    }
    template <class F>
    result transform_error(F &&f) && {
        return has_value_ ? result(std::in_place, std::move(value_))
                          : result(unexpect, std::invoke(std::forward<F>(f), std::move(error_)));
    }

    friend bool operator==(const result &a, const unexpected &b) noexcept {
        return !a.has_value_ && a.error_ == b.error();
    }

private:
    void check() const {
        if (!has_value_)
            detail::throw_error(error_);
    }
    void destroy() noexcept {
        if (has_value_)
            std::destroy_at(std::addressof(value_));
        else
            std::destroy_at(std::addressof(error_));
    }
    template <class R>
    void construct_from(R &&other) {
        if (has_value_)
            std::construct_at(std::addressof(value_), std::forward<R>(other).value_);
        else
            std::construct_at(std::addressof(error_), std::forward<R>(other).error_);
    }
    template <class R>
    result &assign(R &&other) {
        if (has_value_ && other.has_value_) {
            value_ = std::forward<R>(other).value_;
        } else if (!has_value_ && !other.has_value_) {
            error_ = std::forward<R>(other).error_;
        } else if (other.has_value_) {
            parley::error kept = std::move(error_);
            std::destroy_at(std::addressof(error_));
            try {
                std::construct_at(std::addressof(value_), std::forward<R>(other).value_);
            } catch (...) {
                std::construct_at(std::addressof(error_), std::move(kept));
                throw;
            }
            has_value_ = true;
        } else {
            std::destroy_at(std::addressof(value_));
            std::construct_at(std::addressof(error_), std::forward<R>(other).error_);
            has_value_ = false;
        }
        return *this;
    }
    template <class Self, class F>
    static auto and_then_of(Self &&self, F &&f) {
        using argument = decltype((std::forward<Self>(self).value_));
        using next = std::remove_cvref_t<std::invoke_result_t<F, argument>>;
        static_assert(detail::is_result<next>, "and_then: the function returns a result");
        if (self.has_value_)
            return next(std::invoke(std::forward<F>(f), std::forward<Self>(self).value_));
        return next(unexpect, std::forward<Self>(self).error_);
    }
    template <class Self, class F>
    static auto transform_of(Self &&self, F &&f) {
        using argument = decltype((std::forward<Self>(self).value_));
        using made = std::remove_cv_t<std::invoke_result_t<F, argument>>;
        if (!self.has_value_)
            return result<made>(unexpect, std::forward<Self>(self).error_);
        if constexpr (std::is_void_v<made>) {
            std::invoke(std::forward<F>(f), std::forward<Self>(self).value_);
            return result<made>();
        } else {
            return result<made>(std::in_place,
                                std::invoke(std::forward<F>(f), std::forward<Self>(self).value_));
        }
    }

    union {
        T value_;
        parley::error error_;
    };
    bool has_value_ = true;
};

// By value, or by the error's code. Not members, so that nothing is converted to a result in order to compare
// it.
template <class T, class U>
    requires(!std::is_void_v<T> && !std::is_void_v<U>)
bool operator==(const result<T> &a, const result<U> &b) {
    if (a.has_value() != b.has_value())
        return false;
    return a.has_value() ? bool(*a == *b) : a.error() == b.error();
}
template <class T, class U>
    requires(!std::is_void_v<T> && !detail::is_result<U> && !std::same_as<U, unexpected> &&
             requires(const T &t, const U &u) {
                 { t == u } -> std::convertible_to<bool>;
             })
bool operator==(const result<T> &a, const U &b) {
    return a.has_value() && bool(*a == b);
}

template <>
class [[nodiscard]] result<void> {
public:
    using value_type = void;
    using error_type = parley::error;
    using unexpected_type = unexpected;
    template <class U>
    using rebind = result<U>;

    result() noexcept = default;
    result(const unexpected &e) noexcept : error_(parley::error::present(e.error())) {}
    explicit result(std::in_place_t) noexcept {}
    template <class... Args>
        requires std::constructible_from<parley::error, Args...>
    explicit result(unexpect_t, Args &&...args) noexcept
        : error_(parley::error::present(parley::error(std::forward<Args>(args)...))) {}

    [[nodiscard]] bool has_value() const noexcept { return !error_.is_present(); }
    explicit operator bool() const noexcept { return has_value(); }

    // Throws parley::exception when there is an error.
    void value() const {
        if (!has_value())
            detail::throw_error(error_);
    }
    void operator*() const noexcept { assert(has_value()); }
    [[nodiscard]] parley::error &error() & noexcept { return assert(!has_value()), error_; }
    [[nodiscard]] const parley::error &error() const & noexcept { return assert(!has_value()), error_; }
    [[nodiscard]] parley::error &&error() && noexcept { return assert(!has_value()), std::move(error_); }

    void emplace() noexcept { error_ = parley::error(); }

    // As in result<T>; the function takes no argument.
    template <class F>
    auto and_then(F &&f) const {
        using next = std::remove_cvref_t<std::invoke_result_t<F>>;
        static_assert(detail::is_result<next>, "and_then: the function returns a result");
        if (has_value())
            return next(std::invoke(std::forward<F>(f)));
        return next(unexpect, error_);
    }
    template <class F>
    auto transform(F &&f) const {
        using made = std::remove_cv_t<std::invoke_result_t<F>>;
        if (!has_value())
            return result<made>(unexpect, error_);
        if constexpr (std::is_void_v<made>) {
            std::invoke(std::forward<F>(f));
            return result<made>();
        } else {
            return result<made>(std::in_place, std::invoke(std::forward<F>(f)));
        }
    }
    template <class F>
    result or_else(F &&f) const {
        return has_value() ? *this : result(std::invoke(std::forward<F>(f), error_));
    }
    template <class F>
    result transform_error(F &&f) const {
        return has_value() ? *this : result(unexpect, std::invoke(std::forward<F>(f), error_));
    }

    friend bool operator==(const result &a, const result &b) noexcept {
        return a.has_value() == b.has_value() && (a.has_value() || a.error_ == b.error_);
    }
    friend bool operator==(const result &a, const unexpected &b) noexcept {
        return !a.has_value() && a.error_ == b.error();
    }

private:
    parley::error error_; // none in it: success
};

} // namespace parley::inline PARLEY_ABI
