/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: what is sent is what is read, and anything else is noticed. */
#include "unit.h"

#include "migrate/wire.h"

static const struct wire_header sample = {.type = WIRE_DATA,
                                          .device = 63,
                                          .length = 5,
                                          .generation = 0x81828384,
                                          .offset = UINT64_C(0x8182838485868788),
                                          .argument = UINT64_C(0x9192939495969798),
                                          .sequence = 7};
static char bytes[WIRE_HEADER_SIZE];

START_TEST(a_header_is_read_as_it_was_written)
{
    struct wire_header header;

    wire_encode(&sample, 1, "hello", bytes);
    ck_assert_int_eq(wire_decode(bytes, &header), 0);
    ck_assert_uint_eq(header.type, sample.type);
    ck_assert_uint_eq(header.device, sample.device);
    ck_assert_uint_eq(header.length, sample.length);
    ck_assert_uint_eq(header.generation, sample.generation);
    ck_assert_uint_eq(header.offset, sample.offset);
    ck_assert_uint_eq(header.argument, sample.argument);
    ck_assert_uint_eq(header.sequence, sample.sequence);
    ck_assert_int_eq(wire_check(bytes, 1, 7), 0);
    ck_assert_int_eq(wire_verify(bytes, &header, 1, "hello"), 0);
}
END_TEST

START_TEST(the_layout_is_the_documented_one)
{
    static const unsigned char expected[] = {
        'D',  'R',  'F',  '2',  32,   0,    63,   0,    5,    0,    0,    0,    0x84, 0x83,
        0x82, 0x81, 0x88, 0x87, 0x86, 0x85, 0x84, 0x83, 0x82, 0x81, 0x98, 0x97, 0x96, 0x95,
        0x94, 0x93, 0x92, 0x91, 7,    0,    0,    0};

    wire_encode(&sample, 1, "hello", bytes);
    ck_assert_mem_eq(bytes, expected, sizeof(expected));
}
END_TEST

/* In particular its length, before anybody waits for so much of a payload. */
START_TEST(every_flipped_bit_of_a_header_is_noticed_without_its_payload)
{
    struct wire_header header;

    wire_encode(&sample, 1, "hello", bytes);
    for (unsigned bit = 0; bit < 40 * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        if (!wire_decode(bytes, &header) && !wire_check(bytes, 1, 7))
            ck_abort_msg("bit %u is not covered", bit);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
}
END_TEST

START_TEST(every_flipped_bit_of_the_checksum_is_noticed)
{
    wire_encode(&sample, 1, "hello", bytes);
    for (unsigned bit = 40 * 8; bit < WIRE_HEADER_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_int_eq(wire_verify(bytes, &sample, 1, "hello"), -EBADMSG);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
}
END_TEST

START_TEST(every_flipped_bit_of_the_payload_is_noticed)
{
    char payload[] = "hello";

    wire_encode(&sample, 1, payload, bytes);
    for (unsigned bit = 0; bit < 40; bit++) {
        payload[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_int_eq(wire_verify(bytes, &sample, 1, payload), -EBADMSG);
        payload[bit / 8] ^= (char)(1 << bit % 8);
    }
}
END_TEST

START_TEST(another_session_or_place_in_the_stream_is_noticed)
{
    wire_encode(&sample, 1, "hello", bytes);
    ck_assert_int_eq(wire_check(bytes, 1, 7), 0);
    ck_assert_int_eq(wire_check(bytes, 2, 7), -EBADMSG);
    ck_assert_int_eq(wire_check(bytes, 1, 6), -EBADMSG);
    ck_assert_int_eq(wire_check(bytes, 1, 8), -EBADMSG);
    ck_assert_int_eq(wire_verify(bytes, &sample, 2, "hello"), -EBADMSG);
}
END_TEST

START_TEST(a_frame_without_payload_is_verified_too)
{
    struct wire_header header = {.type = WIRE_PING, .argument = 3};

    wire_encode(&header, 9, NULL, bytes);
    ck_assert_int_eq(wire_decode(bytes, &header), 0);
    ck_assert_int_eq(wire_verify(bytes, &header, 9, NULL), 0);
    ck_assert_int_eq(wire_verify(bytes, &header, 8, NULL), -EBADMSG);
}
END_TEST

static int decode(unsigned type, unsigned device, uint32_t length)
{
    struct wire_header header = {
        .type = (uint16_t)type, .device = (uint16_t)device, .length = length};
    cleanup_free char *payload = calloc(1, length + 1);

    wire_encode(&header, 0, payload, bytes);
    return wire_decode(bytes, &header);
}

START_TEST(unknown_types_are_refused)
{
    for (unsigned type = 0; type < 65536; type++) {
        bool known = strcmp(wire_type_name(type), "unknown") != 0;

        ck_assert_msg(decode(type, 0, 0) == (known ? 0 : -EPROTO), "type %u", type);
    }
}
END_TEST

START_TEST(a_length_beyond_the_limit_of_its_type_is_refused)
{
    static const struct {
        unsigned type;
        uint32_t limit;
    } limits[] = {{WIRE_HELLO, WIRE_JSON_MAX},
                  {WIRE_OFFER, WIRE_JSON_MAX},
                  {WIRE_ACCEPT, WIRE_JSON_MAX},
                  {WIRE_ABORT, WIRE_JSON_MAX},
                  {WIRE_REFUSED, WIRE_JSON_MAX},
                  {WIRE_CUSTOM, WIRE_CUSTOM_MAX},
                  {WIRE_JOIN, WIRE_TOKEN_SIZE},
                  {WIRE_PASS, WIRE_DATA_MAX},
                  {WIRE_HASHES, WIRE_DATA_MAX},
                  {WIRE_DATA, WIRE_DATA_MAX},
                  {WIRE_DELTA, WIRE_PAYLOAD_MAX},
                  {WIRE_READY, 0},
                  {WIRE_MARK, 0},
                  {WIRE_ACK, 0},
                  {WIRE_COMMIT, 0},
                  {WIRE_RESUMED, 0},
                  {WIRE_SENT, 0},
                  {WIRE_COMPLETE, 0},
                  {WIRE_DONE, 0},
                  {WIRE_PING, 0},
                  {WIRE_PONG, 0},
                  {WIRE_ZERO, 0},
                  {WIRE_HAVE, 0},
                  {WIRE_NEED, 0}};

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        ck_assert_int_eq(decode(limits[i].type, 0, limits[i].limit), 0);
        ck_assert_int_eq(decode(limits[i].type, 0, limits[i].limit + 1), -EPROTO);
    }
}
END_TEST

START_TEST(data_for_a_device_that_cannot_exist_is_refused)
{
    ck_assert_int_eq(decode(WIRE_DATA, WIRE_DEVICES_MAX - 1, 1), 0);
    ck_assert_int_eq(decode(WIRE_DATA, WIRE_DEVICES_MAX, 1), -EPROTO);
    ck_assert_int_eq(decode(WIRE_NEED, WIRE_DEVICES_MAX, 0), -EPROTO);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_header_is_read_as_it_was_written);
    tcase_add_test(tests, the_layout_is_the_documented_one);
    tcase_add_test(tests, every_flipped_bit_of_a_header_is_noticed_without_its_payload);
    tcase_add_test(tests, every_flipped_bit_of_the_checksum_is_noticed);
    tcase_add_test(tests, every_flipped_bit_of_the_payload_is_noticed);
    tcase_add_test(tests, another_session_or_place_in_the_stream_is_noticed);
    tcase_add_test(tests, a_frame_without_payload_is_verified_too);
    tcase_add_test(tests, unknown_types_are_refused);
    tcase_add_test(tests, a_length_beyond_the_limit_of_its_type_is_refused);
    tcase_add_test(tests, data_for_a_device_that_cannot_exist_is_refused);
}

int main(void)
{
    return unit_run("wire", add_tests);
}
