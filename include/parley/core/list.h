/*
 * An intrusive doubly linked list: the links are a member of your own struct, so linking never allocates and
 * an element unlinks itself in constant time. The lowest stone of the callback core; valid as C (gnu90) and
 * as C++.
 *
 *     struct job { int id; struct list_head list; };
 *
 *     LIST_HEAD(jobs);
 *     list_add_tail(&job->list, &jobs);
 *     list_for_each_entry(pos, &jobs, list)
 *         printf("%d\n", pos->id);
 *
 * A list is a ring through its head, and an empty head points at itself. Nobody but you owns the elements,
 * and nothing here locks.
 */
#ifndef PARLEY_CORE_LIST_H
#define PARLEY_CORE_LIST_H

#include "detail/entry.h"

/* A link of an element, or the head of a list. */
struct list_head {
    struct list_head *next;
    struct list_head *prev;
};

/* Initializer of an empty list: `struct list_head jobs = LIST_HEAD_INIT(jobs);`. */
#define LIST_HEAD_INIT(name) {&(name), &(name)}

/* Defines an empty list. */
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

/* Makes `head` an empty list, or a link that is in no list. What it held is forgotten, not unlinked. */
static __inline__ void INIT_LIST_HEAD(struct list_head *head) {
    head->next = head;
    head->prev = head;
}

/* Makes `left` and `right` neighbours. For the functions below. */
static __inline__ void parley_list_join(struct list_head *left, struct list_head *right) {
    left->next = right;
    right->prev = left;
}

/* Puts the elements of the non-empty `list` between two neighbours; `list` itself is left as it was. */
static __inline__ void parley_list_insert(const struct list_head *list, struct list_head *left,
                                          struct list_head *right) {
    struct list_head *first = list->next;
    struct list_head *last = list->prev;

    parley_list_join(left, first);
    parley_list_join(last, right);
}

/* Whether the list has no element. */
static __inline__ int list_empty(const struct list_head *head) {
    return head->next == head;
}

/* Whether the list has exactly one element. */
static __inline__ int list_is_singular(const struct list_head *head) {
    return head->next != head && head->next == head->prev;
}

/* Whether `link` is the last element of the list. */
static __inline__ int list_is_last(const struct list_head *link, const struct list_head *head) {
    return link->next == head;
}

/* Links `link`, which is in no list, as the first element: a stack. */
static __inline__ void list_add(struct list_head *link, struct list_head *head) {
    parley_list_join(link, head->next);
    parley_list_join(head, link);
}

/* Links `link`, which is in no list, as the last element: a queue. */
static __inline__ void list_add_tail(struct list_head *link, struct list_head *head) {
    parley_list_join(head->prev, link);
    parley_list_join(link, head);
}

/* Unlinks `link`. Its own pointers keep their old values: add or initialise it before its next use. */
static __inline__ void list_del(struct list_head *link) {
    parley_list_join(link->prev, link->next);
}

/* Unlinks `link` and makes it an empty list: list_empty(link) then says "in no list", and to do it twice is
   harmless. */
static __inline__ void list_del_init(struct list_head *link) {
    list_del(link);
    INIT_LIST_HEAD(link);
}

/* Puts `link` in the place of `old`, whose own pointers keep their old values. */
static __inline__ void list_replace(struct list_head *old, struct list_head *link) {
    parley_list_join(link, old->next);
    parley_list_join(old->prev, link);
}

/* Unlinks `link` from its list, this or another, and makes it the first of this one. */
static __inline__ void list_move(struct list_head *link, struct list_head *head) {
    list_del(link);
    list_add(link, head);
}

/* Unlinks `link` from its list, this or another, and makes it the last of this one. */
static __inline__ void list_move_tail(struct list_head *link, struct list_head *head) {
    list_del(link);
    list_add_tail(link, head);
}

/* Puts all elements of `list` before the first of `head`. Initialise `list` before its next use. */
static __inline__ void list_splice(const struct list_head *list, struct list_head *head) {
    if (!list_empty(list))
        parley_list_insert(list, head, head->next);
}

/* Puts all elements of `list` after the last of `head`. Initialise `list` before its next use. */
static __inline__ void list_splice_tail(const struct list_head *list, struct list_head *head) {
    if (!list_empty(list))
        parley_list_insert(list, head->prev, head);
}

/* list_splice() that leaves `list` empty. */
static __inline__ void list_splice_init(struct list_head *list, struct list_head *head) {
    list_splice(list, head);
    INIT_LIST_HEAD(list);
}

/* list_splice_tail() that leaves `list` empty. */
static __inline__ void list_splice_tail_init(struct list_head *list, struct list_head *head) {
    list_splice_tail(list, head);
    INIT_LIST_HEAD(list);
}

/* The object of type `type` whose member `member` is the link at `ptr`. */
#define list_entry(ptr, type, member) PARLEY_ENTRY(ptr, type, member)

/* The first and the last object of a list that is not empty. */
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) list_entry((head)->prev, type, member)

/* Walks the links, forwards or backwards. The body must not unlink `pos`. */
#define list_for_each(pos, head) for (pos = (head)->next; pos != (head); pos = pos->next)
#define list_for_each_prev(pos, head) for (pos = (head)->prev; pos != (head); pos = pos->prev)

/* Walks the links; the body may unlink or free `pos`, and nothing else. `tmp` is a second link pointer. */
#define list_for_each_safe(pos, tmp, head)                                                                   \
    for (pos = (head)->next, tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)
#define list_for_each_prev_safe(pos, tmp, head)                                                              \
    for (pos = (head)->prev, tmp = pos->prev; pos != (head); pos = tmp, tmp = pos->prev)

/* The link in the object at `pos`; by arithmetic, since the loops below also ask it of their end, where `pos`
   is the head seen through the glasses of an object and must not be looked into. */
#define parley_list_link(pos, member)                                                                        \
    ((struct list_head *)((char *)(pos) + PARLEY_OFFSETOF(__typeof__(*(pos)), member)))

/* Walks the objects, forwards or backwards; `pos` points to their type. The body must not unlink `pos`. */
#define list_for_each_entry(pos, head, member)                                                               \
    for (pos = list_entry((head)->next, __typeof__(*(pos)), member);                                         \
         parley_list_link(pos, member) != (head);                                                            \
         pos = list_entry(parley_list_link(pos, member)->next, __typeof__(*(pos)), member))
#define list_for_each_entry_reverse(pos, head, member)                                                       \
    for (pos = list_entry((head)->prev, __typeof__(*(pos)), member);                                         \
         parley_list_link(pos, member) != (head);                                                            \
         pos = list_entry(parley_list_link(pos, member)->prev, __typeof__(*(pos)), member))

/* Walks the objects; the body may unlink or free `pos`, and nothing else. `tmp` is of the type of `pos`. */
#define list_for_each_entry_safe(pos, tmp, head, member)                                                     \
    for (pos = list_entry((head)->next, __typeof__(*(pos)), member),                                         \
        tmp = list_entry(parley_list_link(pos, member)->next, __typeof__(*(pos)), member);                   \
         parley_list_link(pos, member) != (head);                                                            \
         pos = tmp, tmp = list_entry(parley_list_link(pos, member)->next, __typeof__(*(pos)), member))

#endif
