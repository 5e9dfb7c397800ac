// Devices that are full or broken: the operation that meets the error ends with it, and no other one.

#include "files.h"

#include <memory>

using namespace files;

namespace {

// Every third transfer fails with EIO, cached or not.
class BadDisk : public ForwardingWorld {
public:
    ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return bad(offset) ? -1 : real.preadv(fd, iov, count, offset, flags);
    }
    ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return bad(offset) ? -1 : real.pwritev(fd, iov, count, offset, flags);
    }
    static bool bad_place(off_t offset) { return offset % 3 == 1; }

private:
    static bool bad(off_t offset) {
        errno = EIO;
        return bad_place(offset);
    }
};

} // namespace

TEST_CASE("a device that is full fails the write with ENOSPC, and writes elsewhere go on") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    REQUIRE(full >= 0);
    File file;
    char byte = 'x';
    for (int i = 0; i < 20; i++) {
        Operation refused([&](Operation &self) { return self.prep_pwrite(full, &byte, 1, 0), 0; });
        Operation fine([&](Operation &self) { return self.prep_pwrite(file.fd(), &byte, 1, i), 0; });
        Operation last([&](Operation &self) { return self.prep_fdatasync(file.fd()), 0; });
        for (Operation *operation : {&refused, &fine, &last})
            REQUIRE(service.files.request(operation) == 0);
        CHECK(refused.wait() == failure(ENOSPC));
        CHECK(fine.wait() == success(1));
        CHECK(last.wait() == success(0));
    }
    close(full);
    CHECK(file.content() == std::string(20, 'x'));
}

TEST_CASE("a place that cannot be read or written fails its operation with EIO, and no other one") {
    BadDisk world;
    InstalledWorld installed(world);
    for (size_t handlers : {0U, 2U}) {
        Communicator comm;
        REQUIRE(comm.init(2, handlers) == 0);
        Bound service(comm, 64);
        File file(std::string(64, 'a'));
        char byte = 'b';
        std::vector<std::unique_ptr<Operation>> operations;
        for (int i = 0; i < 60; i++) {
            operations.push_back(std::make_unique<Operation>([&, i](Operation &self) {
                if (i % 2 == 0)
                    self.prep_pwrite(file.fd(), &byte, 1, i);
                else
                    self.prep_pread(file.fd(), &self.byte, 1, i);
                return 0;
            }));
            REQUIRE(service.files.request(operations.back().get()) == 0);
        }
        for (int i = 0; i < 60; i++) {
            CAPTURE(i);
            CHECK(operations[static_cast<size_t>(i)]->wait() ==
                  (BadDisk::bad_place(i) ? failure(EIO) : success(1)));
        }
    }
}

TEST_CASE("a read that the kernel cannot do ends with EIO") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Bound service(comm);
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    REQUIRE(memory >= 0);
    Operation nothing_there(byte_of(memory, 0)); // no process has its first page
    REQUIRE(service.files.request(&nothing_there) == 0);
    CHECK(nothing_there.wait() == failure(EIO));
    close(memory);
}
