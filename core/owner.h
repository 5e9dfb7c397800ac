// From a member back to the object it is embedded in: what intrusive nodes need and the language
// offers only for standard-layout classes. GCC and clang lay out ours the same way.

#pragma once

#include <stddef.h>

#define PARLEY_OWNER(pointer, type, member)                                                                  \
    (__extension__({                                                                                         \
        _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Winvalid-offsetof\"")              \
            type *owner_ =                                                                                   \
                reinterpret_cast<type *>(reinterpret_cast<char *>(pointer) - offsetof(type, member));        \
        _Pragma("GCC diagnostic pop") owner_;                                                                \
    }))
