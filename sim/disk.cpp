#include "disk.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "kernel.h"

namespace parley::sim::detail {

std::size_t disk::used() const noexcept {
    std::size_t sum = 0;
    for (const auto &[path, one] : files)
        sum += one->bytes.size();
    return sum;
}

ssize_t disk_file::read(void *out, std::size_t size, off_t offset) {
    if (!readable())
        return errno = EBADF, -1;
    const off_t at = offset < 0 ? at_ : offset;
    const std::string &bytes = content_->bytes;
    const auto from = std::min(static_cast<std::size_t>(at), bytes.size());
    const std::size_t n = std::min(size, bytes.size() - from);
    std::memcpy(out, bytes.data() + from, n);
    if (offset < 0)
        at_ = at + static_cast<off_t>(n);
    return static_cast<ssize_t>(n);
}

ssize_t disk_file::write(const void *from, std::size_t size, off_t offset) {
    if (!writable())
        return errno = EBADF, -1;
    std::string &bytes = content_->bytes;
    const auto at =
        (flags_ & O_APPEND) != 0 ? bytes.size() : static_cast<std::size_t>(offset < 0 ? at_ : offset);
    const disk &whole = home().files;
    if (at + size > bytes.size()) {
        // What fits is written, as on a disk.
        const std::size_t used = whole.used();
        const std::size_t room = used < whole.limit ? whole.limit - used : 0;
        const std::size_t most = bytes.size() + std::min(room, SIZE_MAX - bytes.size());
        if (at >= most)
            return errno = ENOSPC, -1;
        size = std::min(size, most - at);
        bytes.resize(std::max(bytes.size(), at + size));
    }
    std::memcpy(bytes.data() + at, from, size);
    if (offset < 0)
        at_ = static_cast<off_t>(at + size);
    return static_cast<ssize_t>(size);
}

} // namespace parley::sim::detail
