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
    task_ = &task;
    if (task.inherits())
        inherited_ = *task.inherits();
    node_.next = static_cast<const local_node *>(inherited_.locals);
    inherited_.locals = &node_;
    child_ = &child;
    child.begin_chain(task.loop(), *this, &inherited_);
    task.begin(*this);
    child.owned_chain().pass();
    return true;
}

// The frame stays for await_resume().
void local_base::chain_done(record &) noexcept {
    child_ = nullptr;
    task_->complete();
}

void local_base::cancel_children() noexcept {
    if (child_)
        child_->owned_chain().cancel();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
