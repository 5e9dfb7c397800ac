// One request, made by a callback, a coroutine, a fiber or a thread that blocks, from within each of the four:
// sixteen cells on a pool of one loop. Blocking on the loop is refused; nothing else may hang, fail or resist a
// cancel.

#include "net.hpp"

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <vector>

using namespace net;
using parley::line_message;
using parley::task;

namespace {

enum class caller { callback, coroutine, fiber, blocking };
constexpr std::array all_callers{caller::callback, caller::coroutine, caller::fiber, caller::blocking};

const char *name_of(caller one) {
    constexpr std::array names{"callback", "coroutine", "fiber", "blocking"};
    return names[static_cast<std::size_t>(one)];
}

using answer_sink = std::function<void(std::string)>;
const std::string refused = "refused";
const std::string cancelled = "cancelled";

// What a callback program has: a session that deletes itself when all is said.
class question final : public CommSession {
public:
    // On the loop of `communicator`, so that handle() comes after this.
    static void ask(Communicator &communicator, CommTarget &whom, const std::string &text,
                    const std::stop_token &stop, answer_sink tell) {
        auto *asked = new question(text, std::move(tell));
        if (communicator.request(asked, &whom) < 0)
            asked->handle(CS_STATE_ERROR, errno);
        else
            asked->told_.emplace(stop, canceller{&communicator, asked->ticket()});
    }

private:
    struct canceller {
        Communicator *communicator;
        CommTicket ticket;
        void operator()() const noexcept { communicator->cancel(ticket); }
    };

    question(const std::string &text, answer_sink tell) : line_(text), tell_(std::move(tell)) {}
    CommMessageOut *message_out() override { return &line_; }
    CommMessageIn *message_in() override { return &answer_; }
    void handle(int state, int error) override {
        told_.reset();
        const std::unique_ptr<question> last(this);
        if (state == CS_STATE_SUCCESS)
            tell_(std::string(answer_.text()));
        else
            tell_(error == ECANCELED ? cancelled : "callback: " + std::to_string(error));
    }

    line_message line_;
    line_message answer_;
    answer_sink tell_;
    std::optional<std::stop_callback<canceller>> told_;
};

// One loop with a server on it, and all that asks that server.
class ground {
public:
    ground() : rt_(with_loops(1)), serving_(rt_, serve()) {
        const endpoint_address where(listening_.take());
        target_.init(where.generic(), where.length, 1000, 60'000);
        client_.emplace(where.at, parley::client_options().max_connections(64));
    }
    ~ground() {
        target_.close_idle();
        client_.reset();
        rt_.stop();
        serving_.join();
        target_.deinit();
    }

    // Makes a request as `outer` and in it one as `inner`; what the inner one got. On a thread that is no loop.
    std::string nested(caller outer, caller inner, const std::string &text, std::stop_token stop = {}) {
        std::promise<std::string> over;
        const answer_sink tell = [&over](std::string got) { over.set_value(std::move(got)); };
        switch (outer) {
        case caller::callback:
            on_loop([&] { nest_in_callback(inner, text, stop, tell); });
            break;
        case caller::coroutine:
            rt_.start(from_coroutine(inner, text, stop), taking(tell));
            break;
        case caller::fiber:
            rt_.start(from_fiber(inner, text, stop), taking(tell));
            break;
        case caller::blocking:
            if (const std::string got = block("outer", {}); got != "outer")
                return "outer: " + got;
            return from_thread(inner, text, stop);
        }
        std::future<std::string> got = over.get_future();
        if (got.wait_for(hang_guard) != std::future_status::ready)
            hang(name_of(inner));
        return got.get();
    }

    inbox<int> unanswered; // one for each "quiet" that the server has taken

    // A blocking call where blocking is in order: on a thread of the executor.
    task<std::string> block_in_compute(std::string text) {
        std::string got = co_await parley::compute([&] { return block(text, {}); });
        co_return got;
    }
    std::string block_in_fiber(const std::string &text) {
        return rt_.sync_wait([](ground &g, std::string what) -> task<std::string> {
            std::string got;
            auto call = [&] { got = parley::await(g.block_in_compute(what)); };
            co_await parley::in_fiber(call);
            co_return got;
        }(*this, text));
    }
    std::string block_in_coroutine(const std::string &text) { return rt_.sync_wait(block_in_compute(text)); }

private:
    struct endpoint_address {
        explicit endpoint_address(parley::endpoint where)
            : at(std::move(where)), length(at.to_sockaddr(storage).value()) {}
        const sockaddr *generic() const { return reinterpret_cast<const sockaddr *>(&storage); }
        parley::endpoint at;
        sockaddr_storage storage;
        socklen_t length;
    };

    task<> serve() {
        parley::serve_options options;
        options.on_listening([this](const parley::endpoint &at) { listening_.put(at); });
        auto handler = [this](parley::connection<lines> peer) { return answer(std::move(peer)); };
        auto served = co_await parley::serve<lines>(parley::endpoint("127.0.0.1", 0), handler, options);
    }
    task<> answer(parley::connection<lines> peer) {
        while (auto asked = co_await peer.recv()) {
            if (asked->text() == "quiet") {
                unanswered.put(1);
                co_await parley::sleep_for(std::chrono::hours(1)); // until the peer has gone
            }
            if (auto sent = co_await peer.send(*asked); !sent)
                co_return;
        }
    }

    static std::function<void(parley::outcome<std::string>)> taking(answer_sink tell) {
        return [tell](parley::outcome<std::string> how) {
            tell(how.stopped() ? "stopped" : std::move(how).get());
        };
    }
    static std::string text_of(const parley::result<line_message> &got) {
        if (got)
            return std::string(got->text());
        return got.error() == parley::errc::stopping ? cancelled : to_string(got.error());
    }

    // --- the four ways to make the request ---

    task<std::string> ask(std::string text, std::stop_token stop) {
        auto got = co_await parley::with_stop_token(stop, client_->request(line_message(text)));
        co_return text_of(got);
    }
    task<std::string> ask_in_fiber(std::string text, std::stop_token stop) {
        std::string answer;
        auto call = [&] {
            answer =
                text_of(parley::await(parley::with_stop_token(stop, client_->request(line_message(text)))));
        };
        co_await parley::in_fiber(call);
        co_return answer;
    }
    task<std::string> ask_by_callback(std::string text, std::stop_token stop) {
        auto begin = [&](auto &done) {
            question::ask(rt_.communicator(), target_, text, stop,
                          [&done](std::string got) { done(std::move(got)); });
        };
        std::string answer = co_await parley::from_callback<std::string>(begin);
        co_return answer;
    }
    std::string block(const std::string &text, std::stop_token stop) {
        try {
            return rt_.sync_wait(ask(text, std::move(stop)));
        } catch (const std::system_error &e) {
            return e.code() == std::errc::resource_deadlock_would_occur ? refused : e.what();
        }
    }

    // --- where the inner one is made ---

    void nest_in_callback(caller inner, const std::string &text, const std::stop_token &stop,
                          const answer_sink &tell) {
        auto next = [this, inner, text, stop, tell](const std::string &got) {
            if (got == "outer")
                from_callback(inner, text, stop, tell);
            else
                tell("outer: " + got);
        };
        const std::stop_token never;
        question::ask(rt_.communicator(), target_, "outer", never, next);
    }
    void from_callback(caller inner, const std::string &text, const std::stop_token &stop,
                       const answer_sink &tell) {
        switch (inner) {
        case caller::callback:
            return question::ask(rt_.communicator(), target_, text, stop, tell);
        case caller::coroutine:
            return rt_.start(ask(text, stop), taking(tell));
        case caller::fiber:
            return rt_.start(ask_in_fiber(text, stop), taking(tell));
        case caller::blocking:
            return tell(block(text, stop));
        }
    }
    task<std::string> from_coroutine(caller inner, std::string text, std::stop_token stop) {
        const std::stop_token never;
        std::string got = co_await ask("outer", never);
        if (got != "outer")
            co_return "outer: " + got;
        if (inner == caller::callback)
            got = co_await ask_by_callback(text, stop);
        else if (inner == caller::coroutine)
            got = co_await ask(text, stop);
        else if (inner == caller::fiber)
            got = co_await ask_in_fiber(text, stop);
        else
            got = block(text, stop);
        co_return got;
    }
    task<std::string> from_fiber(caller inner, std::string text, std::stop_token stop) {
        std::string got;
        auto call = [&] {
            got = text_of(parley::await(client_->request(line_message("outer"))));
            if (got != "outer")
                got = "outer: " + got;
            else if (inner == caller::callback)
                got = parley::await(ask_by_callback(text, stop));
            else if (inner == caller::coroutine)
                got = parley::await(ask(text, stop));
            else if (inner == caller::fiber)
                got = parley::await(ask_in_fiber(text, stop)); // a fiber in a fiber
            else
                got = block(text, stop);
        };
        co_await parley::in_fiber(call);
        co_return got;
    }
    std::string from_thread(caller inner, const std::string &text, const std::stop_token &stop) {
        switch (inner) {
        case caller::callback: {
            std::promise<std::string> over;
            on_loop([&] {
                question::ask(rt_.communicator(), target_, text, stop,
                              [&over](std::string got) { over.set_value(std::move(got)); });
            });
            return over.get_future().get();
        }
        case caller::coroutine:
            return rt_.sync_wait(ask(text, stop));
        case caller::fiber:
            return rt_.sync_wait(ask_in_fiber(text, stop));
        case caller::blocking:
            break;
        }
        return block(text, stop);
    }

    template <class F>
    void on_loop(F f) {
        struct node : CommNode {
            explicit node(F &&what) : call(std::move(what)) {}
            F call;
            std::promise<void> done;
        } work(std::move(f));
        work.run = [](CommNode *self) {
            auto &mine = *static_cast<node *>(self);
            mine.call();
            mine.done.set_value();
        };
        REQUIRE(rt_.loop(0).core().post(&work) == 0);
        work.done.get_future().get();
    }

    parley::runtime rt_;
    inbox<parley::endpoint> listening_;
    CommTarget target_;
    std::optional<parley::client<lines>> client_;
    background serving_;
};

bool blocks_a_loop(caller outer, caller inner) {
    return inner == caller::blocking && outer != caller::blocking;
}

} // namespace

TEST_CASE("each of four callers makes a request from within each of the four, ten thousand times") {
    ground here;
    constexpr int rounds = 157; // times four threads times sixteen cells
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&here, &wrong, t] {
            for (int i = 0; i < rounds; ++i) {
                for (const caller outer : all_callers) {
                    for (const caller inner : all_callers) {
                        const std::string text = std::to_string(t * rounds + i);
                        const std::string got = here.nested(outer, inner, text);
                        if (got != (blocks_a_loop(outer, inner) ? refused : text) && wrong++ == 0)
                            std::fprintf(stderr, "%s in %s got \"%s\"\n", name_of(inner), name_of(outer),
                                         got.c_str());
                    }
                }
            }
        });
    for (std::thread &one : threads)
        one.join();
    CHECK(wrong == 0);
}

TEST_CASE("blocking is in order off the loop, from a coroutine and from a fiber") {
    ground here;
    CHECK(here.block_in_coroutine("on the executor") == "on the executor");
    CHECK(here.block_in_fiber("below a fiber") == "below a fiber");
}

TEST_CASE("blocking inside compute is safe, however deep, with an executor of one thread") {
    parley::runtime_options options;
    options.loops = 1;
    options.executor_threads = 1;
    parley::runtime rt(options);
    struct nest {
        parley::runtime &rt;
        task<int> down(int depth) {
            if (depth == 0)
                co_return 0;
            auto block = [this, depth] { return rt.sync_wait(down(depth - 1)) + 1; };
            co_return co_await parley::compute(block);
        }
    } n{rt};
    CHECK(rt.sync_wait(n.down(5)) == 5);
    for (int i = 0; i < 20; ++i)
        CHECK(rt.sync_wait(n.down(2)) == 2);
}

TEST_CASE("a cancel works in every cell, during the request and before it") {
    ground here;
    for (int i = 0; i < 20; ++i) {
        for (const caller outer : all_callers) {
            for (const caller inner : all_callers) {
                if (blocks_a_loop(outer, inner))
                    continue;
                CAPTURE(name_of(outer));
                CAPTURE(name_of(inner));
                std::stop_source during;
                std::thread canceller([&] {
                    here.unanswered.take();
                    during.request_stop();
                });
                CHECK(here.nested(outer, inner, "quiet", during.get_token()) == cancelled);
                canceller.join();

                std::stop_source before;
                before.request_stop();
                CHECK(here.nested(outer, inner, "never asked", before.get_token()) == cancelled);
            }
        }
    }
    CHECK(here.unanswered.empty());
}
