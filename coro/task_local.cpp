#include <parley/task_local.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

const void *find_local(const void *key) noexcept {
    const context *chain = running_chain();
    const inherited *from = chain ? chain->inherits() : nullptr;
    for (auto *one = static_cast<const local_node *>(from ? from->locals : nullptr); one; one = one->next) {
        if (one->key == key)
            return one->value;
    }
    return nullptr;
}

bool local_base::begin(record &child, context &task) noexcept {
    open(task);
    if (task.inherits())
        inherited_ = *task.inherits();
    node_.next = static_cast<const local_node *>(inherited_.locals);
    inherited_.locals = &node_;
    add(child, &inherited_);
    return wait();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
