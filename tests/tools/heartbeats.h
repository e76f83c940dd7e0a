/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drafter-heartbeats: what a guest's blackout was, seen from outside. The guest prints "HB seq
 * sweeps tsc" lines on its serial port every few ms; each is stamped when it arrives here,
 * whichever host the guest is on. Nothing that a migration program says about itself enters the
 * figures.
 */
#ifndef DRAFTER_HEARTBEATS_H
#define DRAFTER_HEARTBEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define SOURCES_MAX 16
#define SPLIT_NS (25 * NS_PER_MS) /* two beats of one host are closer than that, if it runs */

struct beat {
    int64_t time; /* CLOCK_MONOTONIC, ns */
    uint64_t seq, sweeps, tsc;
    unsigned source;
    bool switched; /* the guest came from another host; seq may be behind if it came with old memory
                    */
};

struct source {
    char name[32];
    enum { SOURCE_CONNECT, SOURCE_LISTEN, SOURCE_FILE } kind;
    char path[108];
    int fd, listener; /* -1: not open */
    bool regular;     /* poll says nothing about regular files: they are looked at every half
                         millisecond */
    bool reopened;    /* the next data are from another VM */
    uint64_t beats;
    int64_t last_beat;
    size_t size; /* of the unfinished line */
    char line[256];
};

struct record {
    struct source sources[SOURCES_MAX];
    unsigned source_count;
    struct beat *beats;
    size_t count, room;
    uint64_t bad, other, garbled, joined, chk_ok, chk_bad;
    unsigned switches;
    int64_t last_switch;
    FILE *events, *log;
};

struct wanted {
    unsigned switches; /* 0: not asked for */
    uint64_t beats;
    int64_t settle, timeout; /* ns; what follows the last switch is measured, too */
    bool strict;
};

/* source.c */
int source_parse(const char *text,
                 struct source *ret);   /* NAME=connect:PATH, listen:PATH, file:PATH */
int source_open(struct source *source); /* -EAGAIN: not there yet */
void source_read(struct record *record, unsigned index, int64_t now);
void source_release(struct source *source);

/* beats.c */
void beats_feed(struct record *record, unsigned index, const char *data, size_t size, int64_t now);

/* report.c; returns false if the guest's history is not that of one intact guest */
bool report_write(const struct record *record, bool timed_out, FILE *out);

int64_t now_ns(void);

#endif
