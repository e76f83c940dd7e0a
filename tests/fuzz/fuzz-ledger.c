/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ledger as a crash or a bad disk left it: two slots, mended by a right checksum where the first
 * byte says so.  It opens or says why not; what is written to it afterwards counts.
 */
#include "migrate/ledger.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define CHECKSUM (LEDGER_SLOT_SIZE - 8)

static char directory[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(directory);
}

static void set_up(void)
{
    snprintf(directory, sizeof(directory), "%s/drafter-fuzz.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/vm.ledger", directory);
    atexit(clean_up);
}

static void write_file(const uint8_t slots[2][LEDGER_SLOT_SIZE])
{
    static const char zeros[LEDGER_FILE_SIZE];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert(fd >= 0);
    assert(pwrite(fd, zeros, sizeof(zeros), 0) == sizeof(zeros));
    assert(pwrite(fd, slots[0], LEDGER_SLOT_SIZE, 0) == LEDGER_SLOT_SIZE);
    assert(pwrite(fd, slots[1], LEDGER_SLOT_SIZE, LEDGER_FILE_SIZE / 2) == LEDGER_SLOT_SIZE);
    close(fd);
}

static void check(void)
{
    struct drafter_error err = {0};
    struct ledger ledger;

    if (ledger_open(directory, "vm", &ledger, &err)) {
        assert(err.code && *err.message);
        return;
    }
    assert(memchr(ledger.record.vm, 0, sizeof(ledger.record.vm)));
    assert(memchr(ledger.record.peer, 0, sizeof(ledger.record.peer)));
    assert(strcmp(ledger_state_name(ledger.record.state), "unknown"));
    assert(!ledger_write(&ledger, LEDGER_RELINQUISHED, 77, "peer", NULL, &err));
    ledger_close(&ledger);
    assert(!ledger_open(directory, "vm", &ledger, &err));
    assert(ledger.record.state == LEDGER_RELINQUISHED && ledger.record.epoch == 77);
    ledger_close(&ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t slots[2][LEDGER_SLOT_SIZE] = {{0}};

    if (!*directory)
        set_up();
    if (!size)
        return 0;
    memcpy(slots, data + 1, size - 1 < sizeof(slots) ? size - 1 : sizeof(slots));
    for (unsigned i = 0; i < 2; i++)
        if (data[0] & 1 << i) {
            uint64_t checksum = XXH3_64bits(slots[i], CHECKSUM);

            memcpy(slots[i] + CHECKSUM, &checksum, sizeof(checksum));
        }
    write_file(slots);
    check();
    return 0;
}
