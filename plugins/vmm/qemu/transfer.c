/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pause, save, load and resume.
 *
 * QEMU reads commands a byte at a time, some 10 us each, so what the guest waits for is said ahead:
 *
 *     foresee  gives QEMU the file that the state goes to, and says `migrate` but for its last byte
 *     pause    says that byte.  QEMU prepares the transfer while the guest still runs, stops it (STOP
 *              event: paused), and writes the state at once
 *     load     writes into a socket of which QEMU waits for its stream since it started
 *     resume   says the last byte of a `cont` that was begun before
 */
#include "qemu.h"
#include "util/cleanup.h"
#include "vmm/common/state.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define STATE_FD_NAME "state"

static const char state_magic[STATE_MAGIC + 1] = "drfqemu1";

/* Adds what a process that ended had to say. */
static int explain(struct qemu_vmm *vmm, int result, const char *what, struct drafter_error *err)
{
    if (result == -EPIPE)
        process_explain(&vmm->process, 2000, err);
    return drafter_error_wrap(err, "%s", what);
}

int qemu_refuse(const struct qemu_vmm *vmm, const char *what, struct drafter_error *err)
{
    static const char *const phases[] = {
        [QEMU_STOPPED] = "there is no VM",
        [QEMU_LAUNCHED] = "the VM was not started yet",
        [QEMU_RUNNING] = "the VM runs",
        [QEMU_PAUSED] = "the VM is paused",
        [QEMU_SAVING] = "the VM is paused",
        [QEMU_SAVED] = "the VM is paused",
        [QEMU_INCOMING] = "the VM has no state yet",
        [QEMU_BROKEN] = "a load of the VM's state failed",
    };

    return drafter_error_set(err, EINVAL, "cannot %s: %s", what, phases[vmm->phase]);
}

static void close_state(struct qemu_vmm *vmm)
{
    if (vmm->state_fd >= 0)
        close(vmm->state_fd);
    vmm->state_fd = -1;
}

/* ---- pause */

static json_t *state_uri(void)
{
    return json_pack("{s:s}", "uri", "fd:" STATE_FD_NAME);
}

/* Hands QEMU a new memory file for the state. */
static int give_file(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    int result;

    close_state(vmm);
    result = state_create(&vmm->state_fd, err);
    if (result == 0)
        result = qmp_execute(&vmm->qmp, "getfd", json_pack("{s:s}", "fdname", STATE_FD_NAME),
                             vmm->state_fd, deadline, err);
    if (result < 0)
        close_state(vmm);
    return result;
}

int qemu_foresee(void *instance, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    uint64_t deadline = qemu_deadline(vmm);
    int result;

    if (vmm->phase != QEMU_RUNNING || vmm->state_fd >= 0)
        return 0;
    result = give_file(vmm, deadline, err);
    if (result == 0)
        result = qmp_begin(&vmm->qmp, "migrate", state_uri(), deadline, err);
    if (result < 0)
        close_state(vmm);
    return result < 0 ? explain(vmm, result, "foresee", err) : 0;
}

/* Lets QEMU stop the guest by itself; false: it did not, for whatever reason. */
static bool pause_by_transfer(struct qemu_vmm *vmm, uint64_t deadline)
{
    struct qmp *qmp = &vmm->qmp;

    if (vmm->state_fd < 0)
        return false;
    qmp->migration = QMP_MIGRATION_NONE;
    qmp->stopped = false;
    if (qmp_end(qmp, deadline, NULL) == 0 && qmp_wait_stopped(qmp, deadline) == 0)
        return true;
    close_state(vmm);
    return false;
}

/* QEMU may yet do what it did not do in time, when nobody lets the guest run again any more. */
static void take_back(struct qemu_vmm *vmm, bool transfer)
{
    uint64_t deadline = qemu_deadline(vmm);

    if (transfer)
        qmp_send(&vmm->qmp, "migrate_cancel", NULL, -1, deadline, NULL);
    qmp_send(&vmm->qmp, "cont", NULL, -1, deadline, NULL);
}

int qemu_pause(void *instance, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    uint64_t deadline = qemu_deadline(vmm);
    bool transfer = vmm->state_fd >= 0;
    int result;

    if (vmm->phase == QEMU_PAUSED || vmm->phase == QEMU_SAVING || vmm->phase == QEMU_SAVED)
        return 0;
    if (vmm->phase != QEMU_RUNNING)
        return qemu_refuse(vmm, "pause", err);
    if (pause_by_transfer(vmm, deadline)) {
        vmm->phase = QEMU_SAVING;
        return 0;
    }
    /* Also drains and flushes the drives. */
    result = qmp_execute(&vmm->qmp, "stop", NULL, -1, deadline, err);
    if (result == -ETIMEDOUT)
        take_back(vmm, transfer);
    if (result < 0)
        return explain(vmm, result, "pause", err);
    vmm->phase = QEMU_PAUSED;
    return 0;
}

/* ---- save */

/* Why the last migration failed, as QEMU has it. */
static void add_reason(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    json_t *value = NULL;
    const char *text;

    if (qmp_send(&vmm->qmp, "query-migrate", NULL, -1, deadline, NULL) < 0 ||
        qmp_receive(&vmm->qmp, vmm->qmp.last_id, deadline, &value, NULL) < 0)
        return;
    text = json_string_value(json_object_get(value, "error-desc"));
    if (text)
        drafter_error_set(err, EIO, "QEMU: %.400s", text);
    json_decref(value);
}

/* A QEMU that stopped the guest for a transfer lets it run again when that fails. */
static int transfer_failed(struct qemu_vmm *vmm, int result, uint64_t deadline,
                           struct drafter_error *err)
{
    if (result == -EIO && vmm->qmp.migration == QMP_MIGRATION_FAILED)
        add_reason(vmm, deadline, err);
    close_state(vmm);
    if (result != -EPIPE && qmp_execute(&vmm->qmp, "stop", NULL, -1, deadline, NULL) == 0)
        vmm->phase = QEMU_PAUSED;
    return explain(vmm, result, "save", err);
}

/* The transfer of a VM that was paused without having been foreseen. */
static int begin_transfer(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    int result = give_file(vmm, deadline, err);

    vmm->qmp.migration = QMP_MIGRATION_NONE;
    return result < 0 ? result
                      : qmp_execute(&vmm->qmp, "migrate", state_uri(), -1, deadline, err);
}

int qemu_save(void *instance, int fd, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    uint64_t deadline = qemu_deadline(vmm);
    int result = 0;

    /* QEMU saves a VM once in a pause; the guest has not changed since. */
    if (vmm->phase == QEMU_SAVED)
        return state_write(state_magic, vmm->state_fd, fd, err);
    if (vmm->phase != QEMU_PAUSED && vmm->phase != QEMU_SAVING)
        return qemu_refuse(vmm, "save", err);
    if (vmm->phase == QEMU_PAUSED)
        result = begin_transfer(vmm, deadline, err);
    if (result == 0)
        result = qmp_wait_migration(&vmm->qmp, deadline, err);
    if (result < 0)
        return transfer_failed(vmm, result, deadline, err);
    vmm->phase = QEMU_SAVED;
    return state_write(state_magic, vmm->state_fd, fd, err);
}

/* ---- load */

/* That it does not listen is no reason to give up: QEMU says why. */
static int send_state(struct qemu_vmm *vmm, const char *data, size_t length, uint64_t deadline,
                struct drafter_error *err)
{
    while (length) {
        ssize_t sent = send(vmm->incoming_fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent > 0) {
            data += sent;
            length -= (size_t)sent;
        } else if (sent < 0 && errno == EAGAIN) {
            int result = qmp_poll(vmm->incoming_fd, POLLOUT, deadline);

            if (result < 0)
                return drafter_error_errno(err, -result, "QEMU does not take the device state");
        } else if (sent < 0 && errno != EINTR) {
            break;
        }
    }
    shutdown(vmm->incoming_fd, SHUT_WR); /* the holder may have a copy */
    return 0;
}

static int feed(struct qemu_vmm *vmm, int memory_fd, uint64_t deadline, struct drafter_error *err)
{
    struct stat status;
    void *state;
    int result;

    if (fstat(memory_fd, &status) < 0)
        return drafter_error_errno(err, errno, "device state");
    state = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, memory_fd, 0);
    if (state == MAP_FAILED)
        return drafter_error_errno(err, errno, "device state");
    result = send_state(vmm, state, (size_t)status.st_size, deadline, err);
    munmap(state, (size_t)status.st_size);
    return result;
}

int qemu_load(void *instance, int fd, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    cleanup_close int memory_fd = -1;
    uint64_t deadline = qemu_deadline(vmm);
    int result;

    if (vmm->phase != QEMU_INCOMING)
        return qemu_refuse(vmm, "load", err);
    result = state_read(state_magic, false, fd, &memory_fd, err);
    if (result < 0)
        return drafter_error_wrap(err, "load");
    vmm->phase = QEMU_BROKEN;
    vmm->qmp.migration = QMP_MIGRATION_NONE;
    result = feed(vmm, memory_fd, deadline, err);
    if (result == 0)
        result = qmp_wait_migration(&vmm->qmp, deadline, err);
    if (result < 0)
        return explain(vmm, result, "load", err);
    close(vmm->incoming_fd);
    vmm->incoming_fd = -1;
    vmm->phase = QEMU_PAUSED;
    return 0;
}

/* ---- resume */

/* The event comes a moment before QEMU has put its own affairs in order; `cont` would be refused. */
static int wait_settled(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 100000};

    for (;;) {
        json_t *value = NULL;
        const char *status;
        bool settled;
        int result = qmp_send(&vmm->qmp, "query-status", NULL, -1, deadline, err);

        if (result == 0)
            result = qmp_receive(&vmm->qmp, vmm->qmp.last_id, deadline, &value, err);
        if (result < 0)
            return result;
        status = json_string_value(json_object_get(value, "status"));
        settled = status && strcmp(status, "finish-migrate") != 0;
        json_decref(value);
        if (settled)
            return 0;
        if (drafter_now_ns() > deadline)
            return drafter_error_set(err, ETIMEDOUT, "QEMU does not end the transfer");
        nanosleep(&moment, NULL);
    }
}

static int let_run(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    int result = vmm->cont_begun ? qmp_end(&vmm->qmp, deadline, err)
                                 : qmp_send(&vmm->qmp, "cont", NULL, -1, deadline, err);

    vmm->cont_begun = false;
    return result < 0 ? result
                      : qmp_receive(&vmm->qmp, vmm->qmp.last_id, deadline, NULL, err);
}

int qemu_resume(void *instance, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    uint64_t deadline = qemu_deadline(vmm);
    int result = 0;

    if (vmm->phase == QEMU_RUNNING)
        return 0;
    if (vmm->phase != QEMU_PAUSED && vmm->phase != QEMU_SAVING && vmm->phase != QEMU_SAVED)
        return qemu_refuse(vmm, "resume", err);
    if (vmm->phase == QEMU_SAVING) /* whether it succeeds does not matter any more */
        qmp_wait_migration(&vmm->qmp, deadline, NULL);
    vmm->cont_begun &= vmm->qmp.begun; /* a save between load and resume has put an end to it */
    if (!vmm->cont_begun) /* also after a save that failed */
        result = wait_settled(vmm, deadline, err);
    if (result == 0)
        result = let_run(vmm, deadline, err);
    if (result < 0)
        return explain(vmm, result, "resume", err);
    close_state(vmm);
    vmm->phase = QEMU_RUNNING;
    return 0;
}
