/* SPDX-License-Identifier: BSD-2-Clause */
/* What the beats say, as one JSON object. */
#include "heartbeats.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW NS_PER_S             /* speed before and after a switch */
#define RECOVERED (200 * NS_PER_MS) /* at full speed: over so long */

struct sequence {
    uint64_t missing, repeated, rewound, late, sweeps_back, tsc_back, split_beats;
    int64_t split_first, split_last;
};

static double ms(int64_t ns)
{
    return (double)ns / NS_PER_MS;
}

static int by_seq(const void *a, const void *b)
{
    const struct beat *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->time < y->time ? -1 : x->time > y->time;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* A host beats, another does, the first goes on without a pause: both run. A straggler is from
 * before the other. */
static void count_split(const struct record *record, struct sequence *ret)
{
    const struct beat *last[SOURCES_MAX] = {0};

    for (size_t i = 0; i < record->count; i++) {
        const struct beat *beat = &record->beats[i], *own = last[beat->source];

        last[beat->source] = beat;
        if (!own || own == beat - 1 || beat->time - own->time > SPLIT_NS || beat->seq < own[1].seq)
            continue;
        if (ret->split_beats++ == 0)
            ret->split_first = own->time;
        ret->split_last = beat->time;
    }
}

/* Beats that the guest had made before the switch and makes again: it came with memory that is too
 * old. */
static uint64_t count_rewound(const struct record *record)
{
    uint64_t rewound = 0;

    for (size_t i = 1; i < record->count; i++) {
        const struct beat *beat = &record->beats[i];

        if (beat->switched && beat->seq <= beat[-1].seq)
            rewound += beat[-1].seq - beat->seq + 1;
    }
    return rewound;
}

static void count_sequence(const struct record *record, struct sequence *ret)
{
    struct beat *sorted = malloc((record->count + 1) * sizeof *sorted);

    memset(ret, 0, sizeof *ret);
    if (!sorted)
        abort();
    if (record->count > 0)
        memcpy(sorted, record->beats, record->count * sizeof *sorted);
    qsort(sorted, record->count, sizeof *sorted, by_seq);
    for (size_t i = 1; i < record->count; i++) {
        const struct beat *a = &sorted[i - 1], *b = &sorted[i];

        if (b->seq > a->seq)
            ret->missing += b->seq - a->seq - 1;
        else if (b->source == a->source)
            ret->repeated++;
        ret->sweeps_back += b->sweeps < a->sweeps;
        ret->tsc_back += b->seq > a->seq && b->tsc < a->tsc;
    }
    for (size_t i = 1; i < record->count; i++)
        ret->late += record->beats[i].seq < record->beats[i - 1].seq && !record->beats[i].switched;
    free(sorted);
    ret->rewound = count_rewound(record);
    count_split(record, ret);
}

static void write_intervals(const struct record *record, FILE *out)
{
    int64_t *intervals = malloc((record->count + 1) * sizeof *intervals), largest = 0;
    size_t n = 0;

    if (!intervals)
        abort();
    for (size_t i = 1; i < record->count; i++) {
        int64_t interval = record->beats[i].time - record->beats[i - 1].time;

        largest = interval > largest ? interval : largest;
        if (!record->beats[i].switched)
            intervals[n++] = interval;
    }
    qsort(intervals, n, sizeof *intervals, by_size);
    fprintf(out, "\"interval_ms\":{\"median\":%.3f,\"p99\":%.3f,\"max\":%.3f},\"max_gap_ms\":%.3f,",
            n ? ms(intervals[n / 2]) : 0, n ? ms(intervals[n * 99 / 100]) : 0,
            n ? ms(intervals[n - 1]) : 0, ms(largest));
    free(intervals);
}

struct speed {
    uint64_t beats, sweeps;
    int64_t span, max_gap;
};

/* The beats of the window that ends at beat i (back) or begins there. */
static struct speed measure(const struct record *record, size_t i, bool back)
{
    const struct beat *beats = record->beats, *first = &beats[i], *last = &beats[i];
    struct speed speed = {0};

    while (back && first > beats && last->time - first[-1].time <= WINDOW &&
           first[-1].source == last->source)
        first--;
    while (!back && last < &beats[record->count - 1] && last[1].time - first->time <= WINDOW) {
        last++;
        if (last->time - last[-1].time > speed.max_gap)
            speed.max_gap = last->time - last[-1].time;
    }
    speed.beats = (uint64_t)(last - first);
    speed.sweeps = last->sweeps > first->sweeps ? last->sweeps - first->sweeps : 0;
    speed.span = last->time - first->time;
    /* Silence at the end of the window is part of the speed, unless the record ends there. */
    if (!back && last < &beats[record->count - 1]) {
        int64_t silence = last[1].time - last->time;

        speed.span = WINDOW;
        speed.max_gap = silence > speed.max_gap ? silence : speed.max_gap;
    }
    return speed;
}

static double per_second(uint64_t n, int64_t span)
{
    return span > 0 ? (double)n * NS_PER_S / (double)span : 0;
}

/* From the switch to the start of the first stretch that has nine tenths of the beats it had
 * before; -1: never. */
static double recovered_ms(const struct record *record, size_t i, double rate)
{
    const struct beat *beats = record->beats;
    double wanted = 0.9 * rate * RECOVERED / NS_PER_S;

    for (size_t from = i, to = i; from < record->count; from++) {
        while (to < record->count && beats[to].time - beats[from].time < RECOVERED)
            to++;
        if (to == record->count)
            break;
        if ((double)(to - from) >= wanted)
            return ms(beats[from].time - beats[i].time);
    }
    return -1;
}

static void write_switch(const struct record *record, size_t i, FILE *out)
{
    const struct beat *a = &record->beats[i - 1], *b = &record->beats[i];
    struct speed before = measure(record, i - 1, true), after = measure(record, i, false);
    double beats = per_second(before.beats, before.span),
           sweeps = per_second(before.sweeps, before.span);

    fprintf(out,
            "{\"from\":\"%s\",\"to\":\"%s\",\"blackout_ms\":%.3f,\"seq_before\":%llu,\"seq_after\":"
            "%llu,"
            "\"lost\":%lld,\"beats_per_s\":%.1f,\"sweeps_per_s\":%.2f,",
            record->sources[a->source].name, record->sources[b->source].name, ms(b->time - a->time),
            (unsigned long long)a->seq, (unsigned long long)b->seq,
            (long long)(b->seq - a->seq - 1), beats, sweeps);
    fprintf(out, "\"beats_ratio\":%.3f,",
            beats > 0 ? per_second(after.beats, after.span) / beats : 0);
    fprintf(out, "\"sweeps_ratio\":%.3f,",
            sweeps > 0 ? per_second(after.sweeps, after.span) / sweeps : 0);
    fprintf(out, "\"after_s\":%.3f,\"max_gap_after_ms\":%.3f,\"recovered_ms\":%.1f}",
            (double)after.span / NS_PER_S, ms(after.max_gap), recovered_ms(record, i, beats));
}

static void write_sources(const struct record *record, FILE *out)
{
    fprintf(out, "\"sources\":{");
    for (unsigned i = 0; i < record->source_count; i++)
        fprintf(out, "%s\"%s\":%llu", i ? "," : "", record->sources[i].name,
                (unsigned long long)record->sources[i].beats);
    fprintf(out, "},\"switches\":[");
    for (size_t i = 1, n = 0; i < record->count; i++) {
        if (!record->beats[i].switched)
            continue;
        fprintf(out, "%s", n++ ? "," : "");
        write_switch(record, i, out);
    }
    fprintf(out, "],");
}

bool report_write(const struct record *record, bool timed_out, FILE *out)
{
    struct sequence s;
    const struct beat *first = record->beats,
                      *last = record->count ? &record->beats[record->count - 1] : NULL;
    bool intact;

    count_sequence(record, &s);
    intact =
        s.repeated + s.rewound + s.split_beats + s.sweeps_back + record->bad + record->chk_bad == 0;
    fprintf(out,
            "{\"count\":%zu,\"seconds\":%.3f,\"first_seq\":%llu,\"last_seq\":%llu,\"timeout\":%s,",
            record->count, last ? (double)(last->time - first->time) / NS_PER_S : 0,
            (unsigned long long)(last ? first->seq : 0), (unsigned long long)(last ? last->seq : 0),
            timed_out ? "true" : "false");
    fprintf(out,
            "\"missing\":%llu,\"repeated\":%llu,\"rewound\":%llu,\"late\":%llu,\"split_brain\":%s,"
            "\"split_beats\":%llu,"
            "\"split_ms\":%.3f,\"sweeps_back\":%llu,\"tsc_back\":%llu,",
            (unsigned long long)s.missing, (unsigned long long)s.repeated,
            (unsigned long long)s.rewound, (unsigned long long)s.late,
            s.split_beats ? "true" : "false", (unsigned long long)s.split_beats,
            ms(s.split_last - s.split_first), (unsigned long long)s.sweeps_back,
            (unsigned long long)s.tsc_back);
    write_intervals(record, out);
    write_sources(record, out);
    fprintf(out,
            "\"bad\":%llu,\"chk_ok\":%llu,\"chk_bad\":%llu,\"garbled\":%llu,\"joined\":%llu,"
            "\"other\":%llu,"
            "\"intact\":%s}\n",
            (unsigned long long)record->bad, (unsigned long long)record->chk_ok,
            (unsigned long long)record->chk_bad, (unsigned long long)record->garbled,
            (unsigned long long)record->joined, (unsigned long long)record->other,
            intact ? "true" : "false");
    return intact;
}
