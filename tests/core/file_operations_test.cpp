#include "files.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <vector>

using namespace fixture;
using namespace files;

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
