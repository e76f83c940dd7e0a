/* SPDX-License-Identifier: BSD-2-Clause */
/* Breadth first over all states, so that the way to a violation is a shortest one. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TRACE_MAX 256

struct node {
    struct model_state state;
    uint32_t parent;
    const char *label;
};

struct search {
    const struct model_options *options;
    struct node *nodes; /* in the order of finding; [expanded, count) are the frontier */
    uint32_t count, capacity, expanded, successors;
    uint32_t *table; /* 1 + index of a node; open addressing */
    uint32_t slots;
    const char *violation;
    uint32_t where;
};

static void *grow(void *memory, size_t count, size_t size)
{
    void *grown = reallocarray(memory, count, size);

    if (!grown) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    return grown;
}

static uint32_t *find_slot(struct search *search, const struct model_state *state)
{
    uint32_t slot = (uint32_t)XXH3_64bits(state, sizeof(*state)) & (search->slots - 1);

    while (search->table[slot] &&
           memcmp(&search->nodes[search->table[slot] - 1].state, state, sizeof(*state)))
        slot = (slot + 1) & (search->slots - 1);
    return &search->table[slot];
}

static void rehash(struct search *search)
{
    search->slots = search->slots ? 2 * search->slots : 1 << 12;
    free(search->table);
    search->table = grow(NULL, search->slots, sizeof(*search->table));
    memset(search->table, 0, search->slots * sizeof(*search->table));
    for (uint32_t i = 0; i < search->count; i++)
        *find_slot(search, &search->nodes[i].state) = i + 1;
}

static void note(struct search *search, const char *violation, uint32_t where)
{
    if (!violation || search->violation)
        return;
    search->violation = violation;
    search->where = where;
}

static void visit(void *opaque, const struct model_state *next, const char *label)
{
    struct search *search = opaque;
    const char *violation = model_violation;
    uint32_t *slot;

    model_violation = NULL;
    search->successors++;
    if (2 * search->count >= search->slots)
        rehash(search);
    slot = find_slot(search, next);
    if (!*slot) {
        if (search->count == search->capacity) {
            search->capacity = search->capacity ? 2 * search->capacity : 1 << 12;
            search->nodes = grow(search->nodes, search->capacity, sizeof(*search->nodes));
        }
        memcpy(&search->nodes[search->count].state, next, sizeof(*next));
        search->nodes[search->count].parent = search->expanded;
        search->nodes[search->count].label = label;
        *slot = ++search->count;
    }
    note(search, violation ? violation : model_check(next, search->options, false), *slot - 1);
}

static const char *who(const struct model_state *before, const struct model_state *after)
{
    bool source = memcmp(&before->side[0], &after->side[0], sizeof(before->side[0]));
    bool destination = memcmp(&before->side[1], &after->side[1], sizeof(before->side[1]));

    return source == destination ? "link" : source ? "source" : "destination";
}

static void explain(const struct search *search)
{
    uint32_t way[TRACE_MAX], length = 0;

    for (uint32_t at = search->where; at && length < TRACE_MAX; at = search->nodes[at].parent)
        way[length++] = at;
    printf("%s (wait for all: %s):\n", search->violation,
           search->options->wait_for_all ? "yes" : "no");
    while (length--) {
        const struct node *node = &search->nodes[way[length]];
        const struct model_state *state = &node->state;

        printf("  %-11s %-34s %-13s %-12s %s%s\n", who(&search->nodes[node->parent].state, state),
               node->label, source_state_name(state->source.state),
               destination_state_name(state->destination.state),
               state->side[0].running ? " runs at the source" : "",
               state->side[1].running ? " runs at the destination" : "");
    }
}

int model_search(const struct model_options *options, uint64_t *ret_states)
{
    struct search search = {.options = options};
    struct model_state state, current;
    int found;

    model_init(&state, options);
    visit(&search, &state, "start");
    for (; search.expanded < search.count && !search.violation; search.expanded++) {
        memcpy(&current, &search.nodes[search.expanded].state, sizeof(current));
        search.successors = 0;
        model_expand(&current, options, visit, &search);
        if (!search.successors)
            note(&search, model_check(&current, options, true), search.expanded);
    }
    found = search.violation != NULL;
    if (found)
        explain(&search);
    *ret_states += search.count;
    free(search.nodes);
    free(search.table);
    return found;
}
