/*
 * An intrusive red-black tree: the node is a member of your own struct and the search loop is yours, so there
 * is neither allocation nor comparison callback. The lowest stone of the callback core, beside list.h; valid
 * as C (gnu90) and as C++.
 *
 *     struct timer { long when; struct rb_node node; };
 *
 *     struct rb_node **slot = &root->rb_node, *parent = NULL;
 *     while (*slot) {
 *         parent = *slot;
 *         if (timer->when < rb_entry(parent, struct timer, node)->when)
 *             slot = &parent->rb_left;
 *         else
 *             slot = &parent->rb_right;
 *     }
 *     rb_link_node(&timer->node, parent, slot);
 *     rb_insert_color(&timer->node, root);
 *
 * Insertion and removal follow Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", chapter 13,
 * with a null pointer where the book has its black sentinel. The functions are static inline, because their
 * usual names are exported by many C libraries and would meet them when a program is linked. Nothing here
 * locks.
 */
#ifndef PARLEY_CORE_RBTREE_H
#define PARLEY_CORE_RBTREE_H

#include <stddef.h>

#include "detail/entry.h"

#define RB_RED 0
#define RB_BLACK 1

/* A node of a tree, a member of your object. Readable at any time; only the functions below write it. */
struct rb_node {
    struct rb_node *rb_parent;
    struct rb_node *rb_right;
    struct rb_node *rb_left;
    int rb_color;
};

/* A tree. */
struct rb_root {
    struct rb_node *rb_node;
};

/* An empty tree, to initialise with and to assign. */
#ifdef __cplusplus
#define RB_ROOT (rb_root{nullptr})
#else
#define RB_ROOT (__extension__(struct rb_root){NULL})
#endif

/* The object of type `type` whose member `member` is the node at `ptr`. */
#define rb_entry(ptr, type, member) PARLEY_ENTRY(ptr, type, member)

/* Where the left or right child of `node` is kept: one text then serves both of the book's mirrored cases. */
static __inline__ struct rb_node **parley_rb_child(struct rb_node *node, int right) {
    return right ? &node->rb_right : &node->rb_left;
}

static __inline__ int parley_rb_is_red(const struct rb_node *node) {
    return node && node->rb_color == RB_RED;
}

/* Makes `child`, which may be null, what `parent` (null: the root) held at the place of `node`. */
static __inline__ void parley_rb_put(struct rb_node *child, const struct rb_node *node,
                                     struct rb_node *parent, struct rb_root *root) {
    if (!parent)
        root->rb_node = child;
    else if (parent->rb_left == node)
        parent->rb_left = child;
    else
        parent->rb_right = child;

    if (child)
        child->rb_parent = parent;
}

/* Turns `node` down to its left or right side; its child of the other side takes its place. */
static __inline__ void parley_rb_rotate(struct rb_node *node, int to_right, struct rb_root *root) {
    struct rb_node *lifted = *parley_rb_child(node, !to_right);
    struct rb_node *inner = *parley_rb_child(lifted, to_right);

    parley_rb_put(lifted, node, node->rb_parent, root);
    *parley_rb_child(lifted, to_right) = node;
    node->rb_parent = lifted;
    *parley_rb_child(node, !to_right) = inner;
    if (inner)
        inner->rb_parent = node;
}

/* Hangs `node` as a red leaf under `parent` (null: the tree is empty) at `*link`, the empty place that your
   search ended at. rb_insert_color() must follow before anything else is done to the tree. */
static __inline__ void rb_link_node(struct rb_node *node, struct rb_node *parent, struct rb_node **link) {
    node->rb_parent = parent;
    node->rb_left = NULL;
    node->rb_right = NULL;
    node->rb_color = RB_RED;
    *link = node;
}

/* Rebalances the tree after rb_link_node(). */
static __inline__ void rb_insert_color(struct rb_node *node, struct rb_root *root) {
    while (parley_rb_is_red(node->rb_parent)) {
        struct rb_node *parent = node->rb_parent;
        struct rb_node *grand = parent->rb_parent; /* exists, since the root is black */
        int right = parent == grand->rb_right;
        struct rb_node *uncle = *parley_rb_child(grand, !right);

        if (parley_rb_is_red(uncle)) {
            parent->rb_color = RB_BLACK;
            uncle->rb_color = RB_BLACK;
            grand->rb_color = RB_RED;
            node = grand;
            continue;
        }

        if (node == *parley_rb_child(parent, !right)) {
            parley_rb_rotate(parent, right, root);
            parent = node;
        }

        parent->rb_color = RB_BLACK;
        grand->rb_color = RB_RED;
        parley_rb_rotate(grand, !right, root);
        break;
    }

    root->rb_node->rb_color = RB_BLACK;
}

/* Restores the count of black nodes on the paths through `node`, a child of `parent` that has one too few. */
static __inline__ void parley_rb_refill(struct rb_node *node, struct rb_node *parent, struct rb_root *root) {
    while (parent && !parley_rb_is_red(node)) {
        int right = parent->rb_left == node; /* the side of the sibling; it exists, for its paths have more */
        struct rb_node *sibling = *parley_rb_child(parent, right);

        if (parley_rb_is_red(sibling)) {
            sibling->rb_color = RB_BLACK;
            parent->rb_color = RB_RED;
            parley_rb_rotate(parent, !right, root);
            sibling = *parley_rb_child(parent, right);
        }

        if (!parley_rb_is_red(sibling->rb_left) && !parley_rb_is_red(sibling->rb_right)) {
            sibling->rb_color = RB_RED;
            node = parent;
            parent = node->rb_parent;
            continue;
        }

        if (!parley_rb_is_red(*parley_rb_child(sibling, right))) {
            (*parley_rb_child(sibling, !right))->rb_color = RB_BLACK;
            sibling->rb_color = RB_RED;
            parley_rb_rotate(sibling, right, root);
            sibling = *parley_rb_child(parent, right);
        }

        sibling->rb_color = parent->rb_color;
        parent->rb_color = RB_BLACK;
        (*parley_rb_child(sibling, right))->rb_color = RB_BLACK;
        parley_rb_rotate(parent, !right, root);
        return;
    }

    if (node)
        node->rb_color = RB_BLACK;
}

/* Puts `fresh`, which is in no tree and compares alike, in the place of `old`, which is in none afterwards.
 */
static __inline__ void rb_replace_node(struct rb_node *old, struct rb_node *fresh, struct rb_root *root) {
    *fresh = *old;
    parley_rb_put(fresh, old, old->rb_parent, root);
    if (fresh->rb_left)
        fresh->rb_left->rb_parent = fresh;
    if (fresh->rb_right)
        fresh->rb_right->rb_parent = fresh;
}

/* Takes `node` out of the tree. Its fields keep no meaning; other nodes move only by their links, so pointers
   to them stay good. */
static __inline__ void rb_erase(struct rb_node *node, struct rb_root *root) {
    struct rb_node *parent = node->rb_parent;
    struct rb_node *child = node->rb_left ? node->rb_left : node->rb_right;
    int color = node->rb_color;

    if (node->rb_left && node->rb_right) {
        struct rb_node *next = node->rb_right;

        while (next->rb_left)
            next = next->rb_left;

        /* The successor, which has no left child, leaves its place and then stands in for `node`. */
        child = next->rb_right;
        color = next->rb_color;
        parent = next->rb_parent;
        parley_rb_put(child, next, parent, root);
        if (parent == node)
            parent = next;
        rb_replace_node(node, next, root);
    } else
        parley_rb_put(child, node, parent, root);

    if (color == RB_BLACK)
        parley_rb_refill(child, parent, root);
}

/* The outermost node of one side, or null. */
static __inline__ struct rb_node *parley_rb_end(const struct rb_root *root, int right) {
    struct rb_node *node = root->rb_node;
    struct rb_node *child = node;

    while (child) {
        node = child;
        child = *parley_rb_child(node, right);
    }

    return node;
}

/* The neighbour in order of `node` on one side, or null. */
static __inline__ struct rb_node *parley_rb_step(const struct rb_node *node, int right) {
    struct rb_node *other = right ? node->rb_right : node->rb_left;

    if (other) {
        while (*parley_rb_child(other, !right))
            other = *parley_rb_child(other, !right);
        return other;
    }

    other = node->rb_parent;
    while (other && node == *parley_rb_child(other, right)) {
        node = other;
        other = node->rb_parent;
    }

    return other;
}

/* The first or the last node in order; null if the tree is empty. */
static __inline__ struct rb_node *rb_first(const struct rb_root *root) {
    return parley_rb_end(root, 0);
}

static __inline__ struct rb_node *rb_last(const struct rb_root *root) {
    return parley_rb_end(root, 1);
}

/* The next or the previous node in order; null at the end. */
static __inline__ struct rb_node *rb_next(const struct rb_node *node) {
    return parley_rb_step(node, 1);
}

static __inline__ struct rb_node *rb_prev(const struct rb_node *node) {
    return parley_rb_step(node, 0);
}

#endif
