// How often a loop turns, and what time it has: on the world's clock, which nobody has to wait for.

#include <doctest/doctest.h>

#include <parley/core/Communicator.h>
#include <parley/sim/world.hpp>

#include <errno.h>
#include <netinet/in.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "sockets.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using std::chrono::nanoseconds;

namespace {

constexpr std::uint16_t port = 7000;
constexpr auto rest = 100ms; // of a loop that could not accept

// Something that happens once.
class event {
public:
    void set() {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        happened_ = true;
        changed_.notify_all();
    }
    void wait() {
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return happened_; });
    }

private:
    parley::sync::mutex mutex_;
    parley::sync::condition_variable changed_;
    bool happened_ = false;
};

// Answers each byte with itself.
class echo : public CommService {
public:
    explicit echo(Communicator &on) : on_(on) {
        const sockaddr_in at = wire::address_of("0.0.0.0", port);
        REQUIRE(init(reinterpret_cast<const sockaddr *>(&at), sizeof at, -1, -1) == 0);
        REQUIRE(on.bind(this) == 0);
    }
    ~echo() override {
        on_.unbind(this);
        unbound_.wait();
        deinit();
    }

private:
    struct byte : CommMessageIn, CommMessageOut {
        char value = 0;

    private:
        int append(const void *data, std::size_t *size) override {
            value = *static_cast<const char *>(data);
            *size = 1;
            return 1;
        }
        int encode(iovec vectors[], int) override {
            vectors[0] = {&value, 1};
            return 1;
        }
    };
    class exchange : public CommSession {
    public:
        explicit exchange(Communicator &on) : on_(on) {}

    private:
        CommMessageIn *message_in() override { return &byte_; }
        CommMessageOut *message_out() override { return &byte_; }
        int keep_alive_timeout() override { return -1; }
        void handle(int state, int) override {
            if (state != CS_STATE_TOREPLY || on_.reply(this) < 0)
                delete this;
        }

        Communicator &on_;
        byte byte_;
    };

    CommSession *new_session(long long, CommConnection *) override { return new exchange(on_); }
    void handle_unbound() override { unbound_.set(); }

    Communicator &on_;
    event unbound_;
};

// Runs f on the loop and waits for it.
void run_on(CommLoop *loop, std::function<void()> f) {
    struct job : CommNode {
        std::function<void()> what;
        event done;
    } posted;
    posted.what = std::move(f);
    posted.run = [](CommNode *node) {
        auto *self = static_cast<job *>(node);
        self->what();
        self->done.set();
    };
    REQUIRE(loop->post(&posted) == 0);
    posted.done.wait();
}

std::uint64_t sum(const Communicator &comm, std::uint64_t CommLoopCounters::*counter) {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < comm.loops(); i++)
        total += comm.loop(i)->counters().*counter;
    return total;
}

} // namespace

TEST_CASE("an idle loop makes no turns") {
    sim::world world{1};
    world.run([&] {
        Communicator comm;
        REQUIRE(comm.init(1, 0) == 0);
        run_on(comm.loop(0), [] {});
        world.sleep(1s);
        const auto before = sum(comm, &CommLoopCounters::turns);
        world.sleep(24h);
        CHECK(sum(comm, &CommLoopCounters::turns) == before);
        comm.deinit();
    });
}

TEST_CASE("now() stands still within a callback and never goes back between two") {
    sim::world world{1};
    world.run([&] {
        Communicator comm;
        REQUIRE(comm.init(1, 0) == 0);
        std::int64_t first = 0, again = 0, later = 0;
        run_on(comm.loop(0), [&] {
            first = comm.loop(0)->now();
            world.sleep(1h);
            again = comm.loop(0)->now();
        });
        run_on(comm.loop(0), [&] { later = comm.loop(0)->now(); });
        CHECK(first == again);
        CHECK(later - first == nanoseconds(1h).count());
        comm.deinit();
    });
}

TEST_CASE("out of descriptors, accepting rests instead of spinning, and takes everybody when there are some "
          "again") {
    for (const std::size_t loops : {1U, 3U}) {
        sim::world world{loops};
        sim::host &server = world.add_host("server");
        const auto serve = [&] {
            Communicator comm;
            REQUIRE(comm.init(loops, 0) == 0);
            std::vector<int> clients;
            const auto connect = [&] {
                world.local().run([&] { clients.push_back(wire::connect_to(server.address(), port)); });
                wire::send_all(clients.back(), "x");
            };
            {
                echo service(comm);
                world.sleep(1s); // it listens on every loop
                connect();
                CHECK(wire::recv_some(clients[0]) == "x");
                server.limit_descriptors(server.descriptors());
                for (int i = 0; i < 20; i++)
                    connect();
                world.sleep(10 * rest);
                const auto turns = sum(comm, &CommLoopCounters::turns);
                const auto errors = sum(comm, &CommLoopCounters::accept_errors);
                CHECK(errors > 0);
                world.sleep(100 * rest);
                CHECK(sum(comm, &CommLoopCounters::turns) - turns <= 300 * loops);
                CHECK(sum(comm, &CommLoopCounters::accept_errors) - errors <= 101 * loops);
                wire::send_all(clients[0], "y"); // who is connected is served on
                CHECK(wire::recv_some(clients[0]) == "y");
                server.limit_descriptors(1000);
                for (std::size_t i = 1; i < clients.size(); i++)
                    CHECK(wire::recv_some(clients[i]) == "x");
            }
            for (const int fd : clients)
                parley::sys::close(fd);
            comm.deinit();
        };
        world.run([&] { server.run(serve); });
    }
}

TEST_CASE("while accept() keeps failing for want of resources the loops rest, and the waiting are taken "
          "afterwards") {
    for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}) {
        INFO("accept says ", error);
        constexpr std::uint64_t failures = 100;
        sim::world world{static_cast<std::uint64_t>(error)};
        world.fail_calls(sim::call::accept, error, {.times = failures});
        world.run([&] {
            Communicator comm;
            REQUIRE(comm.init(2, 0) == 0);
            std::vector<int> clients;
            {
                echo service(comm);
                world.sleep(1s); // it listens on both loops
                const auto turns = sum(comm, &CommLoopCounters::turns);
                const auto began = world.now();
                for (int i = 0; i < 10; i++) {
                    clients.push_back(wire::connect_to("127.0.0.1", port));
                    wire::send_all(clients.back(), "x");
                }
                for (const int fd : clients)
                    CHECK(wire::recv_some(fd) == "x");
                CHECK(sum(comm, &CommLoopCounters::accept_errors) == failures);
                CHECK(world.now() - began >= (failures / 2 - 1) * rest); // two at a time, then a rest
                CHECK(sum(comm, &CommLoopCounters::turns) - turns <= 3 * failures + 60);
            }
            for (const int fd : clients)
                parley::sys::close(fd);
            comm.deinit();
        });
    }
}
