#include <parley/file.hpp>

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include <parley/core/Sys.h>
#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

open_file::~open_file() {
    sys::close(fd);
}

file_operation::file_operation(std::shared_ptr<open_file> of, kind what, std::uint64_t from, char *bytes,
                               std::size_t size) noexcept
    : file_(std::move(of)), offset_(from), bytes_(bytes), size_(size), kind_(what) {}

bool file_operation::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    if (!file_ || (size_ == 0 && (kind_ == kind::read || kind_ == kind::write)))
        return false;
    task.begin(*this);
    if (task.loop().runtime().io_service().request(this) == 0)
        return true;
    error_ = errno;
    return false;
}

int file_operation::prepare() {
    const auto from = static_cast<long long>(offset_ + done_);
    switch (kind_) {
    case kind::read:
        prep_pread(file_->fd, bytes_ + done_, size_ - done_, from);
        break;
    case kind::write:
        prep_pwrite(file_->fd, bytes_ + done_, size_ - done_, from);
        break;
    case kind::sync:
        prep_fsync(file_->fd);
        break;
    case kind::data_sync:
        prep_fdatasync(file_->fd);
        break;
    }
    return 0;
}

void file_operation::handle(int state, int error_number) {
    const long done = get_res();
    if (state != IOS_STATE_SUCCESS) {
        error_ = error_number != 0 ? error_number : EIO;
    } else if (done > 0 && (kind_ == kind::read || kind_ == kind::write)) {
        done_ += static_cast<std::size_t>(done);
        // A short transfer goes on; a read ends at the end of the file, by 0.
        if (done_ < size_ && !cancelled_) {
            if (task_->loop().runtime().io_service().request(this) == 0)
                return;
            error_ = errno;
        }
    } else if (kind_ == kind::write) {
        error_ = EIO; // nothing written, and no reason
    }
    cancelled_ ? task_->complete_stopped() : task_->complete();
}

result<std::size_t> file_operation::end() const {
    if (!file_)
        return unexpected(errc::closed, parley::stage::file);
    if (error_ == 0)
        return done_;
    const auto elapsed = std::chrono::nanoseconds(task_->loop().core().now() - task_->since());
    return unexpected(errno_error(error_, parley::stage::file, file_->path, elapsed));
}

const char *file_operation::name() const noexcept {
    switch (kind_) {
    case kind::read:
        return "read";
    case kind::write:
        return "write";
    case kind::sync:
    case kind::data_sync:
        break;
    }
    return "sync";
}

result<void> file_sync::await_resume() const {
    return end().transform([](std::size_t) {});
}

} // namespace detail

result<file> file::open(const std::filesystem::path &path, file_mode mode) {
    int flags = 0;
    switch (mode) {
    case file_mode::read:
        flags = O_RDONLY;
        break;
    case file_mode::write:
        flags = O_WRONLY | O_CREAT | O_TRUNC;
        break;
    case file_mode::read_write:
        flags = O_RDWR | O_CREAT;
        break;
    case file_mode::create:
        flags = O_RDWR | O_CREAT | O_EXCL;
        break;
    }
    const int fd = sys::current().open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd < 0)
        return unexpected(detail::errno_error(errno, stage::file, path.native()));
    return file(std::make_shared<detail::open_file>(fd, path.native()));
}

detail::file_transfer file::read_at(std::uint64_t offset, std::span<char> into) const noexcept {
    return {open_, detail::file_transfer::kind::read, offset, into.data(), into.size()};
}

detail::file_transfer file::read_at(std::uint64_t offset, std::span<std::byte> into) const noexcept {
    return read_at(offset, std::span(reinterpret_cast<char *>(into.data()), into.size()));
}

detail::file_transfer file::write_at(std::uint64_t offset, std::string_view from) const noexcept {
    // prep_pwrite() takes what pwrite() takes, and only reads it.
    return {open_, detail::file_transfer::kind::write, offset, const_cast<char *>(from.data()), from.size()};
}

detail::file_transfer file::write_at(std::uint64_t offset, std::span<const std::byte> from) const noexcept {
    return write_at(offset, std::string_view(reinterpret_cast<const char *>(from.data()), from.size()));
}

detail::file_sync file::sync() const noexcept {
    return {open_, detail::file_sync::kind::sync, 0, nullptr, 0};
}

detail::file_sync file::sync_data() const noexcept {
    return {open_, detail::file_sync::kind::data_sync, 0, nullptr, 0};
}

std::string_view file::path() const noexcept {
    return open_ ? std::string_view(open_->path) : std::string_view();
}

} // namespace parley::inline PARLEY_ABI
