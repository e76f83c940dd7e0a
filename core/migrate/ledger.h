/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may run a VM: one small file per VM and node, durable before anything depends on it.
 *
 * A VM has an epoch, raised by one at each change of owner.  A node that holds OWNED of the highest
 * epoch may run it; INCOMPLETE is owning, too, while pages are still at the source, and SAVED is it
 * while the VM is suspended: memory, state and disks belong together in no other state.  The source
 * writes RELINQUISHED(epoch + 1) before it sends COMMIT; the destination writes OWNED(epoch + 1)
 * before the guest runs there.  A destination that cannot go on after COMMIT writes
 * REFUSED(epoch + 1) and says so; only then may the source take the VM back, as OWNED(epoch + 2).
 *
 * The file has two slots that are written in turn, each with a sequence number and a checksum, so that
 * a torn write leaves the older record.  It is allocated once, so a full disk cannot stop a hand-over.
 */
#ifndef MIGRATE_LEDGER_H
#define MIGRATE_LEDGER_H

#include <drafter/common.h>

enum ledger_state {
    LEDGER_NONE = 0, /* never heard of */
    LEDGER_OWNED = 1,        /* it runs here, or did when its node died */
    LEDGER_RELINQUISHED = 2, /* the peer has it or is about to */
    LEDGER_REFUSED = 3,      /* it was offered here and never ran in that epoch */
    LEDGER_INCOMPLETE = 4,   /* owned, but not all of it has arrived yet */
    LEDGER_ARRIVING = 6,     /* offered here; files are being made, and are nobody's VM yet */
    LEDGER_SAVED = 5,        /* owned, suspended: the files are a VM that can be resumed */
};

struct ledger_record {
    enum ledger_state state;
    uint64_t epoch;
    char vm[DRAFTER_NAME_MAX + 1];
    char peer[128];      /* who else is concerned: the new owner, or from whom it came */
    uint8_t session[16]; /* token of the migration that made the record */
    uint64_t time;       /* CLOCK_REALTIME seconds, for people only */
    /*
     * RELINQUISHED: the files here are the VM as it was when it was handed over.  OWNED: all of the VM is in a
     * backup's files, which may not have their names yet; it never ran here.
     */
    bool whole;
};

#define LEDGER_FILE_SIZE 8192
#define LEDGER_SLOT_SIZE 512

struct ledger {
    int fd;
    char *path;
    uint64_t sequence;
    struct ledger_record record;
};

/* Opens or creates the ledger of a VM.  -EBUSY while another process has it open. */
int ledger_open(const char *directory, const char *vm, struct ledger *ledger,
                struct drafter_error *err);
void ledger_close(struct ledger *ledger);

/*
 * Reads a ledger without making or locking it: *ret_busy tells whether a drafter has it open.  LEDGER_NONE
 * when there is none.
 */
int ledger_peek(const char *directory, const char *vm, struct ledger_record *ret_record,
                bool *ret_busy, struct drafter_error *err);

/*
 * As ledger_open, on the open file `locked`, which is taken on success: it holds the lock that a process
 * which died had on this ledger.
 */
int ledger_open_locked(const char *directory, const char *vm, int locked, struct ledger *ledger,
                       struct drafter_error *err);

/* Makes a record durable; ledger->record is the new one only on success. */
int ledger_write(struct ledger *ledger, enum ledger_state state, uint64_t epoch, const char *peer,
                 const uint8_t session[16], struct drafter_error *err);

/* As ledger_write, and the record is `whole` from the first. */
int ledger_write_whole(struct ledger *ledger, enum ledger_state state, uint64_t epoch, const char *peer,
                       const uint8_t session[16], struct drafter_error *err);

/* Makes it durable that the files, too, are durable: ledger->record becomes `whole`. */
int ledger_mark_whole(struct ledger *ledger, struct drafter_error *err);

const char *ledger_state_name(enum ledger_state state);

/* The pure parts: one slot's bytes, and which of two slots counts. */
void ledger_encode(const struct ledger_record *record, uint64_t sequence,
                   uint8_t ret_slot[LEDGER_SLOT_SIZE]);
int ledger_decode(const uint8_t slot[LEDGER_SLOT_SIZE], struct ledger_record *ret_record,
                  uint64_t *ret_sequence);

#endif
