// Cancellation, as a task sees it.

#pragma once

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

// Thrown by the co_await in which a task was told to stop, and by every further co_await of that task, so
// that its locals are destroyed in order and it ends. No std::exception: a handler for errors does not catch
// it by mistake. It stops at a scope, when_any, with_timeout, stop_as_error and at the runtime; do not
// swallow it in a catch (...).
class cancelled {};

} // namespace parley::inline PARLEY_ABI
