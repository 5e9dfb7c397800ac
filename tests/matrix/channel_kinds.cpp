// Channels: what is pushed is popped once, whoever was cancelled.

#include "driver.hpp"

#include <memory>
#include <utility>

namespace matrix {

namespace {

using item = std::unique_ptr<int>;

// Items that come in and go out.
class books : public subject {
public:
    using subject::subject;

protected:
    item fresh() { return std::make_unique<int>(++made_); }
    void took(item one) {
        g.expect(one != nullptr, "nothing was popped");
        ++taken_;
    }
    void settle(parley::channel<item> &c) {
        while (auto left = c.try_pop())
            took(std::move(*left));
        g.expect(made_ == taken_ + kept_, "an item is lost, or came twice");
    }
    int made_ = 0, taken_ = 0;
    int kept_ = 0; // whose push did not succeed
};

template <int Form>
class a_pop final : public books {
public:
    using books::books;
    task<> wait() override {
        if constexpr (Form == 0) {
            auto got = co_await channel_.pop();
            took(std::move(*got));
        } else if constexpr (Form == 1) {
            auto got = co_await channel_.pop_for(1h);
            took(std::move(*got));
        } else {
            auto which = co_await parley::select(other_.pop(), channel_.pop());
            took(std::move(*std::get<1>(which)));
        }
    }
    void complete() override {
        item one = fresh();
        if (!channel_.try_push(std::move(one)))
            ++kept_;
    }
    task<> check(fate) override {
        settle(channel_);
        co_return;
    }

private:
    parley::channel<item> channel_{1};
    parley::channel<item> other_{1};
};

template <int Form>
class a_push final : public books {
public:
    using books::books;
    void arrange(moment) override {
        if constexpr (room > 0) {
            item first = fresh();
            g.expect(channel_.try_push(std::move(first)), "the channel is not empty");
        }
    }
    task<> wait() override {
        item mine = fresh();
        const keep_count count{kept_, mine};
        if constexpr (Form == 2) {
            auto which = co_await parley::select(other_.pop(), channel_.push(std::move(mine)));
            g.expect(which.index() == 1 && std::get<1>(which).has_value(), "the wrong case");
        } else if constexpr (Form == 3) {
            auto pushed = co_await channel_.push_for(1h, std::move(mine));
            g.expect(pushed.has_value(), "not pushed");
        } else {
            auto pushed = co_await channel_.push(std::move(mine));
            g.expect(pushed.has_value(), "not pushed");
        }
    }
    void complete() override {
        if (auto one = channel_.try_pop())
            took(std::move(*one));
    }
    task<> check(fate) override {
        settle(channel_);
        co_return;
    }

private:
    static constexpr std::size_t room = Form == 1 ? 0 : 1;
    // A push that did not succeed leaves the item with its owner.
    struct keep_count {
        int &kept;
        item &one;
        ~keep_count() { kept += one != nullptr; }
    };
    parley::channel<item> channel_{room};
    parley::channel<item> other_{1};
};

} // namespace

std::vector<kind> channel_kinds() {
    return {
        {"pop", make<a_pop<0>>},
        {"pop, timed", make<a_pop<1>>},
        {"select of pops", make<a_pop<2>>},
        {"push into a full channel", make<a_push<0>>},
        {"push at a rendezvous", make<a_push<1>>},
        {"select with a push", make<a_push<2>>},
        {"push, timed", make<a_push<3>>},
    };
}

} // namespace matrix
