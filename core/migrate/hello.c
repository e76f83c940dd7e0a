/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/hello.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define BLOCK_SIZE_LIMIT (64 << 20)

static json_t *parse(const char *text, size_t length, struct drafter_error *err)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);

    if (root && json_is_object(root))
        return root;
    json_decref(root);
    drafter_error_set(err, EPROTO, "the peer's greeting is no JSON object: %s",
                      root ? "wrong type" : error.text);
    return NULL;
}

static char *dump(json_t *object)
{
    char *text = object ? json_text(object, JSON_COMPACT) : NULL;

    json_decref(object);
    if (text && strlen(text) > WIRE_JSON_MAX) {
        free(text);
        return NULL;
    }
    return text;
}

/* Copies a printable string of the object; -EPROTO when it is missing, too long or not printable. */
static int take_string(const json_t *object, const char *key, char *buffer, size_t size,
                       struct drafter_error *err)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);

    if (!text || length >= size)
        return drafter_error_set(err, EPROTO, "the peer's \"%s\" is missing or too long", key);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return drafter_error_set(err, EPROTO, "the peer's \"%s\" is not printable", key);
    memcpy(buffer, text, length);
    buffer[length] = '\0';
    return 0;
}

static int take_number(const json_t *object, const char *key, uint64_t maximum, uint64_t *ret_value,
                       struct drafter_error *err)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || (uint64_t)number > maximum)
        return drafter_error_set(err, EPROTO, "the peer's \"%s\" is missing or out of range", key);
    *ret_value = (uint64_t)number;
    return 0;
}

static json_t *token_json(const uint8_t token[WIRE_TOKEN_SIZE])
{
    char text[2 * WIRE_TOKEN_SIZE + 1];

    for (unsigned i = 0; i < WIRE_TOKEN_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", token[i]);
    return json_string(text);
}

static int take_token(const json_t *object, uint8_t *token, struct drafter_error *err)
{
    char text[2 * WIRE_TOKEN_SIZE + 1];

    if (take_string(object, "token", text, sizeof(text), err))
        return -EPROTO;
    if (strspn(text, "0123456789abcdef") != sizeof(text) - 1)
        return drafter_error_set(err, EPROTO, "the peer's \"token\" is malformed");
    for (unsigned i = 0; i < WIRE_TOKEN_SIZE; i++) {
        unsigned byte = 0;

        sscanf(text + 2 * i, "%2x", &byte);
        token[i] = (uint8_t)byte;
    }
    return 0;
}

/* A name that may become a path component here: letters, digits, dot, dash, underscore. */
static bool is_plain_name(const char *name)
{
    return *name && *name != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               strlen(name);
}

/* Refuses what a peer says must be understood and is not. */
static int check_requires(const json_t *object, struct drafter_error *err)
{
    const json_t *requires = json_object_get(object, "requires");
    const char *feature;

    if (!requires || (json_is_array(requires) && !json_array_size(requires)))
        return 0;
    feature = json_string_value(json_array_get(requires, 0));
    return drafter_error_set(err, EPROTO, "the peer requires \"%.64s\", which this version lacks",
                             feature ? feature : "?");
}

char *hello_encode(const struct hello *hello)
{
    json_t *object = json_pack("{s:i, s:s, s:s, s:s, s:[]}", "protocol", (int)hello->version, "role",
                               hello->role, "software", hello->software, "vm", hello->vm,
                               "requires");

    if (object && *hello->node)
        json_object_set_new(object, "node", json_string(hello->node));
    if (object && hello->reconnect) {
        json_object_set_new(object, "token", token_json(hello->token));
        json_object_set_new(object, "epoch", json_integer((json_int_t)hello->epoch));
    }
    return dump(object);
}

int hello_decode(const char *text, size_t length, struct hello *ret_hello, struct drafter_error *err)
{
    cleanup_json json_t *object = parse(text, length, err);
    struct hello hello = {0};
    uint64_t version;

    if (!object || take_number(object, "protocol", UINT32_MAX, &version, err))
        return -EPROTO;
    hello.version = (unsigned)version;
    if (version != WIRE_VERSION)
        return drafter_error_set(err, EPROTO, "the peer speaks protocol %u, this side %u",
                                 hello.version, WIRE_VERSION);
    if (check_requires(object, err) ||
        take_string(object, "role", hello.role, sizeof(hello.role), err) ||
        take_string(object, "software", hello.software, sizeof(hello.software), err) ||
        take_string(object, "vm", hello.vm, sizeof(hello.vm), err))
        return -EPROTO;
    if (json_object_get(object, "node") &&
        take_string(object, "node", hello.node, sizeof(hello.node), err))
        return -EPROTO;
    hello.reconnect = json_object_get(object, "token") != NULL;
    if (hello.reconnect && take_token(object, hello.token, err))
        return -EPROTO;
    if (json_object_get(object, "epoch") &&
        take_number(object, "epoch", INT64_MAX, &hello.epoch, err))
        return -EPROTO;
    *ret_hello = hello;
    return 0;
}

static json_t *facts_json(const struct drafter_vmm_facts *facts)
{
    char features[17];

    snprintf(features, sizeof(features), "%016" PRIx64, facts->cpu_features);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", facts->name, "version",
                     facts->version, "machine", facts->machine, "accelerator", facts->accelerator,
                     "cpu_model", facts->cpu_model, "cpu_features", features);
}

static int take_facts(const json_t *object, struct drafter_vmm_facts *facts,
                      struct drafter_error *err)
{
    const json_t *inner = json_object_get(object, "vmm");
    char features[17];

    if (!inner)
        return 0; /* no VMM is concerned: a registry of plain devices */
    if (take_string(inner, "name", facts->name, sizeof(facts->name), err) ||
        take_string(inner, "version", facts->version, sizeof(facts->version), err) ||
        take_string(inner, "machine", facts->machine, sizeof(facts->machine), err) ||
        take_string(inner, "accelerator", facts->accelerator, sizeof(facts->accelerator), err) ||
        take_string(inner, "cpu_model", facts->cpu_model, sizeof(facts->cpu_model), err) ||
        take_string(inner, "cpu_features", features, sizeof(features), err))
        return -EPROTO;
    facts->cpu_features = strtoull(features, NULL, 16);
    return 0;
}

char *offer_encode(const struct offer *offer)
{
    json_t *devices = json_array(), *object;

    for (unsigned i = 0; devices && i < offer->device_count; i++)
        json_array_append_new(devices,
                              json_pack("{s:s, s:I, s:I}", "name", offer->devices[i].name, "size",
                                        (json_int_t)offer->devices[i].size, "block_size",
                                        (json_int_t)offer->devices[i].block_size));
    object = json_pack("{s:i, s:s, s:s, s:b, s:I, s:o, s:[]}", "protocol", WIRE_VERSION, "vm",
                       offer->vm, "software", offer->software, "live", (int)offer->live, "epoch",
                       (json_int_t)offer->epoch, "devices", devices, "requires");
    if (object) {
        json_object_set_new(object, "token", token_json(offer->token));
        if (*offer->facts.name)
            json_object_set_new(object, "vmm", facts_json(&offer->facts));
    }
    return dump(object);
}

static int take_device(const json_t *entry, struct offer *offer, struct drafter_error *err)
{
    struct hello_device *device = &offer->devices[offer->device_count];
    uint64_t block_size;

    if (take_string(entry, "name", device->name, sizeof(device->name), err) ||
        take_number(entry, "size", INT64_MAX / WIRE_DEVICES_MAX, &device->size, err) ||
        take_number(entry, "block_size", BLOCK_SIZE_LIMIT, &block_size, err))
        return -EPROTO;
    if (!is_plain_name(device->name) || !device->size)
        return drafter_error_set(err, EPROTO, "the peer offers a device with an unusable name or size");
    for (unsigned i = 0; i < offer->device_count; i++)
        if (!strcmp(offer->devices[i].name, device->name))
            return drafter_error_set(err, EPROTO, "the peer offers device %s twice", device->name);
    device->block_size = (uint32_t)block_size;
    offer->total_size += device->size;
    offer->device_count++;
    return 0;
}

static int take_devices(const json_t *object, struct offer *offer, struct drafter_error *err)
{
    const json_t *devices = json_object_get(object, "devices");
    size_t count = json_array_size(devices);

    if (!count || count > WIRE_DEVICES_MAX)
        return drafter_error_set(err, EPROTO, "the peer offers %zu devices; 1 to %d are possible",
                                 count, WIRE_DEVICES_MAX);
    for (size_t i = 0; i < count; i++)
        if (take_device(json_array_get(devices, i), offer, err))
            return -EPROTO;
    return 0;
}

int offer_decode(const char *text, size_t length, struct offer *ret_offer, struct drafter_error *err)
{
    cleanup_json json_t *object = parse(text, length, err);
    struct offer offer = {0};
    uint64_t version;

    if (!object || take_number(object, "protocol", UINT32_MAX, &version, err))
        return -EPROTO;
    if (version != WIRE_VERSION)
        return drafter_error_set(err, EPROTO, "the source speaks protocol %u, this side %u",
                                 (unsigned)version, WIRE_VERSION);
    if (check_requires(object, err) || take_token(object, offer.token, err) ||
        take_string(object, "vm", offer.vm, sizeof(offer.vm), err) ||
        take_string(object, "software", offer.software, sizeof(offer.software), err) ||
        take_number(object, "epoch", INT64_MAX - 2, &offer.epoch, err) ||
        take_facts(object, &offer.facts, err) || take_devices(object, &offer, err))
        return -EPROTO;
    offer.live = json_is_true(json_object_get(object, "live"));
    if (!is_plain_name(offer.vm))
        return drafter_error_set(err, EPROTO, "the source's VM has an unusable name");
    *ret_offer = offer;
    return 0;
}

char *acceptance_encode(const struct acceptance *acceptance)
{
    return dump(json_pack("{s:i}", "bulk_streams", (int)acceptance->bulk_streams));
}

int acceptance_decode(const char *text, size_t length, struct acceptance *ret_acceptance,
                      struct drafter_error *err)
{
    cleanup_json json_t *object = parse(text, length, err);
    uint64_t streams;

    if (!object || take_number(object, "bulk_streams", WIRE_STREAMS_MAX - 2, &streams, err))
        return -EPROTO;
    if (!streams)
        return drafter_error_set(err, EPROTO, "the peer wants no streams");
    ret_acceptance->bulk_streams = (unsigned)streams;
    return 0;
}

char *resumption_encode(const struct resumption *resumption)
{
    return dump(json_pack("{s:b, s:I}", "committed", (int)resumption->committed, "epoch",
                          (json_int_t)resumption->epoch));
}

int resumption_decode(const char *text, size_t length, struct resumption *ret_resumption,
                      struct drafter_error *err)
{
    cleanup_json json_t *object = parse(text, length, err);

    if (!object || take_number(object, "epoch", INT64_MAX, &ret_resumption->epoch, err))
        return -EPROTO;
    ret_resumption->committed = json_is_true(json_object_get(object, "committed"));
    return 0;
}

char *refusal_encode(const struct refusal *refusal)
{
    return dump(json_pack("{s:i, s:s, s:s}", "errno", refusal->code, "step", refusal->step, "text",
                          refusal->text));
}

void refusal_decode(const char *text, size_t length, struct refusal *ret_refusal)
{
    struct drafter_error err = {0};
    cleanup_json json_t *object = parse(text, length, &err);
    uint64_t code;

    *ret_refusal = (struct refusal){.code = EPROTO, .step = "?", .text = "no reason given"};
    if (!object)
        return;
    if (!take_number(object, "errno", 4095, &code, &err) && code)
        ret_refusal->code = (int)code;
    if (take_string(object, "step", ret_refusal->step, sizeof(ret_refusal->step), &err))
        memcpy(ret_refusal->step, "?", 2);
    if (take_string(object, "text", ret_refusal->text, sizeof(ret_refusal->text), &err))
        snprintf(ret_refusal->text, sizeof(ret_refusal->text), "no reason given");
}

static int differ(const char *what, const char *theirs, const char *ours, struct drafter_error *err)
{
    if (!strcmp(theirs, ours))
        return 0;
    return drafter_error_set(err, EMEDIUMTYPE, "the VM needs %s \"%s\", this host has \"%s\"", what,
                             theirs, ours);
}

int hello_compare_facts(const struct drafter_vmm_facts *theirs, const struct drafter_vmm_facts *ours,
                        struct drafter_error *err)
{
    if (!*theirs->name) /* a package of the original, of which nothing is known */
        return 0;
    if (differ("the VMM", theirs->name, ours->name, err) ||
        differ("VMM version", theirs->version, ours->version, err) ||
        differ("machine", theirs->machine, ours->machine, err) ||
        differ("accelerator", theirs->accelerator, ours->accelerator, err) ||
        differ("CPU model", theirs->cpu_model, ours->cpu_model, err))
        return -EMEDIUMTYPE;
    if (theirs->cpu_features != ours->cpu_features)
        return drafter_error_set(err, EMEDIUMTYPE,
                                 "CPU model \"%s\" has other features on this host",
                                 ours->cpu_model);
    return 0;
}
