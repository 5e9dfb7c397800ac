// A loop on its own thread, without a Communicator around it: all that a post, a timer or a granted slot
// needs, and few enough steps to try every order of them.

#pragma once

#include <cassert>

#include "explored.h"
#include "loop.h"
#include "machine.h"

namespace explored {

class BareLoop {
public:
    BareLoop() {
        [[maybe_unused]] const int error = loop_->open(nullptr, nullptr, 0);
        assert(error == 0);
        thread_ = sync::thread([this] { loop_->run(); });
    }
    ~BareLoop() {
        if (thread_.joinable())
            end();
        loop_->release();
    }
    BareLoop(const BareLoop &) = delete;
    BareLoop &operator=(const BareLoop &) = delete;

    parley::core::Loop *operator->() const { return loop_; }
    parley::core::Loop *get() const { return loop_; }

    // As Communicator::deinit().
    void end() {
        loop_->stop_node.run = [](CommNode *) { CommMachine::stop_loop(parley::core::Loop::current()); };
        loop_->post_remote(&loop_->stop_node);
        thread_.join();
        loop_->wait_for_posters();
    }

private:
    parley::core::Loop *loop_ = new parley::core::Loop;
    sync::thread thread_;
};

} // namespace explored
