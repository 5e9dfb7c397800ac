#include "list.h"

#include <doctest/doctest.h>

#include <initializer_list>
#include <memory>
#include <vector>

extern "C" int parley_list_in_c(void);
extern "C" int parley_rbtree_in_c(void);

namespace {

struct Item {
    explicit Item(int value) : key(value) {}

    int key;
    list_head list{};
};

std::vector<int> keys(const list_head *head) {
    std::vector<int> result;
    const Item *item;

    list_for_each_entry(item, head, list) {
        result.push_back(item->key);
    }

    // A ring that is sound one way only would go unnoticed above.
    std::vector<int> reversed;
    list_for_each_entry_reverse(item, head, list) {
        reversed.insert(reversed.begin(), item->key);
    }
    CHECK(result == reversed);

    return result;
}

std::vector<int> row(std::initializer_list<int> values) {
    return values;
}

struct List {
    explicit List(std::initializer_list<int> values) {
        for (int value : values) {
            items.push_back(std::make_unique<Item>(value));
            list_add_tail(&items.back()->list, &head);
        }
    }

    list_head *operator[](size_t index) { return &items[index]->list; }

    list_head head = LIST_HEAD_INIT(head);
    std::vector<std::unique_ptr<Item>> items;
};

} // namespace

TEST_CASE("a new list is empty and walks over nothing") {
    LIST_HEAD(head);
    int visits = 0;
    list_head *pos;
    list_head *tmp;
    Item *item;
    Item *next;

    list_for_each(pos, &head) {
        ++visits;
    }
    list_for_each_prev(pos, &head) {
        ++visits;
    }
    list_for_each_safe(pos, tmp, &head) {
        ++visits;
    }
    list_for_each_entry(item, &head, list) {
        ++visits;
    }
    list_for_each_entry_safe(item, next, &head, list) {
        ++visits;
    }

    CHECK(list_empty(&head));
    CHECK_FALSE(list_is_singular(&head));
    CHECK(visits == 0);
}

TEST_CASE("list_add makes a stack and list_add_tail a queue") {
    LIST_HEAD(head);
    Item one(1), two(2), three(3);

    list_add(&one.list, &head);
    CHECK(list_is_singular(&head));
    list_add(&two.list, &head);
    list_add_tail(&three.list, &head);

    CHECK(keys(&head) == row({2, 1, 3}));
    CHECK_FALSE(list_empty(&head));
    CHECK_FALSE(list_is_singular(&head));
    CHECK(list_is_last(&three.list, &head));
    CHECK(list_first_entry(&head, Item, list) == &two);
    CHECK(list_last_entry(&head, Item, list) == &three);
}

TEST_CASE("list_del takes an element out of the beginning, the middle and the end") {
    List list{1, 2, 3, 4, 5};

    list_del(list[2]);
    CHECK(keys(&list.head) == row({1, 2, 4, 5}));
    list_del(list[0]);
    list_del(list[4]);
    CHECK(keys(&list.head) == row({2, 4}));
    list_del(list[1]);
    list_del(list[3]);
    CHECK(list_empty(&list.head));
}

TEST_CASE("an element that was unlinked with list_del_init says so, and may be unlinked again") {
    List list{1, 2};

    list_del_init(list[0]);
    CHECK(list_empty(list[0]));
    list_del_init(list[0]);

    CHECK(keys(&list.head) == row({2}));
}

TEST_CASE("list_replace puts an element where another one was") {
    List list{1, 2, 3};
    Item other(7);

    list_replace(list[1], &other.list);

    CHECK(keys(&list.head) == row({1, 7, 3}));
}

TEST_CASE("list_move and list_move_tail work within a list and between two") {
    List left{1, 2, 3};
    List right{4, 5};

    list_move(left[2], &left.head);
    CHECK(keys(&left.head) == row({3, 1, 2}));
    list_move_tail(left[2], &left.head);
    CHECK(keys(&left.head) == row({1, 2, 3}));

    list_move(left[1], &right.head);
    list_move_tail(left[0], &right.head);
    CHECK(keys(&left.head) == row({3}));
    CHECK(keys(&right.head) == row({2, 4, 5, 1}));
}

TEST_CASE("list_splice puts a list before another and list_splice_tail behind it") {
    List target{1, 2};
    List front{3, 4};
    List back{5};
    List none{};

    list_splice(&front.head, &target.head);
    list_splice_tail(&back.head, &target.head);
    list_splice(&none.head, &target.head);
    list_splice_tail(&none.head, &target.head);

    CHECK(keys(&target.head) == row({3, 4, 1, 2, 5}));
}

TEST_CASE("the _init forms of splice leave an empty list behind") {
    List target{};
    List front{1, 2};
    List back{3};

    list_splice_init(&front.head, &target.head);
    list_splice_tail_init(&back.head, &target.head);
    list_splice_init(&front.head, &target.head);

    CHECK(keys(&target.head) == row({1, 2, 3}));
    CHECK(list_empty(&front.head));
    CHECK(list_empty(&back.head));
}

TEST_CASE("the safe walks allow an element to be freed on the way") {
    LIST_HEAD(head);
    list_head *pos;
    list_head *tmp;
    Item *item;
    Item *next;

    for (int i = 0; i < 6; ++i)
        list_add_tail(&(new Item(i))->list, &head);

    list_for_each_safe(pos, tmp, &head) {
        Item *even = list_entry(pos, Item, list);
        if (even->key % 2 == 0) {
            list_del(pos);
            delete even;
        }
    }
    CHECK(keys(&head) == row({1, 3, 5}));

    list_for_each_prev_safe(pos, tmp, &head) {
        Item *last = list_entry(pos, Item, list);
        if (last->key == 5) {
            list_del(pos);
            delete last;
        }
    }
    CHECK(keys(&head) == row({1, 3}));

    list_for_each_entry_safe(item, next, &head, list) {
        list_del(&item->list);
        delete item;
    }
    CHECK(list_empty(&head));
}

namespace {

class Session {
public:
    virtual ~Session() = default;

    long padding = 0;
};

// Neither standard layout nor public, and the link is a member of a member.
class Listed : public Session {
public:
    explicit Listed(list_head *head) { list_add_tail(&links.list, head); }

    static int count(list_head *head) {
        int result = 0;
        Listed *listed;

        list_for_each_entry(listed, head, links.list) {
            result += listed->weight;
        }
        return result;
    }

    static Listed *first(list_head *head) { return list_entry(head->next, Listed, links.list); }

private:
    struct {
        int other = 0;
        list_head list;
    } links;
    int weight = 1;
};

} // namespace

TEST_CASE("an object with virtual functions and a private link is found from its link") {
    LIST_HEAD(head);
    Listed one(&head), two(&head);

    CHECK(Listed::first(&head) == &one);
    CHECK(Listed::count(&head) == 2);
}

TEST_CASE("list.h and rbtree.h serve a C program") {
    CHECK(parley_list_in_c() == 0);
    CHECK(parley_rbtree_in_c() == 0);
}
