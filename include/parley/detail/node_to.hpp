// A node for a loop's mailbox that knows whose it is, for objects that need several.

#pragma once

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>

namespace parley::inline PARLEY_ABI {
namespace detail {

template <class T>
struct node_to : CommNode {
    T *owner = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
