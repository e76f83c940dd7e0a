/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an operator asks of a running peer.  Looking is done by whoever is asked; what changes something is a job
 * that the main thread does between its other work, so that it meets no hand-over half way.
 */
#ifndef ROLE_PEER_CONTROL_H
#define ROLE_PEER_CONTROL_H

#include "migrate/destination.h"
#include "migrate/source.h"

#include <jansson.h>

struct peer;
struct control;

/* A request that waits for the main thread. */
struct peer_job {
    const char *command;
    const json_t *request;
    json_t *answer;
    struct drafter_error error;
    bool done;
    bool leaving; /* cancel: a hand-over to a peer was told to end */
};

/* What is going on; under the peer's lock. */
struct peer_watch {
    struct peer_job *job;
    bool ending;     /* jobs come too late */
    bool wants_end;  /* a job asked for it */
    bool suspended;
    bool has_source, has_destination;
    struct source_progress source;
    struct destination_progress destination;
    uint64_t reported_ns, reported_bytes, bytes_per_s; /* of either */
    enum { PEER_OUTCOME_NONE, PEER_OUTCOME_MOVED, PEER_OUTCOME_KEPT, PEER_OUTCOME_LOST } outcome;
    unsigned long ends; /* hand-overs that ended */
    pthread_cond_t changed;
};

void peer_control_start(struct peer *peer);
void peer_control_stop(struct peer *peer);

/* The main thread: does the job that waits, if any; whether the operator wants an end. */
void peer_do_job(struct peer *peer);
bool peer_wants_end(struct peer *peer);

/* It ends the VM, and no job can be done; or the VM could not be saved and runs on. */
void peer_control_ending(struct peer *peer);
void peer_control_going_on(struct peer *peer);

/* Any thread. */
void peer_note_leaving(struct peer *peer, const struct source_progress *report);
void peer_note_arriving(struct peer *peer, const struct destination_progress *report);
void peer_note_end(struct peer *peer, enum source_outcome outcome);

/* peer-snapshot.c: copies the suspended VM's devices into a directory that must exist. */
int peer_copy_devices(struct peer *peer, const char *directory, struct drafter_error *err);

#endif
