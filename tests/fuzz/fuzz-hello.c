/* SPDX-License-Identifier: BSD-2-Clause */
/* Greetings: the first byte says which.  What is accepted is within bounds and survives a round
 * trip. */
#include "migrate/hello.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void try_hello(const char *text, size_t length)
{
    struct drafter_error err = {0};
    struct hello hello, again;
    char *encoded;

    if (hello_decode(text, length, &hello, &err)) {
        assert(err.code && *err.message);
        return;
    }
    encoded = hello_encode(&hello);
    assert(encoded && !hello_decode(encoded, strlen(encoded), &again, &err));
    assert(!strcmp(hello.vm, again.vm) && hello.reconnect == again.reconnect);
    assert(!hello.reconnect || !memcmp(hello.token, again.token, WIRE_TOKEN_SIZE));
    free(encoded);
}

static void try_offer(const char *text, size_t length)
{
    static struct offer offer, again;
    struct drafter_error err = {0};
    uint64_t total = 0;
    char *encoded;

    if (offer_decode(text, length, &offer, &err)) {
        assert(err.code && *err.message);
        return;
    }
    assert(offer.device_count >= 1 && offer.device_count <= WIRE_DEVICES_MAX);
    for (unsigned i = 0; i < offer.device_count; i++) {
        assert(offer.devices[i].size && !strchr(offer.devices[i].name, '/'));
        total += offer.devices[i].size;
    }
    assert(total == offer.total_size && total <= INT64_MAX);
    encoded = offer_encode(&offer);
    assert(encoded && !offer_decode(encoded, strlen(encoded), &again, &err));
    assert(again.device_count == offer.device_count && again.epoch == offer.epoch);
    hello_compare_facts(&offer.facts, &again.facts, &err);
    free(encoded);
}

static void try_acceptance(const char *text, size_t length)
{
    struct drafter_error err = {0};
    struct acceptance acceptance;

    if (!acceptance_decode(text, length, &acceptance, &err))
        assert(acceptance.bulk_streams >= 1 && acceptance.bulk_streams <= WIRE_STREAMS_MAX - 2);
}

static void try_resumption(const char *text, size_t length)
{
    struct drafter_error err = {0};
    struct resumption resumption;

    resumption_decode(text, length, &resumption, &err);
}

static void try_refusal(const char *text, size_t length)
{
    struct refusal refusal;

    refusal_decode(text, length, &refusal);
    assert(refusal.code > 0);
    for (const char *at = refusal.text; *at; at++)
        assert((unsigned char)*at >= 0x20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *, size_t) = {try_hello, try_offer, try_acceptance,
                                                          try_resumption, try_refusal};

    if (size)
        tries[data[0] % 5]((const char *)data + 1, size - 1);
    return 0;
}
