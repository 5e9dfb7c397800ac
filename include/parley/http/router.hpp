// router: which handler answers which requests.
//
//     parley::http::router routes;
//     routes.get("/notes/{id}", [&](parley::http::exchange &x) -> parley::task<parley::http::response> {
//         co_return parley::http::response::text(200, notes.at(x.parameter("id")));
//     });
//     routes.post("/notes", add_note);

#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/http/exchange.hpp>
#include <parley/http/request.hpp>
#include <parley/http/response.hpp>
#include <parley/task.hpp>

namespace parley::http::inline PARLEY_ABI {

// A handler, one of
//     task<response>(request &)     the whole request, its body within limits::body()
//     task<response>(exchange &)    the same, and who asks, and the parameters of the route
//     task<void>(exchange &)        answers by the exchange; the body is not read for it
// called from every loop, at the same time, so what it captures must bear that.
using handler = std::function<task<void>(exchange &)>;

namespace detail {

// Whole bodies before, whole answers after.
[[nodiscard]] task<bool> read_whole(exchange &x);

template <class F>
struct whole_handler {
    F answer;
    task<void> operator()(exchange &x) {
        const bool read = co_await read_whole(x);
        if (!read)
            co_return;
        response made = co_await call(x);
        const result<void> sent = co_await x.respond(std::move(made));
        static_cast<void>(sent); // the connection knows it as well
    }

private:
    task<response> call(exchange &x) {
        if constexpr (std::is_invocable_r_v<task<response>, F &, exchange &>)
            return std::invoke(answer, x);
        else
            return std::invoke(answer, x.request());
    }
};

template <class F>
[[nodiscard]] handler make_handler(F &&f) {
    using callable = std::decay_t<F>;
    parley::detail::check_callable<F>();
    if constexpr (std::is_invocable_r_v<task<void>, callable &, exchange &>) {
        return handler(std::forward<F>(f));
    } else {
        static_assert(std::is_invocable_r_v<task<response>, callable &, exchange &> ||
                          std::is_invocable_r_v<task<response>, callable &, http::request &>,
                      "parley: a handler is task<response>(request &), task<response>(exchange &) or "
                      "task<void>(exchange &)");
        return handler(whole_handler<callable>{std::forward<F>(f)});
    }
}

} // namespace detail

// A value; copies share nothing. Set it up before it is given to a server.
//
// A pattern is a path of segments. "{name}" stands for any segment, "{name...}" at the end for the rest, empty or
// not. What is asked is compared segment by segment, percent-decoded; a segment that is written out goes before a
// {name}, that before a {name...}, and among equals the route that was added first. A path that has a segment "." or
// ".." or an encoded NUL or slash matches nothing, so that no handler has to look for them.
class router {
public:
    // Throws std::invalid_argument for a method that is no token or a pattern that is none.
    template <class F>
    router &add(std::string_view method, std::string_view pattern, F &&f) {
        insert(method, pattern, detail::make_handler(std::forward<F>(f)));
        return *this;
    }
    // GET answers HEAD as well, unless there is a route for that.
    template <class F>
    router &get(std::string_view pattern, F &&f) {
        return add("GET", pattern, std::forward<F>(f));
    }
    template <class F>
    router &post(std::string_view pattern, F &&f) {
        return add("POST", pattern, std::forward<F>(f));
    }
    template <class F>
    router &put(std::string_view pattern, F &&f) {
        return add("PUT", pattern, std::forward<F>(f));
    }
    template <class F>
    router &patch(std::string_view pattern, F &&f) {
        return add("PATCH", pattern, std::forward<F>(f));
    }
    template <class F>
    router &del(std::string_view pattern, F &&f) {
        return add("DELETE", pattern, std::forward<F>(f));
    }
    // For what no route matches, whatever the method; else that is answered by 404 (or 405, and OPTIONS by 204, with
    // Allow, where a route has the path).
    template <class F>
    router &otherwise(F &&f) {
        otherwise_ = detail::make_handler(std::forward<F>(f));
        return *this;
    }

    using parameters = std::vector<std::pair<std::string, std::string>>;
    // What answers that method and path: a handler and its parameters; or nullptr, and `allow` has the methods that
    // the path knows, comma-separated, empty for an unknown path.
    [[nodiscard]] const handler *find(std::string_view method, std::string_view path, parameters &found,
                                      std::string &allow) const;

private:
    struct segment {
        enum class kind { text, any, rest };
        kind what;
        std::string text; // or the name
    };
    struct route {
        std::string method;
        std::vector<segment> pattern;
        handler answer;
    };

    void insert(std::string_view method, std::string_view pattern, handler answer);
    [[nodiscard]] static bool match(const std::vector<segment> &pattern,
                                    const std::vector<std::string> &path);
    [[nodiscard]] static bool before(const std::vector<segment> &a, const std::vector<segment> &b);

    std::vector<route> routes_;
    handler otherwise_;
};

} // namespace parley::http::inline PARLEY_ABI
