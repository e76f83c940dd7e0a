/* SPDX-License-Identifier: BSD-2-Clause */
/* Greetings: round trips, and a clear line for each field that is wrong. */
#include "unit.h"

#include "migrate/hello.h"

#define TOKEN "\"token\":\"000102030405060708090a0b0c0d0e0f\""
#define OFFER_HEAD "{\"protocol\":2," TOKEN ",\"vm\":\"redis\",\"software\":\"x\",\"epoch\":3,"
#define DEVICE "{\"name\":\"disk\",\"size\":8192,\"block_size\":65536}"
#define OFFER OFFER_HEAD "\"devices\":[" DEVICE "]}"

static struct drafter_error err;

static void expect_text(const char *text)
{
    ck_assert_msg(strstr(err.message, text), "\"%s\" does not say \"%s\"", err.message, text);
}

static void refuse_hello(const char *json, const char *text)
{
    struct hello hello;

    err = (struct drafter_error){0};
    ck_assert_msg(hello_decode(json, strlen(json), &hello, &err) == -EPROTO, "%s", json);
    expect_text(text);
}

static void refuse_offer(const char *json, const char *text)
{
    struct offer *offer = malloc(sizeof(*offer));

    err = (struct drafter_error){0};
    ck_assert_msg(offer_decode(json, strlen(json), offer, &err) == -EPROTO, "%s", json);
    expect_text(text);
    free(offer);
}

START_TEST(a_hello_survives)
{
    struct hello hello = {.version = WIRE_VERSION, .role = "peer", .software = "s", .vm = "redis"};
    struct hello got;
    cleanup_free char *text = hello_encode(&hello);

    ck_assert_int_eq(hello_decode(text, strlen(text), &got, &err), 0);
    ck_assert_uint_eq(got.version, WIRE_VERSION);
    ck_assert_str_eq(got.role, "peer");
    ck_assert_str_eq(got.software, "s");
    ck_assert_str_eq(got.vm, "redis");
    ck_assert(!got.reconnect);
}
END_TEST

START_TEST(a_hello_that_reconnects_carries_its_token)
{
    struct hello hello = {.version = WIRE_VERSION, .reconnect = true, .token = {0, 1, 0x7f, 0xff},
                          .epoch = 7};
    struct hello got;
    cleanup_free char *text = hello_encode(&hello);

    hello.token[15] = 0xa5;
    free(text);
    text = hello_encode(&hello);
    ck_assert_int_eq(hello_decode(text, strlen(text), &got, &err), 0);
    ck_assert(got.reconnect);
    ck_assert_uint_eq(got.epoch, 7);
    ck_assert_mem_eq(got.token, hello.token, WIRE_TOKEN_SIZE);
}
END_TEST

START_TEST(a_wrong_hello_is_refused_with_a_reason)
{
    refuse_hello("", "no JSON object");
    refuse_hello("[]", "wrong type");
    refuse_hello("{}", "\"protocol\"");
    refuse_hello("{\"protocol\":\"2\"}", "\"protocol\"");
    refuse_hello("{\"protocol\":-1}", "\"protocol\"");
    refuse_hello("{\"protocol\":1}", "speaks protocol 1, this side 2");
    refuse_hello("{\"protocol\":2}", "\"role\"");
    refuse_hello("{\"protocol\":2,\"role\":5}", "\"role\"");
    refuse_hello("{\"protocol\":2,\"role\":\"peer\"}", "\"software\"");
    refuse_hello("{\"protocol\":2,\"role\":\"a\\nb\"}", "not printable");
    refuse_hello("{\"protocol\":2,\"role\":\"p\",\"software\":\"\"}", "\"vm\"");
    refuse_hello("{\"protocol\":2,\"role\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", "too long");
    refuse_hello("{\"protocol\":2,\"protocol\":2}", "duplicate");
    refuse_hello("{\"protocol\":2,\"role\":\"p\",\"software\":\"\",\"vm\":\"\",\"token\":\"00\"}",
                 "\"token\" is malformed");
    refuse_hello("{\"protocol\":2,\"role\":\"p\",\"software\":\"\",\"vm\":\"\",\"token\":5}",
                 "\"token\"");
    refuse_hello("{\"protocol\":2,\"role\":\"p\",\"software\":\"\",\"vm\":\"\","
                 "\"token\":\"zz0102030405060708090a0b0c0d0e0f\"}",
                 "\"token\" is malformed");
}
END_TEST

START_TEST(what_must_be_understood_is_refused_by_name)
{
    refuse_hello("{\"protocol\":2,\"requires\":[\"teleport\"]}", "requires \"teleport\"");
    refuse_hello("{\"protocol\":2,\"requires\":[5]}", "requires");
    refuse_hello("{\"protocol\":2,\"requires\":\"x\"}", "requires");
    refuse_offer("{\"protocol\":2,\"requires\":[\"teleport\"]}", "requires \"teleport\"");
}
END_TEST

START_TEST(unknown_keys_are_ignored)
{
    static const char text[] = "{\"protocol\":2,\"role\":\"p\",\"software\":\"s\",\"vm\":\"v\","
                               "\"requires\":[],\"later\":{\"a\":[1]}}";
    struct hello hello;

    ck_assert_int_eq(hello_decode(text, strlen(text), &hello, &err), 0);
}
END_TEST

static void fill_offer(struct offer *offer)
{
    memset(offer, 0, sizeof(*offer));
    for (unsigned i = 0; i < WIRE_TOKEN_SIZE; i++)
        offer->token[i] = (uint8_t)(i * 17);
    memcpy(offer->vm, "redis", 6);
    memcpy(offer->software, "drafter 1", 10);
    offer->live = true;
    offer->epoch = UINT64_C(1) << 40;
    offer->facts = (struct drafter_vmm_facts){.name = "qemu",
                                              .version = "7.2",
                                              .machine = "m",
                                              .accelerator = "tcg",
                                              .cpu_model = "max",
                                              .cpu_features = UINT64_C(0xfedcba9876543210)};
    offer->device_count = WIRE_DEVICES_MAX;
    for (unsigned i = 0; i < WIRE_DEVICES_MAX; i++) {
        snprintf(offer->devices[i].name, sizeof(offer->devices[i].name), "disk-%u", i);
        offer->devices[i].size = (uint64_t)(i + 1) << 40;
        offer->devices[i].block_size = 4096 * (i + 1);
    }
}

START_TEST(an_offer_survives)
{
    struct offer *offer = calloc(1, sizeof(*offer)), *got = calloc(1, sizeof(*got));
    cleanup_free char *text = NULL;

    fill_offer(offer);
    text = offer_encode(offer);
    ck_assert_msg(offer_decode(text, strlen(text), got, &err) == 0, "%s", err.message);
    for (unsigned i = 0; i < WIRE_DEVICES_MAX; i++)
        offer->total_size += offer->devices[i].size;
    ck_assert_mem_eq(got, offer, sizeof(*offer));
    free(offer);
    free(got);
}
END_TEST

START_TEST(an_offer_without_a_vmm_or_a_running_vm_is_fine)
{
    struct offer *offer = calloc(1, sizeof(*offer));

    ck_assert_msg(offer_decode(OFFER, strlen(OFFER), offer, &err) == 0, "%s", err.message);
    ck_assert(!offer->live);
    ck_assert_str_eq(offer->facts.name, "");
    ck_assert_uint_eq(offer->total_size, 8192);
    free(offer);
}
END_TEST

START_TEST(a_wrong_offer_is_refused_with_a_reason)
{
    refuse_offer("x", "no JSON object");
    refuse_offer("{\"protocol\":9}", "source speaks protocol 9");
    refuse_offer("{\"protocol\":2}", "\"token\"");
    refuse_offer("{\"protocol\":2," TOKEN "}", "\"vm\"");
    refuse_offer("{\"protocol\":2," TOKEN ",\"vm\":\"v\"}", "\"software\"");
    refuse_offer("{\"protocol\":2," TOKEN ",\"vm\":\"v\",\"software\":\"\"}", "\"epoch\"");
    refuse_offer("{\"protocol\":2," TOKEN ",\"vm\":\"v\",\"software\":\"\","
                 "\"epoch\":9223372036854775807}",
                 "\"epoch\"");
    refuse_offer(OFFER_HEAD "\"devices\":[]}", "0 devices");
    refuse_offer(OFFER_HEAD "\"devices\":5}", "0 devices");
    refuse_offer(OFFER_HEAD "\"devices\":[5]}", "\"name\"");
    refuse_offer(OFFER_HEAD "\"devices\":[" DEVICE "," DEVICE "]}", "offers device disk twice");
    refuse_offer(OFFER_HEAD "\"vmm\":{},\"devices\":[" DEVICE "]}", "\"name\"");
    refuse_offer("{\"protocol\":2," TOKEN ",\"vm\":\"a/b\",\"software\":\"\",\"epoch\":3,"
                 "\"devices\":[" DEVICE "]}",
                 "unusable name");
    refuse_offer("{\"protocol\":2," TOKEN ",\"vm\":\"\",\"software\":\"\",\"epoch\":3,"
                 "\"devices\":[" DEVICE "]}",
                 "unusable name");
}
END_TEST

START_TEST(devices_that_could_not_be_are_refused)
{
    static const char *const devices[] = {
        "{\"name\":\"../x\",\"size\":1,\"block_size\":1}",
        "{\"name\":\".x\",\"size\":1,\"block_size\":1}",
        "{\"name\":\"\",\"size\":1,\"block_size\":1}",
        "{\"name\":\"x y\",\"size\":1,\"block_size\":1}",
        "{\"name\":\"x\",\"size\":0,\"block_size\":1}",
        "{\"name\":\"x\",\"size\":-1,\"block_size\":1}",
        "{\"name\":\"x\",\"size\":144115188075855872,\"block_size\":1}",
        "{\"name\":\"x\",\"size\":1.5,\"block_size\":1}",
        "{\"name\":\"x\",\"size\":1,\"block_size\":67108865}",
        "{\"name\":\"x\",\"size\":1}",
    };

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        cleanup_free char *text = NULL;

        ck_assert_int_gt(asprintf(&text, OFFER_HEAD "\"devices\":[%s]}", devices[i]), 0);
        refuse_offer(text, "peer");
    }
}
END_TEST

START_TEST(too_many_devices_are_refused)
{
    char text[8192] = OFFER_HEAD "\"devices\":[";
    size_t used = strlen(text);

    for (unsigned i = 0; i <= WIRE_DEVICES_MAX; i++)
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used,
                             "%s{\"name\":\"d%u\",\"size\":1,\"block_size\":1}", i ? "," : "", i);
    snprintf(text + used, sizeof(text) - used, "]}");
    refuse_offer(text, "65 devices");
}
END_TEST

START_TEST(an_acceptance_survives_within_bounds)
{
    struct acceptance acceptance = {.bulk_streams = WIRE_STREAMS_MAX - 2}, got;
    cleanup_free char *text = acceptance_encode(&acceptance);

    ck_assert_int_eq(acceptance_decode(text, strlen(text), &got, &err), 0);
    ck_assert_uint_eq(got.bulk_streams, WIRE_STREAMS_MAX - 2);
    ck_assert_int_eq(acceptance_decode("{\"bulk_streams\":0}", 18, &got, &err), -EPROTO);
    expect_text("no streams");
    ck_assert_int_eq(acceptance_decode("{\"bulk_streams\":15}", 19, &got, &err), -EPROTO);
    expect_text("out of range");
}
END_TEST

START_TEST(a_refusal_survives)
{
    struct refusal refusal = {.code = ENOSPC, .step = "preflight", .text = "the disk is full"}, got;
    cleanup_free char *text = refusal_encode(&refusal);

    refusal_decode(text, strlen(text), &got);
    ck_assert_int_eq(got.code, ENOSPC);
    ck_assert_str_eq(got.step, "preflight");
    ck_assert_str_eq(got.text, "the disk is full");
}
END_TEST

START_TEST(a_malformed_refusal_is_still_one)
{
    struct refusal got;

    refusal_decode("\xff", 1, &got);
    ck_assert_int_eq(got.code, EPROTO);
    refusal_decode("{\"errno\":0,\"step\":5,\"text\":\"a\\u001bb\"}", 38, &got);
    ck_assert_int_eq(got.code, EPROTO);
    ck_assert_str_eq(got.step, "?");
    ck_assert_str_eq(got.text, "no reason given");
    refusal_decode("{\"errno\":99999}", 15, &got);
    ck_assert_int_eq(got.code, EPROTO);
}
END_TEST

START_TEST(the_first_fact_that_differs_is_named)
{
    const struct drafter_vmm_facts ours = {.name = "qemu",
                                           .version = "7.2",
                                           .machine = "microvm",
                                           .accelerator = "tcg",
                                           .cpu_model = "max",
                                           .cpu_features = 5};
    struct drafter_vmm_facts theirs;

    ck_assert_int_eq(hello_compare_facts(&ours, &ours, &err), 0);
#define DIFFERS(change, text)                                                                      \
    do {                                                                                           \
        theirs = ours;                                                                             \
        change;                                                                                    \
        ck_assert_int_eq(hello_compare_facts(&theirs, &ours, &err), -EMEDIUMTYPE);                 \
        expect_text(text);                                                                         \
    } while (0)
    DIFFERS(theirs.name[0] = 'x', "the VMM \"xemu\", this host has \"qemu\"");
    DIFFERS(theirs.version[0] = '8', "VMM version \"8.2\"");
    DIFFERS(theirs.machine[0] = 'x', "machine");
    DIFFERS(theirs.accelerator[0] = 'x', "accelerator");
    DIFFERS(theirs.cpu_model[0] = 'x', "CPU model");
    DIFFERS(theirs.cpu_features = 4, "other features");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_hello_survives);
    tcase_add_test(tests, a_hello_that_reconnects_carries_its_token);
    tcase_add_test(tests, a_wrong_hello_is_refused_with_a_reason);
    tcase_add_test(tests, what_must_be_understood_is_refused_by_name);
    tcase_add_test(tests, unknown_keys_are_ignored);
    tcase_add_test(tests, an_offer_survives);
    tcase_add_test(tests, an_offer_without_a_vmm_or_a_running_vm_is_fine);
    tcase_add_test(tests, a_wrong_offer_is_refused_with_a_reason);
    tcase_add_test(tests, devices_that_could_not_be_are_refused);
    tcase_add_test(tests, too_many_devices_are_refused);
    tcase_add_test(tests, an_acceptance_survives_within_bounds);
    tcase_add_test(tests, a_refusal_survives);
    tcase_add_test(tests, a_malformed_refusal_is_still_one);
    tcase_add_test(tests, the_first_fact_that_differs_is_named);
}

int main(void)
{
    return unit_run("hello", add_tests);
}
