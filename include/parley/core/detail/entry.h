/*
 * From a member back to the object that holds it: what list_entry() and rb_entry() are made of. Valid as C
 * (gnu90) and as C++.
 */
#ifndef PARLEY_CORE_DETAIL_ENTRY_H
#define PARLEY_CORE_DETAIL_ENTRY_H

#include <stddef.h>

#ifdef __cplusplus

/*
 * Sessions and tasks have virtual functions, so offsetof on them is "conditionally supported": both compilers
 * do it right and both warn. The warning is silenced here and nowhere else. A lambda is the one place where a
 * pragma may stand inside an expression; a pointer to member would do without, but cannot name a member of a
 * member.
 */
/* clang-format off */
#define PARLEY_OFFSETOF(type, member)                                   \
    ([]() constexpr noexcept -> size_t {                                \
        _Pragma("GCC diagnostic push")                                  \
        _Pragma("GCC diagnostic ignored \"-Winvalid-offsetof\"")        \
        return __builtin_offsetof(type, member);                        \
        _Pragma("GCC diagnostic pop")                                   \
    }())
/* clang-format on */

#else

#define PARLEY_OFFSETOF(type, member) offsetof(type, member)

#endif

/* The `type` whose `member` is at `ptr`. A const is dropped, as users of such a macro expect. */
#define PARLEY_ENTRY(ptr, type, member) ((type *)((char *)(ptr) - PARLEY_OFFSETOF(type, member)))

#endif
