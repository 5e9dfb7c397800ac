#include <parley/shield.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

bool shield_base::begin(context &task, record &child) noexcept {
    open(task);
    below_.locals = task.inherits() ? task.inherits()->locals : nullptr;
    add(child, &below_);
    return wait();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
