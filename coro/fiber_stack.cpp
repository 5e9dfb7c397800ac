#include "fiber_stack.hpp"

#include <cerrno>
#include <cstdint>
#include <new>
#include <string>
#include <system_error>

#include <sys/mman.h>
#include <unistd.h>

#include "sanitizer.hpp"

namespace parley::inline PARLEY_ABI {
namespace detail {
namespace {

constexpr std::size_t kept_at_most = 64;

// Wide, so that no function of C's steps over it with a buffer that it has not touched yet. Costs no memory.
constexpr std::size_t guard = 64 * 1024;

[[noreturn]] void fail(int error, const char *what, std::size_t bytes) {
    throw std::system_error(error, std::system_category(),
                            "parley: no stack for a fiber: " + std::string(what) + " of " +
                                std::to_string(bytes) + " bytes");
}

std::size_t page_size() noexcept {
    static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

} // namespace

class fiber_stack::kept {
public:
    kept() = default;
    kept(const kept &) = delete;
    ~kept() {
        while (first_)
            pop(first_).unmap();
        count_ = kept_at_most; // a thread that ends keeps none
    }

    fiber_stack *find(std::size_t mapped) noexcept {
        for (fiber_stack **at = &first_; *at; at = &(*at)->next_)
            if ((*at)->mapped_ == mapped)
                return &pop(*at);
        return nullptr;
    }
    bool push(fiber_stack &stack) noexcept {
        if (count_ == kept_at_most)
            return false;
        stack.next_ = first_;
        first_ = &stack;
        ++count_;
        return true;
    }

private:
    fiber_stack &pop(fiber_stack *&at) noexcept {
        fiber_stack &stack = *at;
        at = stack.next_;
        --count_;
        return stack;
    }

    fiber_stack *first_ = nullptr;
    std::size_t count_ = 0;
};

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] fiber_stack::kept &fiber_stack::kept_here() noexcept {
    static thread_local kept here;
    return here;
}

fiber_stack &fiber_stack::map(std::size_t mapped) {
    void *const low = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED)
        fail(errno, "mmap", mapped);
    if (::mprotect(low, guard, PROT_NONE) != 0) {
        const int error = errno;
        ::munmap(low, mapped);
        fail(error, "mprotect", guard);
    }
    return *::new (static_cast<char *>(low) + mapped - sizeof(fiber_stack)) fiber_stack(mapped);
}

void fiber_stack::unmap() noexcept {
    ::munmap(static_cast<char *>(bottom()) - guard, mapped_);
}

void *fiber_stack::bottom() noexcept {
    return reinterpret_cast<char *>(this) - size();
}

std::size_t fiber_stack::size() const noexcept {
    return mapped_ - guard - sizeof(fiber_stack);
}

fiber_stack &fiber_stack::take(std::size_t size) {
    const std::size_t page = page_size();
    const std::size_t apart = guard + sizeof(fiber_stack) + page - 1;
    if (size > PTRDIFF_MAX - apart)
        fail(ENOMEM, "mmap", size);
    const std::size_t mapped = (size + apart) / page * page;
    fiber_stack *const used = kept_here().find(mapped);
    return used ? *used : map(mapped);
}

void fiber_stack::give_back() noexcept {
#ifdef PARLEY_ASAN
    __asan_unpoison_memory_region(bottom(), size());
#endif
    if (!kept_here().push(*this))
        unmap();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
