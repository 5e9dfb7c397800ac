// Where the slots that were granted to waiters of a loop wait until the loop gets to them. A
// waiter may be taken back until then, and its memory may go; a node in a loop's mailbox could not.
// So what is posted is the loop's inbox, never the waiter.

#pragma once

#include "CommLoop.h"
#include "list.h"
#include "Sync.h"

namespace parley::core {

struct SlotInbox {
    parley::sync::mutex mutex; // innermost: taken under those of targets and groups
    struct list_head granted = {&granted, &granted};
    bool posted = false;       // `node` is on its way, or somebody is about to post it
    SlotInbox *next = nullptr; // of those that one thread is about to post
    CommNode node;
};

} // namespace parley::core
