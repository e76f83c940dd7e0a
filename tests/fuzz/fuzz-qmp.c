/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's control connection on arbitrary bytes: the parser of one line, then the whole client,
 * which must end with an answer or an error, never hang, and never believe an answer to another
 * command.
 */
#include "plugins/vmm/qemu/qmp.h"
#include "util/io.h"
#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fuzz_line(const uint8_t *data, size_t size)
{
    struct qmp_message message;

    if (qmp_parse((const char *)data, size, &message) < 0)
        return;
    assert(message.root);
    assert(message.type != QMP_RETURN || message.value);
    assert((message.type != QMP_ERROR && message.type != QMP_EVENT) || message.text);
    qmp_message_release(&message);
}

static void fuzz_stream(const uint8_t *data, size_t size)
{
    static const char greeting[] = "{\"QMP\": {\"version\": {}}}\n{\"return\": {}, \"id\": 1}\n";
    struct drafter_error err = {0};
    struct qmp qmp;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return;
    /* The first bit says whether a proper greeting comes first. */
    if (size && data[0] & 1)
        io_write_full(ends[1], greeting, sizeof(greeting) - 1);
    io_write_full(ends[1], data, size);
    shutdown(ends[1], SHUT_WR);
    if (qmp_open(&qmp, ends[0], drafter_now_ns() + 1000000000, &err) == 0 &&
        qmp_greet(&qmp, drafter_now_ns() + 1000000000, &err) == 0) {
        json_t *value = NULL;

        if (qmp_receive(&qmp, 1, drafter_now_ns() + 1000000000, &value, &err) == 0)
            assert(value);
        json_decref(value);
        qmp_wait_migration(&qmp, drafter_now_ns() + 1000000000, &err);
    }
    qmp_close(&qmp);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 64 << 10)
        return 0;
    fuzz_line(data, size);
    fuzz_stream(data, size);
    return 0;
}
