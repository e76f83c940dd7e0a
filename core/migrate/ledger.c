/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/ledger.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

#define LEDGER_MAGIC "DRFTLDG1"

/*
 * Mistakes for tests/crash to find: 1 trusts what a killed process wrote, 2 does not write for good,
 * 3 uses one slot, 4 leaves a record that could not be made durable.
 */
#ifndef LEDGER_PLANT
#define LEDGER_PLANT 0
#endif

#define FLAG_WHOLE 1u

/* On disk, little-endian; the checksum covers all before it. */
struct slot {
    char magic[8];
    uint64_t sequence;
    uint32_t state;
    uint32_t flags;
    uint64_t epoch;
    uint64_t time;
    char vm[DRAFTER_NAME_MAX + 1];
    char peer[128];
    uint8_t session[16];
    uint8_t padding[LEDGER_SLOT_SIZE - 8 * 5 - (DRAFTER_NAME_MAX + 1) - 128 - 16 - 8];
    uint64_t checksum;
};
_Static_assert(sizeof(struct slot) == LEDGER_SLOT_SIZE, "a slot is one sector");

void ledger_encode(const struct ledger_record *record, uint64_t sequence,
                   uint8_t ret_slot[LEDGER_SLOT_SIZE])
{
    struct slot slot = {
        .magic = LEDGER_MAGIC,
        .sequence = htole64(sequence),
        .state = htole32(record->state),
        .flags = htole32(record->whole ? FLAG_WHOLE : 0),
        .epoch = htole64(record->epoch),
        .time = htole64(record->time),
    };

    memcpy(slot.vm, record->vm, sizeof(slot.vm));
    memcpy(slot.peer, record->peer, sizeof(slot.peer));
    memcpy(slot.session, record->session, sizeof(slot.session));
    slot.checksum = htole64(XXH3_64bits(&slot, offsetof(struct slot, checksum)));
    memcpy(ret_slot, &slot, sizeof(slot));
}

int ledger_decode(const uint8_t bytes[LEDGER_SLOT_SIZE], struct ledger_record *ret_record,
                  uint64_t *ret_sequence)
{
    struct ledger_record record = {0};
    struct slot slot;

    memcpy(&slot, bytes, sizeof(slot));
    if (memcmp(slot.magic, LEDGER_MAGIC, sizeof(slot.magic)) ||
        le64toh(slot.checksum) != XXH3_64bits(&slot, offsetof(struct slot, checksum)) ||
        le32toh(slot.state) > LEDGER_ARRIVING || slot.vm[DRAFTER_NAME_MAX] ||
        slot.peer[sizeof(slot.peer) - 1])
        return -EBADMSG;
    record.state = le32toh(slot.state);
    record.epoch = le64toh(slot.epoch);
    record.time = le64toh(slot.time);
    record.whole = le32toh(slot.flags) & FLAG_WHOLE;
    memcpy(record.vm, slot.vm, sizeof(record.vm));
    memcpy(record.peer, slot.peer, sizeof(record.peer));
    memcpy(record.session, slot.session, sizeof(record.session));
    *ret_record = record;
    *ret_sequence = le64toh(slot.sequence);
    return 0;
}

/* The slots lie in different 4 KiB sectors, so that one torn sector spares the other. */
static uint64_t slot_offset(uint64_t sequence)
{
    return sequence % 2 ? LEDGER_FILE_SIZE / 2 : 0;
}

static bool is_blank(const uint8_t slot[LEDGER_SLOT_SIZE])
{
    return io_is_zero(slot, LEDGER_SLOT_SIZE);
}

static int read_slots(struct ledger *ledger, struct drafter_error *err)
{
    uint8_t slots[2][LEDGER_SLOT_SIZE];
    unsigned valid = 0, blank = 0;

    for (unsigned i = 0; i < 2; i++) {
        struct ledger_record record;
        uint64_t sequence;
        int rc = io_pread_full(ledger->fd, slots[i], LEDGER_SLOT_SIZE, slot_offset(i));

        if (rc)
            return drafter_error_errno(err, -rc, "%s: cannot read", ledger->path);
        blank += is_blank(slots[i]);
        if (ledger_decode(slots[i], &record, &sequence) || sequence % 2 != i)
            continue;
        if (valid++ && (int64_t)(sequence - ledger->sequence) < 0) /* as RFC 1982: it may wrap */
            continue;
        ledger->sequence = sequence;
        ledger->record = record;
    }
    if (!valid && blank < 1)
        return drafter_error_set(err, EBADMSG,
                                 "%s: both records are damaged; find out which node runs the VM, "
                                 "then remove the file",
                                 ledger->path);
    return 0;
}

static int allocate(struct ledger *ledger, struct drafter_error *err)
{
    static const char zeros[LEDGER_FILE_SIZE];
    struct stat status;
    int rc;

    if (fstat(ledger->fd, &status))
        return drafter_error_errno(err, errno, "%s: cannot look at it", ledger->path);
    if (status.st_size >= LEDGER_FILE_SIZE)
        return 0;
    rc = io_pwrite_full(ledger->fd, zeros, sizeof(zeros), 0);
    if (!rc && fsync(ledger->fd))
        rc = -errno;
    if (!rc)
        rc = io_sync_parent(ledger->path);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot set up the ledger", ledger->path) : 0;
}

/*
 * What a process read must survive a power cut, too: one that was killed may have left a record, or the
 * whole file, in the page cache alone.
 */
static int settle(struct ledger *ledger, struct drafter_error *err)
{
    int rc = 0;

    if (LEDGER_PLANT == 1)
        return 0;
    if (fsync(ledger->fd))
        rc = -errno;
    if (!rc && !ledger->sequence)
        rc = io_sync_parent(ledger->path);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot make it durable", ledger->path) : 0;
}

static int set_path(const char *directory, const char *vm, struct ledger *ledger,
                    struct drafter_error *err)
{
    memset(ledger, 0, sizeof(*ledger));
    ledger->fd = -1;
    if (strlen(vm) > DRAFTER_NAME_MAX || strchr(vm, '/') || !*vm || *vm == '.')
        return drafter_error_set(err, EINVAL, "\"%s\" is no name for a VM", vm);
    if (asprintf(&ledger->path, "%s/%s.ledger", directory, vm) < 0) {
        ledger->path = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

/* Whoever only looks holds it for a moment. */
static bool lock(int fd)
{
    static const struct timespec moment = {0, 2000000};

    for (unsigned i = 0; i < 5; i++) {
        if (!flock(fd, LOCK_EX | LOCK_NB))
            return true;
        nanosleep(&moment, NULL);
    }
    return false;
}

static int open_and_lock(struct ledger *ledger, const char *vm, struct drafter_error *err)
{
    ledger->fd = open(ledger->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (ledger->fd < 0)
        return drafter_error_errno(err, errno, "%s: cannot open", ledger->path);
    if (!lock(ledger->fd))
        return drafter_error_set(err, EBUSY, "%s: another drafter on this node has VM %s",
                                 ledger->path, vm);
    return 0;
}

int ledger_open(const char *directory, const char *vm, struct ledger *ledger,
                struct drafter_error *err)
{
    return ledger_open_locked(directory, vm, -1, ledger, err);
}

int ledger_open_locked(const char *directory, const char *vm, int locked, struct ledger *ledger,
                       struct drafter_error *err)
{
    int rc = set_path(directory, vm, ledger, err);

    if (!rc)
        rc = io_make_directories(directory, 0700, err);
    if (rc) {
        ledger_close(ledger);
        return rc;
    }
    if (locked < 0)
        rc = open_and_lock(ledger, vm, err);
    else
        ledger->fd = locked;
    if (!rc)
        rc = allocate(ledger, err);
    if (!rc)
        rc = read_slots(ledger, err);
    if (!rc)
        rc = settle(ledger, err);
    if (!rc && ledger->record.state == LEDGER_NONE)
        memcpy(ledger->record.vm, vm, strlen(vm) + 1);
    if (rc && locked >= 0)
        ledger->fd = -1; /* it stays the caller's */
    if (rc)
        ledger_close(ledger);
    return rc;
}

int ledger_peek(const char *directory, const char *vm, struct ledger_record *ret_record,
                bool *ret_busy, struct drafter_error *err)
{
    struct stat status;
    struct ledger ledger;
    int rc = set_path(directory, vm, &ledger, err);

    *ret_record = (struct ledger_record){0};
    *ret_busy = false;
    if (rc)
        return rc;
    ledger.fd = open(ledger.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (ledger.fd < 0 && errno != ENOENT) {
        rc = drafter_error_errno(err, errno, "%s: cannot open", ledger.path);
    } else if (ledger.fd >= 0) {
        *ret_busy = flock(ledger.fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
        if (fstat(ledger.fd, &status))
            rc = drafter_error_errno(err, errno, "%s: cannot look at it", ledger.path);
        else if (status.st_size >= LEDGER_FILE_SIZE) /* else it was being made */
            rc = read_slots(&ledger, err);
        *ret_record = ledger.record;
    }
    ledger_close(&ledger);
    return rc;
}

void ledger_close(struct ledger *ledger)
{
    if (ledger->fd >= 0) {
        flock(ledger->fd, LOCK_UN); /* whoever else has the open file has no use for it without us */
        close(ledger->fd);
    }
    free(ledger->path);
    memset(ledger, 0, sizeof(*ledger));
    ledger->fd = -1;
}

static int put(struct ledger *ledger, const struct ledger_record *record)
{
    uint8_t slot[LEDGER_SLOT_SIZE];
    uint64_t sequence = ledger->sequence + 1;
    int rc;

    ledger_encode(record, sequence, slot);
    rc = io_pwrite_full(ledger->fd, slot, sizeof(slot), slot_offset(LEDGER_PLANT == 3 ? 0 : sequence));
    if (!rc && LEDGER_PLANT != 2 && fdatasync(ledger->fd))
        rc = -errno;
    if (rc)
        return rc;
    ledger->sequence = sequence;
    ledger->record = *record;
    return 0;
}

/*
 * A record that could not be made durable may be on the disk all the same, and the next start would act
 * on it.  So the record that holds is written over it; should that fail, too, the next record goes there.
 */
static int append(struct ledger *ledger, const struct ledger_record *record,
                  struct drafter_error *err)
{
    struct ledger_record holds = ledger->record;
    int rc = put(ledger, record);

    if (!rc)
        return 0;
    drafter_error_errno(err, -rc, "%s: cannot record %s epoch %llu", ledger->path,
                        ledger_state_name(record->state), (unsigned long long)record->epoch);
    if (LEDGER_PLANT != 4 && put(ledger, &holds))
        drafter_error_wrap(err, "the disk may hold it nevertheless, look at `drafter ownership` after "
                                "a restart");
    return rc;
}

static int change(struct ledger *ledger, enum ledger_state state, uint64_t epoch, const char *peer,
                  const uint8_t session[16], bool whole, struct drafter_error *err)
{
    struct ledger_record record = ledger->record;

    record.state = state;
    record.epoch = epoch;
    record.time = (uint64_t)time(NULL);
    record.whole = whole;
    snprintf(record.peer, sizeof(record.peer), "%s", peer ? peer : "");
    if (session)
        memcpy(record.session, session, sizeof(record.session));
    return append(ledger, &record, err);
}

int ledger_write(struct ledger *ledger, enum ledger_state state, uint64_t epoch, const char *peer,
                 const uint8_t session[16], struct drafter_error *err)
{
    return change(ledger, state, epoch, peer, session, false, err);
}

int ledger_write_whole(struct ledger *ledger, enum ledger_state state, uint64_t epoch, const char *peer,
                       const uint8_t session[16], struct drafter_error *err)
{
    return change(ledger, state, epoch, peer, session, true, err);
}

int ledger_mark_whole(struct ledger *ledger, struct drafter_error *err)
{
    struct ledger_record record = ledger->record;

    record.whole = true;
    return append(ledger, &record, err);
}

const char *ledger_state_name(enum ledger_state state)
{
    static const char *const names[] = {"none", "owned", "relinquished", "refused",
                                        "owned, incomplete", "owned, saved", "arriving"};

    return state <= LEDGER_ARRIVING ? names[state] : "unknown";
}
