/* SPDX-License-Identifier: BSD-2-Clause */
#include "der.h"

int der_peek(const struct tls_reader *reader)
{
    return reader->failed || !reader->left ? -1 : reader->at[0];
}

static struct tls_reader der_failed(struct tls_reader *reader)
{
    reader->failed = true;
    return (struct tls_reader){.failed = true};
}

struct tls_reader der_get_whole(struct tls_reader *reader, unsigned tag, const uint8_t **ret_start,
                                size_t *ret_length)
{
    const uint8_t *start = reader->at, *bytes;
    size_t length;

    if (tls_get_number(reader, 1) != tag || reader->failed)
        return der_failed(reader);
    length = (size_t)tls_get_number(reader, 1);
    if (length >= 0x80) {
        unsigned width = (unsigned)length & 0x7f;

        if (width == 0 || width > 3)
            return der_failed(reader);
        length = (size_t)tls_get_number(reader, width);
        if (length < 0x80 || length >> 8 * (width - 1) == 0)
            return der_failed(reader); /* a shorter form exists */
    }
    bytes = tls_get_bytes(reader, length);
    if (!bytes)
        return der_failed(reader);
    *ret_start = start;
    *ret_length = (size_t)(bytes - start) + length;
    return tls_reader(bytes, length);
}

struct tls_reader der_get(struct tls_reader *reader, unsigned tag)
{
    const uint8_t *start;
    size_t length;

    return der_get_whole(reader, tag, &start, &length);
}

struct tls_reader der_get_bits(struct tls_reader *reader)
{
    struct tls_reader bits = der_get(reader, DER_BIT_STRING);

    if (tls_get_number(&bits, 1) != 0 || bits.failed)
        return der_failed(reader);
    return bits;
}

static int digits(struct tls_reader *reader, unsigned count)
{
    int number = 0;

    while (count-- > 0) {
        int digit = (int)tls_get_number(reader, 1) - '0';

        if (digit < 0 || digit > 9)
            reader->failed = true;
        number = number * 10 + digit;
    }
    return reader->failed ? 0 : number;
}

/* Days since 1970 of a date in the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int shifted = month > 2 ? month - 3 : month + 9; /* March is 0, so that leap days are last */
    int64_t years = month > 2 ? year : year - 1;

    return years * 365 + years / 4 - years / 100 + years / 400 + (153 * shifted + 2) / 5 + day -
           719469;
}

static bool date_exists(int year, int month, int day)
{
    static const int lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month >= 1 && month <= 12 && day >= 1 && day <= lengths[month - 1] &&
           (month != 2 || day < 29 || leap);
}

int64_t der_get_time(struct tls_reader *reader)
{
    bool utc = der_peek(reader) == DER_UTC_TIME;
    struct tls_reader text = der_get(reader, utc ? DER_UTC_TIME : DER_GENERALIZED_TIME);
    int year = digits(&text, utc ? 2 : 4), month = digits(&text, 2), day = digits(&text, 2);
    int hour = digits(&text, 2), minute = digits(&text, 2), second = digits(&text, 2);

    if (utc)
        year += year < 50 ? 2000 : 1900;
    if (tls_get_number(&text, 1) != 'Z' || !tls_read_all(&text) || !date_exists(year, month, day) ||
        hour > 23 || minute > 59 || second > 59) {
        reader->failed = true;
        return 0;
    }
    return days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

bool der_equals(const struct tls_reader *reader, const void *bytes, size_t length)
{
    return !reader->failed && reader->left == length && !memcmp(reader->at, bytes, length);
}
