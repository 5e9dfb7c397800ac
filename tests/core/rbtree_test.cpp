#include "rbtree.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace {

struct Item {
    int key = 0;
    rb_node node{};
};

Item *item_of(rb_node *node) {
    return rb_entry(node, Item, node);
}

void insert(rb_root *root, Item *item) {
    rb_node **slot = &root->rb_node;
    rb_node *parent = nullptr;

    while (*slot) {
        parent = *slot;
        slot = item->key < item_of(parent)->key ? &parent->rb_left : &parent->rb_right;
    }

    rb_link_node(&item->node, parent, slot);
    rb_insert_color(&item->node, root);
}

// The number of black nodes on each path below `node`; -1 if the rules of the tree are broken.
int black_height(const rb_node *node, const rb_node *parent) {
    if (!node)
        return 0;
    if (node->rb_parent != parent)
        return -1;
    if (node->rb_color == RB_RED && (!parent || parent->rb_color == RB_RED))
        return -1;

    int left = black_height(node->rb_left, node);
    int right = black_height(node->rb_right, node);

    if (left < 0 || left != right)
        return -1;
    return left + (node->rb_color == RB_BLACK ? 1 : 0);
}

bool is_sound(const rb_root &root) {
    return black_height(root.rb_node, nullptr) >= 0;
}

std::vector<int> forwards(const rb_root &root) {
    std::vector<int> result;

    for (rb_node *node = rb_first(&root); node; node = rb_next(node))
        result.push_back(item_of(node)->key);
    return result;
}

std::vector<int> backwards(const rb_root &root) {
    std::vector<int> result;

    for (rb_node *node = rb_last(&root); node; node = rb_prev(node))
        result.push_back(item_of(node)->key);
    return result;
}

} // namespace

TEST_CASE("an empty tree has neither a first nor a last node") {
    rb_root root = RB_ROOT;

    CHECK(rb_first(&root) == nullptr);
    CHECK(rb_last(&root) == nullptr);
}

TEST_CASE("a tree agrees with std::multiset through random insertions and removals") {
    std::mt19937 random(20);

    for (int range : {4, 50, 1000}) {
        CAPTURE(range);
        std::vector<Item> items(400);
        std::vector<Item *> out, in;
        std::multiset<int> model;
        rb_root root = RB_ROOT;
        bool agrees = true;

        for (Item &item : items)
            out.push_back(&item);

        for (int step = 0; step < 6000 && agrees; ++step) {
            // Grows for a while, then shrinks: both small and large trees are met.
            bool grow = in.empty() || (!out.empty() && random() % 100 < (step / 1000 % 2 ? 30U : 70U));
            std::vector<Item *> &from = grow ? out : in;
            std::swap(from[random() % from.size()], from.back());
            Item *item = from.back();
            from.pop_back();

            if (grow) {
                item->key = static_cast<int>(random() % static_cast<unsigned>(range));
                insert(&root, item);
                model.insert(item->key);
                in.push_back(item);
            } else {
                rb_erase(&item->node, &root);
                model.erase(model.find(item->key));
                out.push_back(item);
            }

            agrees = is_sound(root) && std::ranges::equal(forwards(root), model);
            if (step % 100 == 0)
                agrees =
                    agrees && std::ranges::equal(backwards(root), std::vector(model.rbegin(), model.rend()));
        }

        CHECK(agrees);
    }
}

TEST_CASE("every order of insertion and every order of removal keeps a small tree sound") {
    std::vector<int> order{0, 1, 2, 3, 4, 5};
    std::vector<Item> items(order.size());
    bool sound = true;

    do {
        for (size_t first = 0; first < order.size(); ++first) {
            rb_root root = RB_ROOT;

            for (size_t i = 0; i < order.size(); ++i) {
                items[i].key = order[i];
                insert(&root, &items[i]);
            }
            sound = sound && is_sound(root);

            for (size_t i = 0; i < order.size(); ++i) {
                rb_erase(&items[(first + i) % order.size()].node, &root);
                sound = sound && is_sound(root) && forwards(root).size() == order.size() - i - 1;
            }
        }
    } while (std::ranges::next_permutation(order).found);

    CHECK(sound);
}

TEST_CASE("rb_replace_node puts a node where another one was, the root included") {
    std::vector<Item> items(20);
    std::vector<Item> others(20);
    rb_root root = RB_ROOT;
    std::vector<int> expected;

    for (int i = 0; i < 20; ++i) {
        items[static_cast<size_t>(i)].key = i;
        insert(&root, &items[static_cast<size_t>(i)]);
        expected.push_back(i + 100);
    }

    for (size_t i = 0; i < items.size(); ++i) {
        others[i].key = items[i].key + 100;
        rb_replace_node(&items[i].node, &others[i].node, &root);
        CHECK(is_sound(root));
    }

    CHECK(forwards(root) == expected);
    std::ranges::reverse(expected);
    CHECK(backwards(root) == expected);
}

TEST_CASE("equal keys stay in the order of their insertion") {
    std::vector<Item> items(64);
    rb_root root = RB_ROOT;
    bool ordered = true;

    for (Item &item : items)
        insert(&root, &item);

    size_t i = 0;
    for (rb_node *node = rb_first(&root); node; node = rb_next(node))
        ordered = ordered && item_of(node) == &items[i++];

    CHECK(i == items.size());
    CHECK(ordered);
}
