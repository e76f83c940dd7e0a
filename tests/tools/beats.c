/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines to beats. A guest may be suspended in the middle of a line: its beginning then arrives from
 * one host and its end from the other, so the unfinished line of the source that beat last is tried
 * in front of a line that makes no sense on its own.
 */
#include "heartbeats.h"

#include <stdlib.h>
#include <string.h>

static bool parse_beat(const char *line, struct beat *ret)
{
    uint64_t *fields[] = {&ret->seq, &ret->sweeps, &ret->tsc};
    const char *at = line + 2;
    char *end;

    if (strncmp(line, "HB ", 3) != 0)
        return false;
    for (int i = 0; i < 3; i++) {
        if (*at != ' ' || at[1] < '0' || at[1] > '9')
            return false;
        *fields[i] = strtoull(at + 1, &end, 10);
        at = end;
    }
    return *at == 0;
}

/* A straggler is no switch: a beat that was overtaken on its way from a host that has beaten just
 * now. */
static bool is_switch(const struct record *record, const struct beat *beat)
{
    const struct beat *last = record->count ? &record->beats[record->count - 1] : NULL;
    const struct source *source = &record->sources[beat->source];

    if (!last || last->source == beat->source)
        return false;
    return beat->seq > last->seq || source->beats == 0 || beat->time - source->last_beat > SPLIT_NS;
}

static void note_switch(struct record *record, const struct beat *before, const struct beat *beat)
{
    record->switches++;
    record->last_switch = beat->time;
    if (record->events)
        fprintf(record->events, "switch %s %s %.3f\n", record->sources[before->source].name,
                record->sources[beat->source].name,
                (double)(beat->time - before->time) / NS_PER_MS);
}

static void add_beat(struct record *record, struct beat *beat)
{
    const struct beat *last = record->count ? &record->beats[record->count - 1] : NULL;
    struct source *source = &record->sources[beat->source];

    beat->switched = is_switch(record, beat);
    if (source->beats++ == 0 && record->events)
        fprintf(record->events, "beat %s %llu\n", source->name, (unsigned long long)beat->seq);
    source->last_beat = beat->time;
    if (beat->switched)
        note_switch(record, last, beat);
    if (record->log)
        fprintf(record->log, "%lld %s %llu %llu %llu\n", (long long)beat->time, source->name,
                (unsigned long long)beat->seq, (unsigned long long)beat->sweeps,
                (unsigned long long)beat->tsc);
    if (record->count == record->room) {
        record->room = record->room ? record->room * 2 : 4096;
        record->beats = realloc(record->beats, record->room * sizeof *record->beats);
        if (!record->beats)
            abort();
    }
    record->beats[record->count++] = *beat;
}

/* The line began at the host that the guest has left. */
static bool join(struct record *record, unsigned index, const char *line, struct beat *beat)
{
    const struct beat *last = record->count ? &record->beats[record->count - 1] : NULL;
    struct source *before = last ? &record->sources[last->source] : NULL;
    char whole[2 * sizeof before->line];

    if (!last || last->source == index || before->size == 0)
        return false;
    snprintf(whole, sizeof whole, "%.*s%s", (int)before->size, before->line, line);
    if (!parse_beat(whole, beat) || beat->seq != last->seq + 1)
        return false;
    /* The byte at the seam may be there twice: told of when the guest was paused, and again when it ran on. */
    beat->sweeps = last->sweeps;
    beat->tsc = last->tsc;
    before->size = 0;
    record->joined++;
    return true;
}

static void note_other(struct record *record, unsigned index, const char *line)
{
    const char *name = record->sources[index].name, *bad;

    if (strncmp(line, "BAD ", 4) == 0) {
        record->bad++;
        if (record->events)
            fprintf(record->events, "bad %s %s\n", name, line + 4);
    } else if (strncmp(line, "CHK ok=", 7) == 0 && (bad = strstr(line, " bad="))) {
        record->chk_ok = strtoull(line + 7, NULL, 10);
        record->chk_bad = strtoull(bad + 5, NULL, 10);
    } else if (strncmp(line, "READY", 5) == 0 && record->events) {
        fprintf(record->events, "ready %s\n", name);
    } else if (strncmp(line, "HB", 2) == 0) {
        record->garbled++;
    } else {
        record->other++;
        if (record->events)
            fprintf(record->events, "other %s %s\n", name, line);
    }
}

static void take_line(struct record *record, unsigned index, const char *line, int64_t now)
{
    struct beat beat = {.time = now, .source = index};

    if (parse_beat(line, &beat) || join(record, index, line, &beat))
        add_beat(record, &beat);
    else if (*line)
        note_other(record, index, line);
}

void beats_feed(struct record *record, unsigned index, const char *data, size_t size, int64_t now)
{
    struct source *source = &record->sources[index];

    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\r')
            continue;
        if (data[i] != '\n') {
            if (source->size < sizeof source->line - 1)
                source->line[source->size++] = data[i];
            continue;
        }
        source->line[source->size] = 0;
        source->size = 0;
        take_line(record, index, source->line, now);
    }
    if (record->events)
        fflush(record->events);
}
