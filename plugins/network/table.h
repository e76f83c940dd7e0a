/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state of a pool: a file that every process with an instance maps, and the locks that say which of
 * them lives.
 *
 * The memory says what was made and who has it; the kernel's locks on bytes of the file (OFD locks, of
 * open file descriptions) say which of it is still true: they end with the process that held them, or
 * with the last of its children that inherited the descriptor.  A record with a holder but no lock is a
 * dead process's.  So nothing has to be written when a process is killed, and everything that a killed
 * maker may have begun stands in the file before it begins.
 *
 * All records are read and written between table_lock and table_unlock, which is for microseconds.
 * The file is not trusted to be whole: table_open checks what it relies on.
 */
#ifndef NETWORK_TABLE_H
#define NETWORK_TABLE_H

#include "layout.h"

#define TABLE_MAGIC "DRFPOOL1"
#define TABLE_FORWARDS_MAX 4096

enum table_state {
    TABLE_EMPTY = 0,  /* nothing of the pool exists */
    TABLE_MAKING = 1, /* some of it may */
    TABLE_OPEN = 2,
    TABLE_CLOSING = 3,
    TABLE_GONE = 4,   /* and this file was replaced or removed: open it again */
};

enum slot_state { SLOT_NONE = 0, SLOT_MAKING = 1, SLOT_READY = 2 };

#define SLOT_ANNOUNCED 1u
#define SLOT_LOCALNET 2u  /* its link may carry loopback addresses of IPv4 */
#define SLOT_LOCALNET6 4u /* and of IPv6 */

struct table_slot {
    uint32_t state; /* enum slot_state */
    uint32_t flags;
    int32_t pid; /* 0: free; written last, cleared first */
    uint32_t owner_hash;
};

struct table_forward {
    uint32_t used;
    int32_t pid;
    struct drafter_network_forward forward;
};

struct table_header {
    char magic[8];
    uint32_t size; /* of struct table_file */
    uint32_t state;
    int64_t maker; /* process id */
    char backend[16];
    char boot[48];      /* id of the host's boot */
    uint64_t netns[2];  /* device and inode of the host's namespace */
    struct layout layout;
};

struct table_file {
    union {
        struct table_header header;
        char room[4096];
    };
    struct table_slot slots[POOL_SLOTS_MAX];
    struct table_forward forwards[TABLE_FORWARDS_MAX];
    char owners[POOL_SLOTS_MAX][64];
};

struct table {
    int fd; /* -1: not open */
    int slots_fd; /* the file once more, for the locks of slots: these may outlive the process */
    struct table_file *file;
    char *path;
};

#define TABLE_INIT                                                                                 \
    {                                                                                              \
        -1, -1, NULL, NULL                                                                         \
    }

/* What a lock stands for. */
enum table_lock_kind { TABLE_LOCK_MAKER, TABLE_LOCK_RULES, TABLE_LOCK_SLOT, TABLE_LOCK_FORWARD };

/*
 * Opens `directory`/`prefix`.pool; with `create` both are made when missing.  ENOENT: no pool.
 */
int table_open(struct table *table, const char *directory, const char *prefix, bool create,
               struct drafter_error *err);
void table_close(struct table *table);

/* Whether the file is still the one at its path. */
bool table_current(const struct table *table);

/* EBUSY after two seconds, with the process that seems to have it. */
int table_lock(struct table *table, struct drafter_error *err);
void table_unlock(struct table *table);

/* Takes a lock for this instance if nobody else has it. */
bool table_take(struct table *table, enum table_lock_kind kind, uint32_t number);
void table_drop(struct table *table, enum table_lock_kind kind, uint32_t number);

/* As table_take; waits up to ten seconds, then EBUSY. */
int table_wait(struct table *table, enum table_lock_kind kind, struct drafter_error *err);

/* Whether another instance, in this process or any other, has it. */
bool table_taken(const struct table *table, enum table_lock_kind kind, uint32_t number);

/*
 * Takes over the locks of slots that a dead process left with an open file, which is taken.  False: it is another
 * pool's, or what this one was before it was made anew.
 */
bool table_inherit(struct table *table, int slots_fd);

/* Whether the lock of a slot is this instance's. */
bool table_mine(const struct table *table, uint32_t slot);

/* Forgets all records and the layout. */
void table_clear(struct table *table);

/* Removes the file; for the maker. */
void table_unlink(struct table *table);

uint32_t table_hash(const char *owner);

#endif
