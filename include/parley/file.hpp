// file: reading and writing at positions, without stopping the loop. What the kernel has in its cache is done
// at once, the rest by a few threads of the runtime's.
//
//     auto log = parley::file::open("/var/log/app", parley::file_mode::read);
//     if (log)
//         auto n = co_await log->read_at(0, buffer);

#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/IOService_linux.h>
#include <parley/detail/context.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

class file;

enum class file_mode : std::uint8_t {
    read,       // an existing file
    write,      // an existing file or a new one, emptied
    read_write, // an existing file or a new one, as it is
    create      // a new one to read and write; std::errc::file_exists when there is one already
};

namespace detail {

struct open_file {
    open_file(int descriptor, std::string name) : fd(descriptor), path(std::move(name)) {}
    open_file(const open_file &) = delete;
    ~open_file();
    const int fd;
    const std::string path;
};

// An operation on a file in the frame of who awaits it. Once it runs it cannot be stopped: the task waits.
class file_operation : private IOSession, private operation {
public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    file_operation(file_operation &&) = delete;

protected:
    enum class kind : std::uint8_t { read, write, sync, data_sync };
    file_operation(std::shared_ptr<open_file> of, kind what, std::uint64_t from, char *bytes,
                   std::size_t size) noexcept;
    ~file_operation() override = default;
    [[nodiscard]] result<std::size_t> end() const;

private:
    int prepare() override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }

    void cancel() noexcept override { cancelled_ = true; }
    const char *name() const noexcept override;
    parley::stage stage() const noexcept override { return parley::stage::file; }
    std::string resource() const override { return file_->path; }
    int descriptor() const noexcept override { return file_->fd; }

    std::shared_ptr<open_file> file_;
    context *task_ = nullptr;
    std::uint64_t offset_;
    char *bytes_;
    std::size_t size_;
    std::size_t done_ = 0;
    int error_ = 0;
    kind kind_;
    bool cancelled_ = false;
};

class [[nodiscard]] file_transfer final : public file_operation {
public:
    result<std::size_t> await_resume() const { return end(); }

private:
    friend class parley::file;
    using file_operation::file_operation;
};

class [[nodiscard]] file_sync final : public file_operation {
public:
    result<void> await_resume() const;

private:
    friend class parley::file;
    using file_operation::file_operation;
};

} // namespace detail

// A handle, movable; tasks of several loops may use one at once. The destructor closes the descriptor, as
// soon as no operation uses it any more; what was written is in the kernel's hands then, not necessarily on
// the disk: sync().
//
// Errors: stage::file, the system's error, and the path as the peer; errc::closed for an empty handle;
// errc::stopping.
class file {
public:
    file() noexcept = default;

    // Opens at once, on the calling thread, which waits as long as open(2) does; on a slow file system,
    // inside compute(). New files are readable and writable by everybody whom the umask lets.
    [[nodiscard]] static result<file> open(const std::filesystem::path &path, file_mode mode);

    // result<size_t>: bytes read into `into`, fewer than its size only at the end of the file, and 0 when
    // there is nothing behind `offset`. The memory is used until the await ends.
    [[nodiscard]] detail::file_transfer read_at(std::uint64_t offset, std::span<char> into) const noexcept;
    [[nodiscard]] detail::file_transfer read_at(std::uint64_t offset,
                                                std::span<std::byte> into) const noexcept;

    // result<size_t>: all of `from`, or an error, after which any part of it may have been written.
    [[nodiscard]] detail::file_transfer write_at(std::uint64_t offset, std::string_view from) const noexcept;
    [[nodiscard]] detail::file_transfer write_at(std::uint64_t offset,
                                                 std::span<const std::byte> from) const noexcept;

    // result<void>: what was written, and the file's description, are on the disk (fsync). sync_data() leaves
    // out what is not needed to read the file again, such as its times (fdatasync).
    [[nodiscard]] detail::file_sync sync() const noexcept;
    [[nodiscard]] detail::file_sync sync_data() const noexcept;

    [[nodiscard]] std::string_view path() const noexcept;
    // Not the caller's to close; -1 when the handle is empty.
    [[nodiscard]] int descriptor() const noexcept { return open_ ? open_->fd : -1; }
    explicit operator bool() const noexcept { return open_ != nullptr; }

private:
    explicit file(std::shared_ptr<detail::open_file> opened) noexcept : open_(std::move(opened)) {}

    std::shared_ptr<detail::open_file> open_;
};

} // namespace parley::inline PARLEY_ABI
