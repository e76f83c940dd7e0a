/* SPDX-License-Identifier: BSD-2-Clause */
/* What the loader knows of each plugin kind: its name, its operations and which of them must exist.
 */
#ifndef PLUGIN_KINDS_H
#define PLUGIN_KINDS_H

#include <drafter/plugin.h>

struct plugin_op {
    const char *name; /* NULL ends the table */
    size_t offset;    /* of the function pointer in the operations table */
    bool mandatory;
};

struct plugin_kind {
    enum drafter_kind kind;
    const char *name;
    size_t ops_size; /* as this program knows it */
    bool may_serialize;
    const struct plugin_op *ops;
};

/* NULL for a number that is no kind. */
const struct plugin_kind *plugin_kind_get(enum drafter_kind kind);

/* The kinds in order, NULL behind the last. */
const struct plugin_kind *plugin_kind_at(size_t index);

/* Whether the operation is there, in our copy of a table. */
bool plugin_op_present(const void *ops, const struct plugin_op *op);

#endif
