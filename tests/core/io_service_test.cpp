#include "files.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

using namespace fixture;
using namespace files;

TEST_CASE("a service is initialised with a positive number of events, once") {
    struct Plain : IOService {
        void handle_unbound() override {}
    } service;

    CHECK(service.init(0) == -1);
    CHECK(errno == EINVAL);
    CHECK(service.init(-1) == -1);
    CHECK(errno == EINVAL);
    CHECK(service.init(1) == 0);
    CHECK(service.init(1) == -1);
    CHECK(errno == EALREADY);
    service.deinit();
    CHECK(service.init(2) == 0);
}

TEST_CASE("a service is bound to one Communicator at a time") {
    Communicator comm, other;
    Files files;
    struct Plain : IOService {
        void handle_unbound() override {}
    } raw;
    CHECK(comm.io_bind(&files) == -1);
    CHECK(errno == ESHUTDOWN);
    REQUIRE(comm.init(1, 0) == 0);
    REQUIRE(other.init(1, 0) == 0);
    CHECK(comm.io_bind(&raw) == -1);
    CHECK(errno == EINVAL);
    REQUIRE(comm.io_bind(&files) == 0);
    CHECK(comm.io_bind(&files) == -1);
    CHECK(errno == EEXIST);
    CHECK(other.io_bind(&files) == -1);
    CHECK(errno == EEXIST);

    comm.io_unbind(&files);
    comm.io_unbind(&files);
    files.unbound.wait_for(1);
    CHECK(files.unbounds == 1);
    other.deinit();
    CHECK(other.io_bind(&files) == -1);
    CHECK(errno == ESHUTDOWN);
}

TEST_CASE("a service that was unbound can be bound again, and used") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Files files;
    File file("x");
    for (int i = 1; i <= 3; i++) {
        REQUIRE(comm.io_bind(&files) == 0);
        Operation read(byte_of(file.fd()));
        REQUIRE(files.request(&read) == 0);
        CHECK(read.wait() == success(1));
        comm.io_unbind(&files);
        files.unbound.wait_for(static_cast<size_t>(i));
        CHECK(files.unbounds == i);
    }
}

TEST_CASE("requests are refused before a service is bound and after it was unbound") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Files files;
    File file("x");
    Operation read(byte_of(file.fd()));

    CHECK(files.request(&read) == -1);
    CHECK(errno == ENOENT);
    REQUIRE(comm.io_bind(&files) == 0);
    comm.io_unbind(&files);
    CHECK(files.request(&read) == -1);
    CHECK(errno == ENOENT);
    files.unbound.wait_for(1);
}

TEST_CASE("a request keeps the caller's errno") {
    SlowFiles world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("x");
    Operation read(byte_of(file.fd()));

    errno = E2BIG;
    REQUIRE(service.files.request(&read) == 0);
    CHECK(errno == E2BIG);
    read.wait();
}

TEST_CASE("an operation is never handled inside its request, and completes on the loop that made it") {
    Communicator comm;
    REQUIRE(comm.init(3, 0) == 0);
    Bound service(comm);
    File file("x");
    for (size_t i = 0; i < comm.loops(); i++) {
        Operation read(byte_of(file.fd()));
        bool inside = true;
        run_on(comm.loop(i), [&] {
            CHECK(service.files.request(&read) == 0);
            inside = read.is_done();
        });
        CHECK_FALSE(inside);
        read.wait();
        CHECK(read.loop() == comm.loop(i));
    }
}

TEST_CASE("operations complete on handler threads, except those that say otherwise") {
    Communicator comm;
    REQUIRE(comm.init(1, 1) == 0);
    Bound service(comm);
    File file("x");
    int on_handler = -1;
    Operation read(byte_of(file.fd()));
    read.then = [&] { on_handler = comm.is_handler_thread(); };
    Operation in_place(byte_of(file.fd()));
    in_place.in_place = true;

    REQUIRE(service.files.request(&read) == 0);
    CHECK(read.wait() == success(1));
    CHECK(on_handler == 1);
    CHECK(read.loop() == nullptr);
    REQUIRE(service.files.request(&in_place) == 0);
    CHECK(in_place.wait() == success(1));
    CHECK(in_place.loop() == comm.loop(0));
}

TEST_CASE("no more operations are in flight than the service has events") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm, 2);
    File file("x");
    Operation first(byte_of(file.fd()));
    Operation second(byte_of(file.fd()));
    Operation third(byte_of(file.fd()));
    {
        BusyLoop busy(comm.loop(0)); // so that none of them completes
        REQUIRE(service.files.request(&first) == 0);
        REQUIRE(service.files.request(&second) == 0);
        CHECK(service.files.request(&third) == -1);
        CHECK(errno == EAGAIN);
    }
    first.wait();
    second.wait();
    CHECK(service.files.request(&third) == 0);
    CHECK(third.wait() == success(1));
}

TEST_CASE("the place of an operation is free when handle() runs") {
    for (size_t handlers : {0u, 1u}) {
        CAPTURE(handlers);
        Communicator comm;
        REQUIRE(comm.init(1, handlers) == 0);
        Bound service(comm, 1);
        File file("xy");
        Operation first(byte_of(file.fd()));
        Operation second(byte_of(file.fd(), 1));
        int result = -1;
        first.then = [&] { result = service.files.request(&second); };

        REQUIRE(service.files.request(&first) == 0);
        first.wait();
        REQUIRE(result == 0);
        CHECK(second.wait() == success(1));
        CHECK(first.byte == 'x');
        CHECK(second.byte == 'y');
    }
}

TEST_CASE("an operation may end its own life, or begin again, in handle()") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("x");
    Event over;

    struct Thrice : IOSession {
        IOService &service;
        int fd;
        Event &over;
        int times = 0;
        char byte = 0;
        Thrice(IOService &files, int file, Event &end) : service(files), fd(file), over(end) {}
        int prepare() override { return prep_pread(fd, &byte, 1, 0), 0; }
        void handle(int state, int) override {
            CHECK(state == IOS_STATE_SUCCESS);
            if (++times < 3) {
                CHECK(service.request(this) == 0);
            } else {
                over.set();
                delete this;
            }
        }
    };
    REQUIRE(service.files.request(new Thrice(service.files, file.fd(), over)) == 0);
    over.wait();
}

TEST_CASE("a service is unbound when the last operation was handled") {
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        SlowFiles world;
        InstalledWorld installed(world);
        Communicator comm;
        REQUIRE(comm.init(2, handlers) == 0);
        Files files;
        REQUIRE(comm.io_bind(&files) == 0);
        File file("x");
        std::atomic<int> handled{0};
        int handled_before = -1;
        files.on_unbound = [&] { handled_before = handled; };
        std::deque<Operation> reads;
        world.shut();
        for (int i = 0; i < 10; i++) {
            reads.emplace_back(byte_of(file.fd()));
            reads.back().then = [&] { handled++; };
            REQUIRE(files.request(&reads.back()) == 0);
        }

        comm.io_unbind(&files);
        CHECK(files.unbounds == 0);
        world.open_gate();
        files.unbound.wait_for(1);
        CHECK(handled_before == 10);
        CHECK(files.unbounds == 1);
        for (Operation &read : reads)
            CHECK(read.wait() == success(1));
    }
}

TEST_CASE("a service may be deinitialised, and deleted, in handle_unbound()") {
    for (size_t handlers : {0u, 1u}) {
        CAPTURE(handlers);
        SlowFiles world; // so that it has a thread
        InstalledWorld installed(world);
        Communicator comm;
        REQUIRE(comm.init(1, handlers) == 0);
        struct Fleeting : IOService {
            Event &gone;
            explicit Fleeting(Event &event) : gone(event) {}
            void handle_unbound() override {
                Event &event = gone;
                deinit();
                delete this;
                event.set();
            }
        };
        Event gone;
        auto *service = new Fleeting(gone);
        REQUIRE(service->init(1) == 0);
        REQUIRE(comm.io_bind(service) == 0);
        File file("x");
        Operation read(byte_of(file.fd()));
        read.then = [&] { comm.io_unbind(service); };
        REQUIRE(service->request(&read) == 0);
        gone.wait();
        CHECK(read.wait() == success(1));
    }
}

TEST_CASE("deinit() tells the service to stop, which unbinds there, and is unbound when deinit() returns") {
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        Communicator comm;
        REQUIRE(comm.init(2, handlers) == 0);
        Files files;
        REQUIRE(comm.io_bind(&files) == 0);
        int refused = 0;
        files.on_stop = [&] {
            Operation late = Operation::reading(-1, nullptr, 0, 0);
            refused = files.request(&late) < 0 ? errno : 0;
            comm.io_unbind(&files);
            CHECK(files.unbounds == 0); // never inside io_unbind(), as long as there is a loop
        };

        comm.deinit();
        CHECK(refused == ESHUTDOWN);
        CHECK(files.stops == 1);
        CHECK(files.unbounds == 1);
    }
}

TEST_CASE("deinit() waits for the operations in flight, and for their handle()") {
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        SlowFiles world;
        InstalledWorld installed(world);
        Communicator comm;
        REQUIRE(comm.init(2, handlers) == 0);
        Files files;
        REQUIRE(comm.io_bind(&files) == 0);
        Event stopped;
        files.on_stop = [&] {
            comm.io_unbind(&files);
            stopped.set();
        };
        File file("x");
        std::deque<Operation> reads;
        world.shut();
        for (int i = 0; i < 10; i++) {
            reads.emplace_back(byte_of(file.fd()));
            REQUIRE(files.request(&reads.back()) == 0);
        }
        std::thread opener([&] {
            stopped.wait();
            world.open_gate();
        });

        comm.deinit();
        CHECK(files.unbounds == 1);
        for (Operation &read : reads) {
            CHECK(read.is_done());
            CHECK(read.wait() == success(1));
        }
        opener.join();
    }
}

TEST_CASE("a service that ignores handle_stop() is unbound after deinit()") {
    for (size_t handlers : {0u, 1u}) {
        CAPTURE(handlers);
        auto comm = std::make_unique<Communicator>();
        REQUIRE(comm->init(1, handlers) == 0);
        Files files;
        REQUIRE(comm->io_bind(&files) == 0);

        comm->deinit();
        CHECK(files.stops == 1);
        CHECK(files.unbounds == 0);
        Operation late = Operation::reading(-1, nullptr, 0, 0);
        CHECK(files.request(&late) == -1);
        CHECK(errno == ESHUTDOWN);
        comm->io_unbind(&files);
        CHECK(files.unbounds == 1);
        comm->io_unbind(&files);
        comm.reset();
        CHECK(files.unbounds == 1);
    }
}

TEST_CASE("a service that is being unbound when deinit() comes is waited for, and not told to stop") {
    SlowFiles world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 1) == 0);
    Files leaving, staying;
    REQUIRE(comm.io_bind(&leaving) == 0);
    REQUIRE(comm.io_bind(&staying) == 0);
    File file("x");
    Operation read(byte_of(file.fd()));
    world.shut();
    REQUIRE(leaving.request(&read) == 0);
    comm.io_unbind(&leaving);
    staying.on_stop = [&] {
        comm.io_unbind(&staying);
        world.open_gate();
    };

    comm.deinit();
    CHECK(read.is_done());
    CHECK(leaving.stops == 0);
    CHECK(leaving.unbounds == 1);
    CHECK(staying.stops == 1);
    CHECK(staying.unbounds == 1);
}

TEST_CASE("with a CommEventHandler the callbacks of files go through it") {
    struct Inline : CommEventHandler {
        std::atomic<int> scheduled{0};
        void schedule(void (*routine)(void *), void *context) override {
            scheduled++;
            routine(context);
        }
        void wait() override {}
    } handler;
    Communicator comm;
    comm.customize_event_handler(&handler);
    REQUIRE(comm.init(1, 0) == 0);
    Files files;
    REQUIRE(comm.io_bind(&files) == 0);
    files.on_stop = [&] { comm.io_unbind(&files); };
    File file("x");
    Operation read(byte_of(file.fd()));
    REQUIRE(files.request(&read) == 0);
    CHECK(read.wait() == success(1));
    CHECK(handler.scheduled == 1);

    comm.deinit();
    CHECK(handler.scheduled == 3);
    CHECK(files.unbounds == 1);
}

TEST_CASE("under a storm every operation that was accepted is handled once, and the service ends in order") {
    constexpr size_t threads = 4, per_thread = 300;
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        Communicator comm;
        REQUIRE(comm.init(2, handlers) == 0);
        Files files(8);
        REQUIRE(comm.io_bind(&files) == 0);
        files.on_stop = [&] { comm.io_unbind(&files); };
        File file("x");
        std::atomic<size_t> accepted{0}, handled{0}, strange{0};
        std::deque<Operation> operations;
        for (size_t i = 0; i < threads * per_thread; i++) {
            if (i % 3 == 0)
                operations.emplace_back([&](Operation &self) { return self.prep_fdatasync(file.fd()), 0; });
            else
                operations.emplace_back(byte_of(file.fd()));
            operations.back().then = [&] { handled++; };
        }
        Latch half(threads);
        {
            std::vector<std::jthread> submitters;
            for (size_t i = 0; i < threads; i++) {
                submitters.emplace_back([&, i] {
                    for (size_t j = 0; j < per_thread; j++) {
                        if (j == per_thread / 2)
                            half.count_down();
                        if (files.request(&operations[i * per_thread + j]) == 0)
                            accepted++;
                        else if (errno != EAGAIN && errno != ESHUTDOWN && errno != ENOENT)
                            strange++;
                    }
                });
            }
            half.wait();
            comm.deinit();
            CHECK(files.unbounds == 1);
        }
        CHECK(accepted == handled);
        CHECK(strange == 0);
    }
}
