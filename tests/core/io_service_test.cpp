#include "Communicator.h"

#include "echo_fixture.h"
#include "forwarding_world.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

using namespace fixture;

namespace {

// A file without a name.
class File {
public:
    explicit File(const std::string &content = "") {
        char path[] = "/tmp/parley-io-XXXXXX";
        fd_ = mkostemp(path, O_CLOEXEC);
        REQUIRE(fd_ >= 0);
        unlink(path);
        REQUIRE(::pwrite(fd_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
    }
    ~File() { ::close(fd_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    int fd() const { return fd_; }
    std::string content() const {
        std::string all(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
        REQUIRE(::pread(fd_, all.data(), all.size(), 0) == static_cast<ssize_t>(all.size()));
        return all;
    }

private:
    int fd_;
};

class Files : public IOService {
public:
    explicit Files(int maxevents = 64) { REQUIRE(init(maxevents) == 0); }
    ~Files() override { deinit(); }

    std::function<void()> on_stop;
    std::function<void()> on_unbound;
    std::atomic<int> stops{0};
    std::atomic<int> unbounds{0};
    Event unbound;

private:
    void handle_stop(int error) override {
        CHECK(error == 0);
        stops++;
        if (on_stop)
            on_stop();
    }
    void handle_unbound() override {
        unbounds++;
        if (on_unbound)
            on_unbound();
        unbound.set();
    }
};

// A service bound to a Communicator, as most tests want it.
class Bound {
public:
    explicit Bound(Communicator &comm, int maxevents = 64) : files(maxevents), comm_(comm) {
        REQUIRE(comm.io_bind(&files) == 0);
    }
    ~Bound() {
        comm_.io_unbind(&files);
        files.unbound.wait();
    }

    Files files;

private:
    Communicator &comm_;
};

// What an operation came to.
struct Outcome {
    int state = -1;
    int error = -1;
    long result = -1;

    bool operator==(const Outcome &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const Outcome &self) {
        return out << "state " << self.state << ", error " << self.error << ", result " << self.result;
    }
};

Outcome success(long result) {
    return {IOS_STATE_SUCCESS, 0, result};
}

Outcome failure(int error) {
    return {IOS_STATE_ERROR, error, -error};
}

// An operation given by a function, which calls one of prep_*() and returns what prepare() shall.
class Operation : public IOSession {
public:
    explicit Operation(std::function<int(Operation &)> prepare_with) : prepare_(std::move(prepare_with)) {}

    static Operation reading(int fd, void *buf, size_t count, long long offset) {
        return Operation([=](Operation &self) { return self.prep_pread(fd, buf, count, offset), 0; });
    }

    using IOSession::prep_fdatasync;
    using IOSession::prep_fsync;
    using IOSession::prep_pread;
    using IOSession::prep_preadv;
    using IOSession::prep_pwrite;
    using IOSession::prep_pwritev;

    char byte = 0; // see byte_of()
    bool in_place = false;
    std::function<void()> then; // the last inside handle()

    const Outcome &wait() {
        done_.wait();
        return outcome_;
    }
    bool is_done() const { return done_.is_open(); }
    CommLoop *loop() const { return loop_; }

private:
    int prepare() override { return prepare_(*this); }
    bool handle_in_place() override { return in_place; }
    void handle(int state, int error) override {
        outcome_ = {state, error, get_res()};
        loop_ = CommLoop::current();
        if (then)
            then();
        done_.set();
    }

    std::function<int(Operation &)> prepare_;
    Outcome outcome_;
    CommLoop *loop_ = nullptr;
    Event done_;
};

// To read one byte into the operation itself.
auto byte_of(int fd, long long offset = 0) {
    return [=](Operation &self) { return self.prep_pread(fd, &self.byte, 1, offset), 0; };
}

// Files of which nothing is ever cached, so that threads of the service do all the work; and these wait for
// open() as long as the gate is shut.
class SlowFiles : public ForwardingWorld {
public:
    void shut() {
        std::lock_guard lock(mutex_);
        shut_ = true;
    }
    void open_gate() {
        std::lock_guard lock(mutex_);
        shut_ = false;
        opened_.notify_all();
    }

    // Threads that have come to the gate, ever, and offsets in that order.
    Tally arrivals;
    std::vector<off_t> offsets() {
        std::lock_guard lock(mutex_);
        return offsets_;
    }

    ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        if ((flags & RWF_NOWAIT) != 0) {
            errno = EAGAIN;
            return -1;
        }
        pass(offset);
        return real.preadv(fd, iov, count, offset, flags);
    }
    ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        if ((flags & RWF_NOWAIT) != 0) {
            errno = EOPNOTSUPP;
            return -1;
        }
        pass(offset);
        return real.pwritev(fd, iov, count, offset, flags);
    }

private:
    void pass(off_t offset) {
        std::unique_lock lock(mutex_);
        offsets_.push_back(offset);
        arrivals.add();
        opened_.wait(lock, [this] { return !shut_; });
    }

    std::mutex mutex_;
    std::condition_variable opened_;
    bool shut_ = false;
    std::vector<off_t> offsets_;
};

std::string pattern(size_t size) {
    std::string text(size, '\0');
    unsigned seed = 1;
    for (char &c : text)
        c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return text;
}

} // namespace

TEST_SUITE_BEGIN("io service");

TEST_CASE("what is written is read back") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file;
    char hello[] = "hello, world";
    Operation write([&](Operation &self) { return self.prep_pwrite(file.fd(), hello, 12, 3), 0; });
    REQUIRE(service.files.request(&write) == 0);
    CHECK(write.wait() == success(12));

    char buffer[12] = {};
    Operation read = Operation::reading(file.fd(), buffer, 12, 3);
    REQUIRE(service.files.request(&read) == 0);
    CHECK(read.wait() == success(12));
    CHECK(std::string(buffer, 12) == "hello, world");
}

TEST_CASE("vectors are filled and emptied in order") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file;
    char a[] = "ab", b[] = "cde";
    struct iovec out[] = {{a, 2}, {b, 0}, {b, 3}};
    Operation write([&](Operation &self) { return self.prep_pwritev(file.fd(), out, 3, 0), 0; });
    REQUIRE(service.files.request(&write) == 0);
    CHECK(write.wait() == success(5));
    CHECK(file.content() == "abcde");

    char first[1], second[4];
    struct iovec in[] = {{first, 1}, {second, 4}};
    Operation read([&](Operation &self) { return self.prep_preadv(file.fd(), in, 2, 0), 0; });
    REQUIRE(service.files.request(&read) == 0);
    CHECK(read.wait() == success(5));
    CHECK(std::string(first, 1) + std::string(second, 4) == "abcde");
}

TEST_CASE("files are synchronised to their device") {
    struct Counting : ForwardingWorld {
        std::atomic<int> fsyncs{0}, fdatasyncs{0};
        int fsync(int fd) override { return fsyncs++, real.fsync(fd); }
        int fdatasync(int fd) override { return fdatasyncs++, real.fdatasync(fd); }
    } world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("content");
    Operation all([&](Operation &self) { return self.prep_fsync(file.fd()), 0; });
    Operation data([&](Operation &self) { return self.prep_fdatasync(file.fd()), 0; });

    REQUIRE(service.files.request(&all) == 0);
    CHECK(all.wait() == success(0));
    REQUIRE(service.files.request(&data) == 0);
    CHECK(data.wait() == success(0));
    CHECK(world.fsyncs == 1);
    CHECK(world.fdatasyncs == 1);
}

TEST_CASE("a read at the end of the file is short, and behind it empty") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("0123456789");
    char buffer[100];
    Operation across = Operation::reading(file.fd(), buffer, 100, 4);
    Operation behind = Operation::reading(file.fd(), buffer, 100, 10);
    Operation nothing = Operation::reading(file.fd(), buffer, 0, 0);

    for (Operation *operation : {&across, &behind, &nothing})
        REQUIRE(service.files.request(operation) == 0);
    CHECK(across.wait() == success(6));
    CHECK(std::string(buffer, 6) == "456789");
    CHECK(behind.wait() == success(0));
    CHECK(nothing.wait() == success(0));
}

TEST_CASE("what the kernel refuses comes by handle(), with the errno as result too") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("content");
    char buffer[8];
    struct iovec vector = {buffer, 8};
    Operation no_file = Operation::reading(-1, buffer, 8, 0);
    Operation no_offset = Operation::reading(file.fd(), buffer, 8, -1);
    Operation no_count([&](Operation &self) { return self.prep_preadv(file.fd(), &vector, -1, 0), 0; });
    Operation no_sync([](Operation &self) { return self.prep_fsync(-1), 0; });

    for (Operation *operation : {&no_file, &no_offset, &no_count, &no_sync})
        REQUIRE(service.files.request(operation) == 0);
    CHECK(no_file.wait() == failure(EBADF));
    CHECK(no_offset.wait() == failure(EINVAL));
    CHECK(no_count.wait() == failure(EINVAL));
    CHECK(no_sync.wait() == failure(EBADF));
}

TEST_CASE("prepare() may refuse the request") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm, 1);
    Operation failing([](Operation &) {
        errno = EXDEV;
        return -1;
    });
    Operation idle([](Operation &) { return 0; });

    CHECK(service.files.request(&failing) == -1);
    CHECK(errno == EXDEV);
    CHECK(service.files.request(&idle) == -1);
    CHECK(errno == EINVAL);
    CHECK_FALSE(failing.is_done());

    File file("x");
    Operation read(byte_of(file.fd()));
    CHECK(service.files.request(&read) == 0); // they took no place
    CHECK(read.wait() == success(1));
}

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
    files.unbound.wait();
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
        Event unbound;
        files.on_unbound = [&] { unbound.set(); };
        comm.io_unbind(&files);
        unbound.wait();
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
    files.unbound.wait();
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

TEST_CASE("large reads and writes are whole") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file;
    std::string data = pattern(3'000'001), copy(data.size(), '\0');
    Operation write(
        [&](Operation &self) { return self.prep_pwrite(file.fd(), data.data(), data.size(), 0), 0; });
    Operation read = Operation::reading(file.fd(), copy.data(), copy.size(), 0);

    REQUIRE(service.files.request(&write) == 0);
    CHECK(write.wait() == success(3'000'001));
    REQUIRE(service.files.request(&read) == 0);
    CHECK(read.wait() == success(3'000'001));
    CHECK(copy == data);
}

TEST_CASE("what is not cached is fetched by a thread of the service") {
    SlowFiles world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("0123456789");
    char buffer[20] = {};
    char text[] = "abc";
    Operation read = Operation::reading(file.fd(), buffer, 20, 2);
    Operation write([&](Operation &self) { return self.prep_pwrite(file.fd(), text, 3, 10), 0; });
    Operation no_file = Operation::reading(-1, buffer, 8, 0);

    REQUIRE(service.files.request(&read) == 0);
    CHECK(read.wait() == success(8));
    CHECK(std::string(buffer) == "23456789");
    REQUIRE(service.files.request(&write) == 0);
    CHECK(write.wait() == success(3));
    CHECK(file.content() == "0123456789abc");
    REQUIRE(service.files.request(&no_file) == 0);
    CHECK(no_file.wait() == failure(EBADF));
}

TEST_CASE("a loop goes on while an operation waits for the device") {
    SlowFiles world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file("x");
    Operation read(byte_of(file.fd()));
    world.shut();

    run_on(comm.loop(0), [&] { CHECK(service.files.request(&read) == 0); });
    world.arrivals.wait_for(1);
    run_on(comm.loop(0), [] {});
    CHECK_FALSE(read.is_done());
    world.open_gate();
    CHECK(read.wait() == success(1));
}

TEST_CASE("what is cached in part is completed, wherever the border lies") {
    // At once it gives one byte less than the border, then nothing.
    struct PartlyCached : ForwardingWorld {
        std::atomic<ssize_t> border{0};
        ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
            if ((flags & RWF_NOWAIT) == 0)
                return real.preadv(fd, iov, count, offset, flags);
            if (offset >= border) {
                errno = EAGAIN;
                return -1;
            }
            std::vector<struct iovec> part;
            ssize_t left = border - offset;
            for (int i = 0; i < count && left > 0; i++) {
                part.push_back({iov[i].iov_base, std::min(iov[i].iov_len, static_cast<size_t>(left))});
                left -= static_cast<ssize_t>(part.back().iov_len);
            }
            return real.preadv(fd, part.data(), static_cast<int>(part.size()), offset, 0);
        }
    } world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    std::string data = pattern(80);
    File file(data);

    for (ssize_t border = 0; border <= 80; border++) {
        CAPTURE(border);
        world.border = border;
        std::string copy(90, '\0');
        std::vector<struct iovec> vectors; // of 0, 1, 2 ... bytes, and more of them than fit into one step
        for (size_t at = 0, i = 0; at < copy.size(); i++) {
            size_t size = std::min(i % 4, copy.size() - at);
            vectors.push_back({copy.data() + at, size});
            at += size;
        }
        Operation read([&](Operation &self) {
            return self.prep_preadv(file.fd(), vectors.data(), static_cast<int>(vectors.size()), 0), 0;
        });
        REQUIRE(service.files.request(&read) == 0);
        CHECK(read.wait() == success(80));
        CHECK(copy.substr(0, 80) == data);
    }
}

TEST_CASE("at most four threads wait for the device, and take the operations in order") {
    SlowFiles world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    File file(std::string(20, 'x'));
    std::deque<Operation> reads;
    std::vector<off_t> expected;
    world.shut();
    for (int i = 0; i < 20; i++) {
        reads.emplace_back(byte_of(file.fd(), i));
        expected.push_back(i);
    }
    // One by one as long as there is a thread for each, so that their order is known.
    for (size_t i = 0; i < reads.size(); i++) {
        REQUIRE(service.files.request(&reads[i]) == 0);
        if (i < 4)
            world.arrivals.wait_for(i + 1);
    }
    CHECK(world.arrivals.value() == 4);

    world.open_gate();
    for (Operation &read : reads)
        CHECK(read.wait() == success(1));
    std::vector<off_t> offsets = world.offsets();
    CHECK(std::is_permutation(offsets.begin(), offsets.end(), expected.begin(), expected.end()));
    CHECK(std::equal(offsets.begin(), offsets.begin() + 5, expected.begin()));
}

TEST_CASE("without a single thread for it, an operation that has to wait is refused") {
    struct NoMoreThreads : SlowFiles {
        std::atomic<bool> none{false};
        int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
            return none ? EAGAIN : real.thread_start(thread, run, argument);
        }
    } world;
    InstalledWorld installed(world);
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm, 3);
    File file("x");
    Operation first(byte_of(file.fd()));
    Operation second(byte_of(file.fd()));

    world.none = true;
    CHECK(service.files.request(&first) == -1);
    CHECK(errno == EAGAIN);
    world.none = false;
    world.shut();
    REQUIRE(service.files.request(&first) == 0);
    world.arrivals.wait_for(1);
    world.none = true;
    CHECK(service.files.request(&second) == 0); // one thread serves them all
    world.open_gate();
    CHECK(first.wait() == success(1));
    CHECK(second.wait() == success(1));
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
        files.unbound.wait();
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

TEST_SUITE_END();
