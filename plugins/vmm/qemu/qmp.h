/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client of the QEMU Machine Protocol: one JSON object a line, commands answered in order, events
 * in between.  No thread: events are looked at whenever an answer or an event is waited for.
 *
 * QEMU is run by us but executes a guest that may be hostile, so what it says is parsed as
 * untrusted: lines are bounded, forms are checked, every wait has a deadline (in terms of
 * drafter_now_ns).
 */
#ifndef QEMU_QMP_H
#define QEMU_QMP_H

#include <drafter/common.h>
#include <jansson.h>
#include <poll.h>

#define QMP_LINE_MAX ((size_t)1 << 20)

enum qmp_migration {
    QMP_MIGRATION_NONE,
    QMP_MIGRATION_ACTIVE,
    QMP_MIGRATION_DONE,
    QMP_MIGRATION_FAILED
};

struct qmp {
    int fd;
    char *buffer; /* received, not consumed */
    size_t used, capacity;
    uint64_t last_id; /* of the command sent last */
    bool begun; /* the command sent last lacks its last byte */
    bool stopped; /* a STOP event came since this was cleared */
    enum qmp_migration migration;
    char version[40]; /* of QEMU, as it greeted: "7.2.22"; "" when it did not say */
};

enum qmp_type { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

/* One parsed line.  The other pointers point into `root`, which qmp_message_release frees. */
struct qmp_message {
    enum qmp_type type;
    json_t *root;
    json_t *value;      /* of a return */
    const char *text;   /* description of an error, name of an event */
    const char *status; /* of a MIGRATION event, or NULL */
    uint64_t id;        /* of the command answered; 0 when it has none */
};

/* Parses one line without its end; -EBADMSG for anything that QMP does not have. */
int qmp_parse(const char *line, size_t length, struct qmp_message *ret_message);
void qmp_message_release(struct qmp_message *message);

/*
 * Takes `fd` in any case and asks for command mode, which QEMU grants whenever it has come so far:
 * commands can be sent at once.
 */
int qmp_open(struct qmp *qmp, int fd, uint64_t deadline, struct drafter_error *err);
/* Reads the greeting and whether command mode was granted. */
int qmp_greet(struct qmp *qmp, uint64_t deadline, struct drafter_error *err);
void qmp_close(struct qmp *qmp);

/*
 * Goes on with the connection of a process that died, wherever in a line that was.  Takes `fd` in any
 * case.
 */
int qmp_adopt(struct qmp *qmp, int fd, uint64_t deadline, struct drafter_error *err);

/* Sends a command, with `pass_fd` when not negative.  Takes `arguments`, which may be NULL. */
int qmp_send(struct qmp *qmp, const char *command, json_t *arguments, int pass_fd,
             uint64_t deadline, struct drafter_error *err);

/*
 * Sends a command but for its last byte, which qmp_end sends: QEMU reads a byte at a time and slowly.
 * A command that is sent in between puts an end to the one that was begun.
 */
int qmp_begin(struct qmp *qmp, const char *command, json_t *arguments, uint64_t deadline,
              struct drafter_error *err);
int qmp_end(struct qmp *qmp, uint64_t deadline, struct drafter_error *err);

/*
 * Waits for the answer to the command with this id.  The value is a new reference; `ret_value` may
 * be NULL.  -EPIPE: QEMU is gone.
 */
int qmp_receive(struct qmp *qmp, uint64_t id, uint64_t deadline, json_t **ret_value,
                struct drafter_error *err);

/* qmp_send and qmp_receive of a command whose value does not matter. */
int qmp_execute(struct qmp *qmp, const char *command, json_t *arguments, int pass_fd,
                uint64_t deadline, struct drafter_error *err);

/* After `migrate`: waits until QEMU has stopped the guest; an error: it did not and will not. */
int qmp_wait_stopped(struct qmp *qmp, uint64_t deadline);

/* poll(2) for one descriptor; -ETIMEDOUT. */
int qmp_poll(int fd, short events, uint64_t deadline);

/* Waits for the end of a migration; forget what earlier ones left with qmp->migration first. */
int qmp_wait_migration(struct qmp *qmp, uint64_t deadline, struct drafter_error *err);

#endif
