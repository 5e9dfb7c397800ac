#include <parley/exception_notes.hpp>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <ostream>
#include <typeinfo>
#include <utility>

#include <cxxabi.h>

#include <parley/cancelled.hpp>
#include <parley/core/Sync.h>

#include "function_name.hpp"

#if defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__)) && !defined(_WIN32) &&                \
    !defined(__USING_SJLJ_EXCEPTIONS__) && (defined(__GLIBCXX__) || defined(_LIBCPP_VERSION))
#define PARLEY_KNOWS_EXCEPTION_OBJECTS 1
#include <unwind.h>
#else
#define PARLEY_KNOWS_EXCEPTION_OBJECTS 0
#endif

namespace parley::inline PARLEY_ABI {
namespace detail {

// What is known about one exception object, in the table below from the first note to the object's end.
struct exception_notes {
    static constexpr std::size_t most_sites = 64;

    void *object = nullptr;
    void (*destructor)(void *) = nullptr; // the object's own; nullptr: a trivial one
    exception_notes *next = nullptr;      // in the bucket; then in a list of those that end
    exception_notes *next_visited = nullptr;
    std::uint64_t visit = 0; // the last walk that came here
    bool is_other = false;   // of some object
    std::vector<std::exception_ptr> others;
    await_sites awaits;

    void add(const std::source_location &site) {
        if (awaits.sites_.size() < most_sites)
            awaits.sites_.push_back(site);
        else
            ++awaits.omitted_;
    }
};

namespace {

// The object that an exception_ptr refers to, its only member in libstdc++ and libc++.
void *object_of(const std::exception_ptr &exception) noexcept {
    void *object;
    static_assert(sizeof exception == sizeof object);
    std::memcpy(&object, static_cast<const void *>(&exception), sizeof object);
    return object;
}

// All notes of the process. It has no destructor: exceptions may end during and after static destruction.
class notes_table {
public:
    sync::mutex mutex; // for everything here, for what is noted and for headers of exception objects

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    [[nodiscard]] exception_notes *find(const void *object) noexcept {
        exception_notes *at = *bucket_of(object);
        while (at && at->object != object)
            at = at->next;
        return at;
    }

    void insert(exception_notes &notes) noexcept {
        if (size_ >= count_)
            grow();
        exception_notes **bucket = bucket_of(notes.object);
        notes.next = *bucket;
        *bucket = &notes;
        ++size_;
    }

    [[nodiscard]] exception_notes *extract(const void *object) noexcept {
        for (exception_notes **at = bucket_of(object); *at; at = &(*at)->next) {
            if ((*at)->object == object) {
                --size_;
                return std::exchange(*at, (*at)->next);
            }
        }
        return nullptr;
    }

    // Whether `from` keeps `sought` alive, by its others, theirs and so on.
    [[nodiscard]] bool reaches(const void *from, const void *sought) noexcept {
        exception_notes *todo = find(from);
        if (!todo)
            return false;
        ++visits_;
        todo->visit = visits_;
        todo->next_visited = nullptr;
        while (exception_notes *at = todo) {
            todo = at->next_visited;
            for (const std::exception_ptr &other : at->others) {
                void *object = object_of(other);
                if (object == sought)
                    return true;
                exception_notes *further = find(object);
                if (further && std::exchange(further->visit, visits_) != visits_)
                    further->next_visited = std::exchange(todo, further);
            }
        }
        return false;
    }

private:
    static constexpr std::size_t first_count = 64;

    exception_notes **bucket_of(const void *object) noexcept {
        // Objects are blocks of malloc's, apart by at least the size of their headers.
        const std::uint64_t mixed = reinterpret_cast<std::uintptr_t>(object) * 0x9E3779B97F4A7C15u;
        return &buckets_[(mixed >> 32) & (count_ - 1)];
    }

    // Without memory the buckets just get longer.
    void grow() noexcept {
        const std::size_t old_count = count_;
        exception_notes **const old = buckets_;
        exception_notes **wider = new (std::nothrow) exception_notes *[old_count * 2]();
        if (!wider)
            return;
        buckets_ = wider;
        count_ = old_count * 2;
        for (std::size_t i = 0; i < old_count; ++i) {
            for (exception_notes *at = old[i], *next = nullptr; at; at = next) {
                next = at->next;
                exception_notes **bucket = bucket_of(at->object);
                at->next = *bucket;
                *bucket = at;
            }
        }
        if (old != first_)
            delete[] old;
    }

    exception_notes *first_[first_count] = {};
    exception_notes **buckets_ = first_;
    std::size_t count_ = first_count; // a power of two
    std::size_t size_ = 0;
    std::uint64_t visits_ = 0;
};

constinit notes_table table;

#if PARLEY_KNOWS_EXCEPTION_OBJECTS

// What lies before every exception object: __cxa_exception of the Itanium C++ ABI, Exception Handling,
// section 2.2.1. libstdc++ and libc++abi put a reference count before it, which is of no concern here.
struct exception_header {
    std::type_info *type;
    void (*destructor)(void *); // called with the object at its end, unless nullptr
    void (*unexpected)();
    void (*terminate)();
    exception_header *next;
    int handlers;
    int handler_switch;
    const unsigned char *action_record;
    const unsigned char *language_data;
    void *catch_temporary;
    void *adjusted;
    _Unwind_Exception unwind;
};
static_assert(sizeof(_Unwind_Exception) == 32 && sizeof(exception_header) == 112);
static_assert(offsetof(exception_header, destructor) == 112 - 104);

exception_header &header_of(void *object) noexcept {
    return static_cast<exception_header *>(object)[-1];
}

// Thrown by C++ code of GCC's or clang's runtime, and the object itself rather than a reference to it.
bool is_native(const exception_header &header) noexcept {
    const std::uint64_t kind = header.unwind.exception_class;
    return kind == 0x474E5543432B2B00u /* GNUCC++\0 */ || kind == 0x434C4E47432B2B00u /* CLNGC++\0 */;
}

struct probe {
    int unused = 0;
};

// Whether the runtime in use really lays out its objects so.
bool layout_holds() noexcept {
    static const bool holds = [] {
        const std::exception_ptr made = std::make_exception_ptr(probe());
        void *object = object_of(made);
        if (!object)
            return false;
        const exception_header &header = header_of(object);
        return is_native(header) && header.type && *header.type == typeid(probe);
    }();
    return holds;
}

// Never inlined, so that no address of a thread-local variable is kept across a switch of fibers.
[[gnu::noinline]] exception_notes **&ending_here() noexcept {
    static constinit thread_local exception_notes **list = nullptr;
    return list;
}

// Exceptions that only the notes of another kept alive end after it, one by one, so that no length of such a
// chain grows the stack.
void end_notes(exception_notes *notes) noexcept {
    if (exception_notes **outer = ending_here()) {
        notes->next = std::exchange(*outer, notes);
        return;
    }
    exception_notes *list = nullptr;
    ending_here() = &list;
    while (notes) {
        delete notes;
        notes = list;
        if (notes)
            list = notes->next;
    }
    ending_here() = nullptr;
}

// In the place of the destructor of an object that has notes.
void end_object(void *object) {
    exception_notes *notes;
    {
        sync::lock_guard<sync::mutex> lock(table.mutex);
        notes = table.extract(object);
    }
    if (notes->destructor)
        notes->destructor(object);
    end_notes(notes);
}

// The notes of an object, new ones if it has none yet; nullptr if it cannot have any. Under the lock.
exception_notes *notes_of(void *object) {
    if (exception_notes *known = table.find(object))
        return known;
    exception_header &header = header_of(object);
    if (!is_native(header))
        return nullptr;
    auto *notes = new exception_notes;
    notes->object = object;
    notes->destructor = std::exchange(header.destructor, &end_object);
    table.insert(*notes);
    return notes;
}

#else

bool layout_holds() noexcept {
    return false;
}
exception_notes *notes_of(void *) {
    return nullptr;
}

#endif

template <class F>
bool attach(const std::exception_ptr &exception, F &&write) noexcept {
    try {
        void *object = object_of(exception);
        if (!object || !layout_holds())
            return false;
        sync::lock_guard<sync::mutex> lock(table.mutex);
        if (exception_notes *notes = notes_of(object)) {
            write(*notes);
            return true;
        }
    } catch (...) { // no memory
    }
    return false;
}

} // namespace

bool attach_other(const std::exception_ptr &primary, const std::exception_ptr &other) noexcept {
    if (!other || primary == other)
        return false;
    bool attached = false;
    attach(primary, [&](exception_notes &notes) {
        exception_notes *of_other = notes_of(object_of(other));
        // Nobody keeps alive what was never an other: the walk is for rare cases.
        if (!of_other || (notes.is_other && table.reaches(of_other->object, notes.object)))
            return;
        notes.others.push_back(other);
        of_other->is_other = attached = true;
    });
    return attached;
}

bool attach_site(const std::exception_ptr &exception, const std::source_location &site) noexcept {
    if (site.line() == 0)
        return false;
    return attach(exception, [&](exception_notes &notes) { notes.add(site); });
}

void note_await(const std::source_location &site) noexcept {
    const std::type_info *type = abi::__cxa_current_exception_type();
    if (type && *type != typeid(cancelled))
        attach_site(std::current_exception(), site);
}

std::size_t noted_exceptions() noexcept {
    sync::lock_guard<sync::mutex> lock(table.mutex);
    return table.size();
}

} // namespace detail

await_sites await_trace(const std::exception_ptr &exception) {
    if (!exception)
        return {};
    sync::lock_guard<sync::mutex> lock(detail::table.mutex);
    detail::exception_notes *notes = detail::table.find(detail::object_of(exception));
    return notes ? notes->awaits : await_sites();
}

std::vector<std::exception_ptr> other_exceptions(const std::exception_ptr &exception) {
    std::vector<std::exception_ptr> others;
    if (!exception)
        return others;
    sync::lock_guard<sync::mutex> lock(detail::table.mutex);
    if (detail::exception_notes *notes = detail::table.find(detail::object_of(exception)))
        others = notes->others;
    return others;
}

std::ostream &operator<<(std::ostream &out, const await_sites &sites) {
    for (const std::source_location &site : sites)
        out << "  awaited at " << site.file_name() << ':' << site.line() << " in "
            << detail::function_name(site) << '\n';
    if (sites.omitted() > 0)
        out << "  and " << sites.omitted() << " more\n";
    return out;
}

} // namespace parley::inline PARLEY_ABI
