/* SPDX-License-Identifier: BSD-2-Clause */
#include "layout.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned bits_of(int family)
{
    return family == AF_INET6 ? 128 : 32;
}

/* Clears what is behind the prefix. */
static void mask(struct address *address)
{
    for (unsigned bit = address->length; bit < bits_of(address->family); bit++)
        address->bytes[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
}

static int parse_length(const char *text, unsigned maximum, uint8_t *ret_length)
{
    unsigned length = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 3 || text[digits])
        return -EINVAL;
    while (*text)
        length = length * 10 + (unsigned)(*text++ - '0');
    if (length > maximum)
        return -EINVAL;
    *ret_length = (uint8_t)length;
    return 0;
}

int address_parse(const char *text, int family, bool with_length, struct address *ret_address)
{
    struct address address = {.family = (uint8_t)family, .length = (uint8_t)bits_of(family)};
    char head[ADDRESS_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);

    if (length >= sizeof(head) || with_length != (slash != NULL))
        return -EINVAL;
    memcpy(head, text, length);
    head[length] = '\0';
    if (inet_pton(family, head, address.bytes) != 1)
        return -EINVAL;
    if (slash && parse_length(slash + 1, bits_of(family), &address.length) < 0)
        return -EINVAL;
    if (slash)
        mask(&address);
    *ret_address = address;
    return 0;
}

bool address_overlap(const struct address *one, const struct address *other)
{
    unsigned length = one->length < other->length ? one->length : other->length;
    struct address a = *one, b = *other;

    if (!one->family || one->family != other->family)
        return false;
    a.length = b.length = (uint8_t)length;
    mask(&a);
    mask(&b);
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

bool address_equal(const struct address *one, const struct address *other)
{
    return one->family == other->family &&
           memcmp(one->bytes, other->bytes, sizeof(one->bytes)) == 0;
}

bool address_unicast(const struct address *subnet)
{
    static const struct address none[] = {
        {{0}, AF_INET, 8, {0}},          {{127}, AF_INET, 8, {0}},       {{224}, AF_INET, 3, {0}},
        {{[15] = 1}, AF_INET6, 127, {0}}, {{0xfe, 0x80}, AF_INET6, 10, {0}}, {{0xff}, AF_INET6, 8, {0}},
    };

    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        if (address_overlap(subnet, &none[i]))
            return false;
    return true;
}

bool address_assignable(const struct address *address)
{
    struct address first = *address, last = *address;

    mask(&first);
    for (unsigned bit = address->length; bit < bits_of(address->family); bit++)
        last.bytes[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
    return address->family == AF_INET6 ||
           (!address_equal(address, &first) && !address_equal(address, &last));
}

const char *address_text(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    text[0] = '\0';
    if (address->family)
        inet_ntop(address->family, address->bytes, text, ADDRESS_TEXT_MAX);
    return text;
}

const char *address_cidr(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    size_t length;

    address_text(address, text);
    length = strlen(text);
    if (length)
        snprintf(text + length, ADDRESS_TEXT_MAX - length, "/%u", address->length);
    return text;
}
