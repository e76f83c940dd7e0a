/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp.h"
#include "util/cleanup.h"
#include "util/json.h"
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#define READ_SIZE ((size_t)16 << 10)

/* ---- parsing */

void qmp_message_release(struct qmp_message *message)
{
    json_decref(message->root);
    message->root = NULL;
}

static int classify(struct qmp_message *message)
{
    json_t *root = message->root, *id = json_object_get(root, "id");
    json_t *error = json_object_get(root, "error");

    if (json_is_integer(id) && json_integer_value(id) > 0)
        message->id = (uint64_t)json_integer_value(id);
    message->value = json_object_get(root, "return");
    if (message->value) {
        message->type = QMP_RETURN;
        return 0;
    }
    if (error) {
        message->type = QMP_ERROR;
        message->text = json_string_value(json_object_get(error, "desc"));
        return message->text ? 0 : -EBADMSG;
    }
    message->text = json_string_value(json_object_get(root, "event"));
    if (message->text) {
        message->type = QMP_EVENT;
        if (strcmp(message->text, "MIGRATION") == 0)
            message->status =
                json_string_value(json_object_get(json_object_get(root, "data"), "status"));
        return 0;
    }
    message->type = QMP_GREETING;
    return json_is_object(json_object_get(root, "QMP")) ? 0 : -EBADMSG;
}

int qmp_parse(const char *line, size_t length, struct qmp_message *ret_message)
{
    struct qmp_message message = {.root = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL)};

    if (!json_is_object(message.root) || classify(&message) < 0) {
        json_decref(message.root);
        return -EBADMSG;
    }
    *ret_message = message;
    return 0;
}

/* ---- reading */

int qmp_poll(int fd, short events, uint64_t deadline)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = events};
        uint64_t now = drafter_now_ns();
        uint64_t left_ms = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
        int ready = poll(&wait, 1, left_ms > 1000000 ? 1000000 : (int)left_ms);

        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready == 0 && left_ms == 0)
            return -ETIMEDOUT;
    }
}

static int grow(struct qmp *qmp)
{
    size_t capacity = qmp->capacity ? qmp->capacity * 2 : READ_SIZE;
    char *buffer;

    if (qmp->capacity - qmp->used >= READ_SIZE / 2)
        return 0;
    if (capacity > 2 * QMP_LINE_MAX)
        return -EMSGSIZE;
    buffer = realloc(qmp->buffer, capacity);
    if (!buffer)
        return -ENOMEM;
    qmp->buffer = buffer;
    qmp->capacity = capacity;
    return 0;
}

/* Reads what is there; waits until the deadline when that is nothing. */
static int fill(struct qmp *qmp, uint64_t deadline)
{
    int result = grow(qmp);

    while (result == 0) {
        ssize_t got =
            recv(qmp->fd, qmp->buffer + qmp->used, qmp->capacity - qmp->used, MSG_DONTWAIT);

        if (got > 0) {
            qmp->used += (size_t)got;
            return 0;
        }
        if (got == 0)
            return -EPIPE;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            result = qmp_poll(qmp->fd, POLLIN, deadline);
        else if (errno != EINTR)
            result = errno == ECONNRESET ? -EPIPE : -errno;
    }
    return result;
}

/* Takes the next line off the stream and parses it. */
static int next_message(struct qmp *qmp, uint64_t deadline, struct qmp_message *ret_message)
{
    size_t searched = 0;

    for (;;) {
        char *end = qmp->used > searched
                        ? memchr(qmp->buffer + searched, '\n', qmp->used - searched)
                        : NULL;
        int result;

        if (end) {
            size_t length = (size_t)(end - qmp->buffer);

            result =
                length > QMP_LINE_MAX ? -EMSGSIZE : qmp_parse(qmp->buffer, length, ret_message);
            qmp->used -= length + 1;
            memmove(qmp->buffer, end + 1, qmp->used);
            return result;
        }
        searched = qmp->used;
        if (searched > QMP_LINE_MAX)
            return -EMSGSIZE;
        result = fill(qmp, deadline);
        if (result < 0)
            return result;
    }
}

static void note_event(struct qmp *qmp, const struct qmp_message *event)
{
    qmp->stopped |= strcmp(event->text, "STOP") == 0;
    if (!event->status)
        return;
    if (strcmp(event->status, "completed") == 0)
        qmp->migration = QMP_MIGRATION_DONE;
    else if (strcmp(event->status, "failed") == 0 || strcmp(event->status, "cancelled") == 0)
        qmp->migration = QMP_MIGRATION_FAILED;
    else
        qmp->migration = QMP_MIGRATION_ACTIVE;
}

static int read_error(int result, struct drafter_error *err)
{
    switch (-result) {
    case EPIPE:
        return drafter_error_set(err, EPIPE, "QEMU closed its control connection");
    case ETIMEDOUT:
        return drafter_error_set(err, ETIMEDOUT, "QEMU does not answer in time");
    case EBADMSG:
    case EMSGSIZE:
        return drafter_error_set(err, -result, "QEMU says what is not QMP");
    default:
        return drafter_error_errno(err, -result, "control connection of QEMU");
    }
}

int qmp_receive(struct qmp *qmp, uint64_t id, uint64_t deadline, json_t **ret_value,
                struct drafter_error *err)
{
    for (;;) {
        struct qmp_message message;
        int result = next_message(qmp, deadline, &message);

        if (result < 0)
            return read_error(result, err);
        if (message.type == QMP_EVENT)
            note_event(qmp, &message);
        /* An answer with another id is a late one, to a command that was given up. */
        if ((message.type == QMP_RETURN || message.type == QMP_ERROR) && message.id == id) {
            if (message.type == QMP_ERROR)
                result = drafter_error_set(err, EIO, "QEMU: %s", message.text);
            else if (ret_value)
                *ret_value = json_incref(message.value);
            qmp_message_release(&message);
            return result;
        }
        qmp_message_release(&message);
    }
}

int qmp_wait_migration(struct qmp *qmp, uint64_t deadline, struct drafter_error *err)
{
    while (qmp->migration < QMP_MIGRATION_DONE) {
        struct qmp_message message;
        int result = next_message(qmp, deadline, &message);

        if (result < 0)
            return read_error(result, err);
        if (message.type == QMP_EVENT)
            note_event(qmp, &message);
        qmp_message_release(&message);
    }
    if (qmp->migration == QMP_MIGRATION_FAILED)
        return drafter_error_set(err, EIO, "QEMU could not transfer the device state");
    return 0;
}

int qmp_wait_stopped(struct qmp *qmp, uint64_t deadline)
{
    uint64_t id = qmp->last_id;

    while (!qmp->stopped && qmp->migration < QMP_MIGRATION_DONE) {
        struct qmp_message message;
        int result = next_message(qmp, deadline, &message);

        if (result < 0)
            return result;
        if (message.type == QMP_EVENT)
            note_event(qmp, &message);
        if (message.type == QMP_ERROR && message.id == id)
            result = -EIO;
        qmp_message_release(&message);
        if (result < 0)
            return result;
    }
    return qmp->migration == QMP_MIGRATION_FAILED ? -EIO : 0;
}

/* ---- writing */

static int send_text(struct qmp *qmp, const char *text, size_t length, int pass_fd,
                     uint64_t deadline)
{
    while (length) {
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec data = {.iov_base = (void *)(uintptr_t)text, .iov_len = length};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
        ssize_t sent;

        if (pass_fd >= 0) {
            message.msg_control = &control;
            message.msg_controllen = sizeof(control.space);
            control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
                                              .cmsg_level = SOL_SOCKET,
                                              .cmsg_type = SCM_RIGHTS};
            memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof(int));
        }
        sent = sendmsg(qmp->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            int result = qmp_poll(qmp->fd, POLLOUT, deadline);

            if (result < 0)
                return result;
        } else if (sent < 0 && errno != EINTR) {
            return errno == ECONNRESET ? -EPIPE : -errno;
        } else if (sent > 0) {
            pass_fd = -1;
            text += sent;
            length -= (size_t)sent;
        }
    }
    return 0;
}

/* Ends a command of which the rest will not come (QEMU's QMP specification, "Protocol conventions"). */
static const char reset[] = "\xff\n";

static int send_command(struct qmp *qmp, const char *command, json_t *arguments, int pass_fd,
                        size_t held_back, uint64_t deadline, struct drafter_error *err)
{
    json_t *request = json_pack("{s:s, s:o*, s:I}", "execute", command, "arguments", arguments,
                                "id", (json_int_t)++qmp->last_id);
    cleanup_free char *text = request ? json_text(request, JSON_COMPACT) : NULL;
    int result = 0;

    json_decref(request);
    if (!text)
        return drafter_error_errno(err, ENOMEM, "%s", command);
    if (qmp->begun)
        result = send_text(qmp, reset, sizeof(reset) - 1, -1, deadline);
    if (result == 0)
        result = send_text(qmp, text, strlen(text) - held_back, pass_fd, deadline);
    qmp->begun = held_back > 0;
    if (result < 0) {
        read_error(result, err);
        return drafter_error_wrap(err, "%s", command);
    }
    return 0;
}

int qmp_send(struct qmp *qmp, const char *command, json_t *arguments, int pass_fd,
             uint64_t deadline, struct drafter_error *err)
{
    return send_command(qmp, command, arguments, pass_fd, 0, deadline, err);
}

int qmp_begin(struct qmp *qmp, const char *command, json_t *arguments, uint64_t deadline,
              struct drafter_error *err)
{
    return send_command(qmp, command, arguments, -1, 1, deadline, err);
}

int qmp_end(struct qmp *qmp, uint64_t deadline, struct drafter_error *err)
{
    int result = qmp->begun ? send_text(qmp, "}", 1, -1, deadline) : -EINVAL;

    qmp->begun = false;
    return result < 0 ? read_error(result, err) : 0;
}

int qmp_execute(struct qmp *qmp, const char *command, json_t *arguments, int pass_fd,
                uint64_t deadline, struct drafter_error *err)
{
    int result = qmp_send(qmp, command, arguments, pass_fd, deadline, err);

    if (result == 0)
        result = qmp_receive(qmp, qmp->last_id, deadline, NULL, err);
    return result < 0 ? drafter_error_wrap(err, "%s", command) : 0;
}

/* ---- life */

/* {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, ...}, ...}} */
static void take_version(struct qmp *qmp, json_t *greeting)
{
    json_t *version = json_object_get(json_object_get(greeting, "QMP"), "version");
    json_t *numbers = json_object_get(version, "qemu");
    int major, minor, micro;

    if (!json_unpack(numbers, "{s:i,s:i,s:i}", "major", &major, "minor", &minor, "micro", &micro))
        snprintf(qmp->version, sizeof(qmp->version), "%d.%d.%d", major, minor, micro);
}

int qmp_open(struct qmp *qmp, int fd, uint64_t deadline, struct drafter_error *err)
{
    *qmp = (struct qmp){.fd = fd};
    return qmp_send(qmp, "qmp_capabilities", NULL, -1, deadline, err);
}

int qmp_greet(struct qmp *qmp, uint64_t deadline, struct drafter_error *err)
{
    struct qmp_message message;
    int result = next_message(qmp, deadline, &message);

    if (result < 0)
        return read_error(result, err);
    result = message.type == QMP_GREETING ? 0 : -EBADMSG;
    take_version(qmp, message.root);
    qmp_message_release(&message);
    return result < 0 ? read_error(result, err) : qmp_receive(qmp, 1, deadline, NULL, err);
}

/*
 * The dead process may not have ended its last command.  Of what QEMU says the first line may lack its
 * beginning, and answers to the dead process's commands follow: our numbers begin beyond all of its.
 */
int qmp_adopt(struct qmp *qmp, int fd, uint64_t deadline, struct drafter_error *err)
{
    struct qmp_message message;
    int result;

    *qmp = (struct qmp){.fd = fd, .last_id = drafter_now_ns() >> 1};
    result = send_text(qmp, reset, sizeof(reset) - 1, -1, deadline);
    if (result < 0)
        return read_error(result, err);
    result = qmp_send(qmp, "query-version", NULL, -1, deadline, err);
    for (bool answered = false; result == 0 && !answered;) {
        result = next_message(qmp, deadline, &message);
        if (result == -EBADMSG) {
            result = 0;
            continue;
        }
        if (result < 0)
            return read_error(result, err);
        answered = message.type == QMP_RETURN && message.id == qmp->last_id;
        qmp_message_release(&message);
    }
    return result;
}

void qmp_close(struct qmp *qmp)
{
    if (qmp->fd >= 0)
        close(qmp->fd);
    free(qmp->buffer);
    *qmp = (struct qmp){.fd = -1};
}
