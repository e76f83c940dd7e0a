/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu.h"
#include <cpuid.h>
#include <stdio.h>

uint64_t cpu_hash(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *bytes = data;

    hash = hash ? hash : UINT64_C(0xcbf29ce484222325);
    while (length--)
        hash = (hash ^ *bytes++) * UINT64_C(0x100000001b3);
    return hash;
}

/* Without what differs between the cores of one host: APIC ids, OSXSAVE, sizes of what is enabled.
 */
static uint64_t hash_features(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    uint64_t hash = 0;

    if (__get_cpuid(1, &a, &b, &c, &d)) {
        unsigned words[] = {a, c & ~(1u << 27), d};

        hash = cpu_hash(hash, words, sizeof(words));
    }
    for (unsigned leaf = 0; leaf < 2; leaf++) {
        if (__get_cpuid_count(7, leaf, &a, &b, &c, &d)) {
            unsigned words[] = {leaf ? a : 0, b, c & ~(1u << 4), d};

            hash = cpu_hash(hash, words, sizeof(words));
        }
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        unsigned words[] = {c, d};

        hash = cpu_hash(hash, words, sizeof(words));
    }
    return hash;
}

void cpu_host(char *name, size_t size, uint64_t *ret_features)
{
    unsigned words[13] = {0};
    char *text = (char *)words;
    size_t start = 0;

    for (unsigned i = 0; i < 3; i++) {
        unsigned *out = words + (size_t)i * 4;

        if (!__get_cpuid(0x80000002 + i, &out[0], &out[1], &out[2], &out[3]))
            break;
    }
    while (text[start] == ' ')
        start++;
    snprintf(name, size, "%s", text[start] ? text + start : "unknown");
    *ret_features = hash_features();
}
