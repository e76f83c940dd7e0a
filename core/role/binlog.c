/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter binlog`: what a VM did with a device, for people and programs (print), or done again with the device of a
 * configuration (replay), by which storage and block map can be tried under a real workload.
 */
#include "block/binlog.h"
#include "command.h"
#include "options.h"
#include "role/devices.h"
#include "util/bitmap.h"
#include "util/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#define PAUSE_MAX_NS UINT64_C(60000000000)

/* ---- print */

static void print_record(const struct binlog_record *record, bool json)
{
    const char *data = record->data ? "true" : "false";

    if (json)
        printf("{\"time\":%" PRIu64 ".%09" PRIu64 ",\"kind\":\"%s\",\"offset\":%" PRIu64 ",\"length\":%" PRIu64
               ",\"hash\":\"%016" PRIx64 "\",\"data\":%s}\n",
               record->time_ns / 1000000000, record->time_ns % 1000000000, binlog_kind_name(record->kind),
               record->offset, record->length, record->hash, data);
    else
        printf("%12.6f %-5s %12" PRIu64 " %8" PRIu64 " %016" PRIx64 "\n", (double)record->time_ns / 1e9,
               binlog_kind_name(record->kind), record->offset, record->length, record->hash);
}

static int print(struct binlog_reader *reader, bool json, struct drafter_error *err)
{
    cleanup_free char *data = malloc(BINLOG_DATA_MAX);
    time_t started = (time_t)(reader->started_ns / 1000000000);
    struct binlog_record record;
    char when[64] = "";
    struct tm parts;
    int rc;

    if (!data)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (gmtime_r(&started, &parts))
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (!json)
        printf("device %s, %" PRIu64 " bytes, since %s\n", reader->device, reader->size, when);
    while ((rc = binlog_next(reader, &record, data, err)) == 1)
        print_record(&record, json);
    if (!rc && !json)
        printf("%" PRIu64 " records%s\n", reader->count,
               reader->complete ? "" : "; the recording went on, or was ended at its limit");
    return rc;
}

/* ---- replay */

struct replay {
    struct block_device *device;
    const char *path;
    double speed;       /* 0: as fast as it goes */
    uint64_t *unknown;  /* pages of which nobody knows what they read as: trimmed, or written with made-up data */
    uint64_t began_ns, reads, writes, unlike, first_unlike;
    char *data;
};

/* Until the record's time, but never for very long. */
static void wait_for(const struct replay *replay, const struct binlog_record *record)
{
    uint64_t due, now = drafter_now_ns();
    struct timespec pause;

    if (replay->speed <= 0)
        return;
    due = replay->began_ns + (uint64_t)((double)record->time_ns / replay->speed);
    if (due <= now)
        return;
    due = due - now < PAUSE_MAX_NS ? due - now : PAUSE_MAX_NS;
    pause = (struct timespec){(time_t)(due / 1000000000), (long)(due % 1000000000)};
    nanosleep(&pause, NULL);
}

static bool is_known(const struct replay *replay, const struct binlog_record *record)
{
    uint64_t first = record->offset >> DRAFTER_PAGE_SHIFT;
    uint64_t end = ((record->offset + record->length - 1) >> DRAFTER_PAGE_SHIFT) + 1;

    return bitmap_next_set(replay->unknown, first, end) >= end;
}

/*
 * Of a page that is written in part the rest stays as unknown as it was; one of which a part becomes unknown is so as
 * a whole.
 */
static void mark(struct replay *replay, const struct binlog_record *record, bool known)
{
    uint64_t end = record->offset + record->length, round = known ? DRAFTER_PAGE_SIZE - 1 : 0;
    uint64_t first = (record->offset + round) >> DRAFTER_PAGE_SHIFT;
    uint64_t pages = (end + DRAFTER_PAGE_SIZE - 1 - round) >> DRAFTER_PAGE_SHIFT;

    if (end == replay->device->size)
        pages = block_device_pages(replay->device);
    for (uint64_t page = first; page < pages; page++) {
        if (known)
            bitmap_clear(replay->unknown, page);
        else
            bitmap_set(replay->unknown, page);
    }
}

static int replay_read(struct replay *replay, const struct binlog_record *record, uint64_t number)
{
    int rc = block_device_read(replay->device, replay->data, (size_t)record->length, record->offset);

    replay->reads++;
    if (rc || !is_known(replay, record) || XXH3_64bits(replay->data, (size_t)record->length) == record->hash)
        return rc;
    if (!replay->unlike++)
        replay->first_unlike = number;
    return 0;
}

static int replay_write(struct replay *replay, const struct binlog_record *record)
{
    if (!record->data)
        binlog_invent(record, replay->data);
    replay->writes++;
    mark(replay, record, record->data);
    return block_device_write(replay->device, replay->data, (size_t)record->length, record->offset);
}

/* In pieces, as a VMM would. */
static int replay_zero(struct replay *replay, const struct binlog_record *record)
{
    int rc = 0;

    replay->writes++;
    mark(replay, record, true);
    memset(replay->data, 0, BINLOG_DATA_MAX);
    for (uint64_t done = 0; !rc && done < record->length; done += BINLOG_DATA_MAX) {
        uint64_t left = record->length - done;

        rc = block_device_write(replay->device, replay->data,
                                left < BINLOG_DATA_MAX ? (size_t)left : BINLOG_DATA_MAX, record->offset + done);
    }
    return rc;
}

static int replay_one(struct replay *replay, const struct binlog_record *record, uint64_t number,
                      struct drafter_error *err)
{
    int rc = -EINVAL;

    wait_for(replay, record);
    if (record->kind == BINLOG_READ)
        rc = replay_read(replay, record, number);
    else if (record->kind == BINLOG_WRITE)
        rc = replay_write(replay, record);
    else if (record->kind == BINLOG_ZERO)
        rc = replay_zero(replay, record);
    else if (record->kind == BINLOG_FLUSH)
        rc = block_device_flush(replay->device);
    else if (record->kind == BINLOG_TRIM) {
        mark(replay, record, false);
        rc = block_device_trim(replay->device, record->length, record->offset);
    }
    return rc ? drafter_error_errno(err, -rc, "record %" PRIu64 ": %s of %" PRIu64 " bytes at %" PRIu64, number,
                                    binlog_kind_name(record->kind), record->length, record->offset)
              : 0;
}

static int replay_all(struct replay *replay, struct binlog_reader *reader, struct drafter_error *err)
{
    struct binlog_record record;
    int rc, rest;

    if (reader->size != replay->device->size)
        return drafter_error_set(err, EINVAL, "%s: it is of a device of %" PRIu64 " bytes, this one has %" PRIu64,
                                 reader->path, reader->size, replay->device->size);
    replay->unknown = calloc(bitmap_words(block_device_pages(replay->device)), sizeof(*replay->unknown));
    replay->data = malloc(BINLOG_DATA_MAX);
    if (!replay->unknown || !replay->data)
        return drafter_error_set(err, ENOMEM, "out of memory");
    replay->began_ns = drafter_now_ns();
    while ((rc = binlog_next(reader, &record, replay->data, err)) == 1)
        if ((rc = replay_one(replay, &record, reader->count, err)))
            return rc;
    rest = block_device_flush(replay->device);
    return rc || !rest ? rc : drafter_error_errno(err, -rest, "flush");
}

static int conclude(const struct replay *replay, bool json, struct drafter_error *err)
{
    printf(json ? "{\"reads\":%" PRIu64 ",\"writes\":%" PRIu64 ",\"unlike\":%" PRIu64 "}\n"
                : "%" PRIu64 " reads, %" PRIu64 " writes; %" PRIu64 " reads gave other data than recorded\n",
           replay->reads, replay->writes, replay->unlike);
    if (!replay->unlike)
        return 0;
    return drafter_error_set(err, EBADMSG, "%" PRIu64 " reads gave other data than recorded, the first of them "
                             "record %" PRIu64,
                             replay->unlike, replay->first_unlike);
}

static int replay_device(struct binlog_reader *reader, struct node *node, const char *name, struct replay *replay,
                         struct drafter_error *err)
{
    struct devices *devices = calloc(1, sizeof(*devices)); /* large */
    struct node_device *device = NULL;
    int rc = devices ? devices_read(node, devices, err) : drafter_error_set(err, ENOMEM, "out of memory");

    if (!rc && !(device = devices_find(devices, name)))
        rc = drafter_error_set(err, ENOENT, "there is no device %s in the configuration", name);
    /* What was recorded from is a VM's: its content is not to change. */
    if (!rc && device->options.binlog)
        rc = drafter_error_set(err, EINVAL, "%s: a device that is recorded is not replayed to; name a copy of it",
                               config_where(device->section, "binlog"));
    if (!rc) {
        rc = devices_open_one(node, device, false, err);
        replay->device = &device->block;
    }
    if (!rc)
        rc = replay_all(replay, reader, err);
    if (devices)
        devices_release(devices);
    free(devices);
    return rc;
}

static int run_replay(struct binlog_reader *reader, const struct options *options, struct drafter_error *err)
{
    struct replay replay = {.speed = options->rest[3] ? strtod(options->rest[3], NULL) : 0};
    struct config *config;
    struct node node;
    int rc;

    if (!options->config || (options->rest[3] && !(replay.speed > 0)))
        return drafter_error_set(err, EINVAL, "replay takes --config FILE, and for a speed a number above 0");
    rc = config_load(options->config, &config, err);
    if (!rc)
        rc = node_open(config, &node, err);
    if (rc)
        return rc;
    rc = replay_device(reader, &node, options->rest[2], &replay, err);
    if (!rc)
        rc = conclude(&replay, options->json, err);
    free(replay.unknown);
    free(replay.data);
    node_close(&node);
    return rc;
}

int command_binlog(const struct options *options, struct drafter_error *err)
{
    bool replays = options->rest_count && !strcmp(options->rest[0], "replay");
    struct binlog_reader reader;
    int rc;

    if (replays ? options->rest_count < 3 || options->rest_count > 4
                : options->rest_count != 2 || strcmp(options->rest[0], "print") != 0)
        return drafter_error_set(err, EINVAL, "binlog takes print FILE, or replay FILE DEVICE [SPEED]");
    rc = binlog_open(options->rest[1], &reader, err);
    if (rc)
        return rc;
    rc = replays ? run_replay(&reader, options, err) : print(&reader, options->json, err);
    binlog_reader_close(&reader);
    return rc;
}
