/* The headers that must also be C, in a C program. Each function returns 0, or the line that failed. */

#include "list.h"
#include "rbtree.h"

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return __LINE__;                                                                                 \
    } while (0)

struct item {
    int key;
    struct list_head list;
    struct rb_node node;
};

static LIST_HEAD(global_list);
static struct rb_root global_tree = RB_ROOT;

int parley_list_in_c(void);
int parley_rbtree_in_c(void);

int parley_list_in_c(void) {
    struct item items[4];
    struct list_head other;
    struct list_head *pos, *tmp;
    struct item *item, *next;
    int i, sum = 0;

    EXPECT(list_empty(&global_list));
    for (i = 0; i < 4; i++) {
        items[i].key = i;
        list_add_tail(&items[i].list, &global_list);
    }

    i = 0;
    list_for_each(pos, &global_list) {
        EXPECT(list_entry(pos, struct item, list)->key == i);
        i++;
    }

    list_for_each_prev(pos, &global_list) {
        i--;
        EXPECT(list_entry(pos, struct item, list) == &items[i]);
    }

    list_for_each_entry(item, &global_list, list) {
        sum += item->key;
    }
    EXPECT(sum == 6);

    INIT_LIST_HEAD(&other);
    list_move(&items[3].list, &other);
    list_splice_init(&global_list, &other);
    EXPECT(list_empty(&global_list));
    EXPECT(list_first_entry(&other, struct item, list) == &items[0]);
    EXPECT(list_last_entry(&other, struct item, list) == &items[3]);

    list_for_each_safe(pos, tmp, &other) {
        if (list_entry(pos, struct item, list)->key % 2)
            list_del(pos);
    }

    sum = 0;
    list_for_each_entry_safe(item, next, &other, list) {
        sum += item->key;
        list_del_init(&item->list);
    }
    EXPECT(sum == 2);
    EXPECT(list_empty(&other));
    return 0;
}

int parley_rbtree_in_c(void) {
    struct item items[64];
    struct rb_node **slot, *parent, *node;
    struct rb_root tree = RB_ROOT;
    int i;

    for (i = 0; i < 64; i++) {
        items[i].key = i * 37 % 64;
        slot = &global_tree.rb_node;
        parent = NULL;
        while (*slot) {
            parent = *slot;
            if (items[i].key < rb_entry(parent, struct item, node)->key)
                slot = &parent->rb_left;
            else
                slot = &parent->rb_right;
        }

        rb_link_node(&items[i].node, parent, slot);
        rb_insert_color(&items[i].node, &global_tree);
    }

    EXPECT(global_tree.rb_node->rb_color == RB_BLACK);
    i = 0;
    for (node = rb_first(&global_tree); node; node = rb_next(node))
        EXPECT(rb_entry(node, struct item, node)->key == i++);
    EXPECT(i == 64);

    for (node = rb_last(&global_tree); node; node = rb_prev(node))
        EXPECT(rb_entry(node, struct item, node)->key == --i);

    while (global_tree.rb_node)
        rb_erase(global_tree.rb_node, &global_tree);
    EXPECT(rb_first(&global_tree) == NULL);

    tree = RB_ROOT;
    EXPECT(rb_last(&tree) == NULL);
    return 0;
}
