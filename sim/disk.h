// The files of a host, in memory.

#pragma once

#include <fcntl.h>

#include <map>
#include <memory>
#include <string>

#include "file.h"

namespace parley::sim::detail {

struct content {
    std::string bytes;
};

struct disk {
    std::map<std::string, std::shared_ptr<content>> files;
    std::size_t limit = SIZE_MAX;

    std::size_t used() const noexcept;
};

class disk_file final : public file {
public:
    disk_file(kernel &world, host_state &home, std::string path, std::shared_ptr<content> it, int flags)
        : file(world, home), path_(std::move(path)), content_(std::move(it)), flags_(flags) {}

    std::uint32_t poll() const override { return EPOLLIN | EPOLLOUT; }
    std::string describe() const override { return "file " + path_; }

    // As preadv and pwritev with one buffer: a count, or -1 and errno. Offset -1: where the last one ended.
    ssize_t read(void *out, std::size_t size, off_t offset);
    ssize_t write(const void *from, std::size_t size, off_t offset);
    bool readable() const noexcept { return (flags_ & O_ACCMODE) != O_WRONLY; }
    bool writable() const noexcept { return (flags_ & O_ACCMODE) != O_RDONLY; }

private:
    std::string path_;
    std::shared_ptr<content> content_;
    int flags_;
    off_t at_ = 0;
};

} // namespace parley::sim::detail
