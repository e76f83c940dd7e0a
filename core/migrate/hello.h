/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What two sides tell each other before anything moves, as JSON.  Unknown keys are ignored, so that
 * later versions can add some; whatever a peer must understand is named in "requires".
 */
#ifndef MIGRATE_HELLO_H
#define MIGRATE_HELLO_H

#include "migrate/wire.h"
#include <drafter/vmm.h>

struct hello {
    unsigned version;
    char role[32];     /* "peer", for messages */
    char software[64]; /* "drafter 0.1", for messages */
    char node[64];     /* host name, for messages and the ledger; "" when it is not told */
    char vm[DRAFTER_NAME_MAX + 1]; /* the VM that is wanted, "" for whichever there is */
    bool reconnect;
    uint8_t token[WIRE_TOKEN_SIZE]; /* of the session that shall go on */
    uint64_t epoch; /* in which whoever comes back has the VM, or would have it; 0 unknown */
};

struct hello_device {
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t size;
    uint32_t block_size;
};

struct offer {
    uint8_t token[WIRE_TOKEN_SIZE];
    char vm[DRAFTER_NAME_MAX + 1];
    char software[64];
    bool live; /* a running VM; false: copies of a package */
    uint64_t epoch;
    uint64_t total_size; /* bound on the sum of sizes was checked */
    struct drafter_vmm_facts facts;
    struct hello_device devices[WIRE_DEVICES_MAX];
    unsigned device_count;
};

struct acceptance {
    unsigned bulk_streams;
};

/* Why a side will not go on.  `step` is the protocol step, "preflight" for instance. */
struct refusal {
    int code;
    char step[32];
    char text[DRAFTER_ERROR_MAX];
};

/* The answer to a HELLO that wants to go on. */
struct resumption {
    bool committed; /* COMMIT was sent */
    uint64_t epoch;
};

/* Each returns a fresh string that the caller frees, or NULL when memory is short. */
char *hello_encode(const struct hello *hello);
char *offer_encode(const struct offer *offer);
char *acceptance_encode(const struct acceptance *acceptance);
char *refusal_encode(const struct refusal *refusal);
char *resumption_encode(const struct resumption *resumption);

/* -EPROTO and a message that says what is wrong; every bound is checked. */
int hello_decode(const char *text, size_t length, struct hello *ret_hello, struct drafter_error *err);
int offer_decode(const char *text, size_t length, struct offer *ret_offer, struct drafter_error *err);
int acceptance_decode(const char *text, size_t length, struct acceptance *ret_acceptance,
                      struct drafter_error *err);
int resumption_decode(const char *text, size_t length, struct resumption *ret_resumption,
                      struct drafter_error *err);
void refusal_decode(const char *text, size_t length, struct refusal *ret_refusal);

/* Refuses an offer whose VMM is not the one at hand; names the first fact that differs. */
int hello_compare_facts(const struct drafter_vmm_facts *theirs, const struct drafter_vmm_facts *ours,
                        struct drafter_error *err);

#endif
