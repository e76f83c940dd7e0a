/* SPDX-License-Identifier: BSD-2-Clause */
/* The config device: the original's, ours, and what is neither. */
#include "unit.h"

#include "vm/package.h"

#define VMM                                                                                        \
    "\"vmm\":{\"name\":\"qemu\",\"version\":\"7\",\"machine\":\"m\",\"accelerator\":\"tcg\","      \
    "\"cpuModel\":\"max\",\"cpuFeatures\":\"00000000000000ff\"}"
#define DRAFTER                                                                                    \
    "\"format\":1," VMM                                                                            \
    ",\"memorySize\":4096,\"cpuCount\":1,\"bootArgs\":\"\",\"machineConfig\":\"\""

static struct package *package;
static struct drafter_error err;

static void setup(void)
{
    package = calloc(1, sizeof(*package));
}

static void teardown(void)
{
    free(package);
}

static int decode(const char *text)
{
    return package_decode(text, strlen(text), package, &err);
}

static void refuse(const char *text, const char *reason)
{
    err = (struct drafter_error){0};
    ck_assert_msg(decode(text) == -EINVAL, "%s", text);
    ck_assert_msg(strstr(err.message, reason), "\"%s\" does not say \"%s\"", err.message, reason);
}

START_TEST(the_originals_config_is_read)
{
    static const char text[] = "{\"agentVSockPort\": 26}";

    ck_assert_int_eq(decode(text), 0);
    ck_assert_uint_eq(package->agent_port, 26);
    ck_assert(!package->complete);
}
END_TEST

START_TEST(padding_does_not_count)
{
    char device[4096] = "{\"agentVSockPort\": 26}";

    memset(device + 2048, 'x', 2048); /* behind the first NUL anything may follow */
    ck_assert_int_eq(package_decode(device, sizeof(device), package, &err), 0);
    ck_assert_uint_eq(package->agent_port, 26);
}
END_TEST

START_TEST(a_config_without_padding_is_read_to_its_end)
{
    char *exact = malloc(21); /* so that a sanitizer sees a read beyond it */

    memcpy(exact, "{\"agentVSockPort\":26} ", 21);
    ck_assert_int_eq(package_decode(exact, 21, package, &err), 0);
    free(exact);
}
END_TEST

START_TEST(memory_is_guessed_without_its_padding)
{
    ck_assert_uint_eq(package_guess_memory(package_padded_size(32 << 20)), 32 << 20);
    ck_assert_uint_eq(package_guess_memory(32 << 20), 32 << 20); /* the original's earlier versions padded less */
    ck_assert_uint_eq(package_guess_memory((32 << 20) + 8192), 32 << 20);
    ck_assert_uint_eq(package_guess_memory(1 << 20), 1 << 20);
    ck_assert_uint_eq(package_guess_memory(0), 0);
}
END_TEST

START_TEST(our_own_survives)
{
    struct package *got = calloc(1, sizeof(*got));
    cleanup_free char *text = NULL;

    package->agent_port = UINT32_MAX;
    package->complete = true;
    package->facts = (struct drafter_vmm_facts){.name = "qemu",
                                                .version = "7.2",
                                                .machine = "m",
                                                .accelerator = "tcg",
                                                .cpu_model = "max",
                                                .cpu_features = UINT64_C(0xfedcba9876543210)};
    package->memory_size = UINT64_C(1) << 40;
    package->cpu_count = 8;
    memcpy(package->boot_args, "console=ttyS0 \"q\"", 18);
    memcpy(package->machine_config, "{\"a\":1}", 8);
    package->device_count = WIRE_DEVICES_MAX;
    for (unsigned i = 0; i < WIRE_DEVICES_MAX; i++) {
        snprintf(package->devices[i].name, sizeof(package->devices[i].name), "disk-%u", i);
        package->devices[i].size = i + 1;
        memset(package->devices[i].hash, 'a', i % 2 ? 64 : 0);
    }
    text = package_encode(package);
    ck_assert_msg(package_decode(text, strlen(text), got, &err) == 0, "%s", err.message);
    ck_assert_mem_eq(got, package, sizeof(*got));
    free(got);
}
END_TEST

START_TEST(a_config_that_is_none_is_refused)
{
    refuse("", "not a JSON object");
    refuse("[]", "wrong type");
    refuse("{}", "agentVSockPort");
    refuse("{\"agentVSockPort\":\"26\"}", "agentVSockPort");
    refuse("{\"agentVSockPort\":4294967296}", "out of range");
    refuse("{\"agentVSockPort\":-1}", "out of range");
    refuse("{\"agentVSockPort\":1,\"agentVSockPort\":2}", "duplicate");
}
END_TEST

START_TEST(a_damaged_description_is_refused)
{
    refuse("{\"agentVSockPort\":0,\"drafter\":5}", "format");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":2}}", "format 2 is newer");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":1}}", "\"name\"");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM "}}", "memorySize");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM ",\"memorySize\":4095}}",
           "memorySize");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM
           ",\"memorySize\":4096,\"cpuCount\":0}}",
           "cpuCount");
    refuse("{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM
           ",\"memorySize\":4096,\"cpuCount\":4097}}",
           "cpuCount");
    refuse("{\"agentVSockPort\":0,\"drafter\":{" DRAFTER ",\"devices\":[{}]}}", "\"name\"");
    refuse("{\"agentVSockPort\":0,\"drafter\":{" DRAFTER
           ",\"devices\":[{\"name\":\"d\",\"blake2b\":\"\",\"size\":0}]}}",
           "\"size\"");
    ck_assert_int_eq(decode("{\"agentVSockPort\":0,\"drafter\":{" DRAFTER "}}"), 0);
    ck_assert_uint_eq(package->facts.cpu_features, 255);
}
END_TEST

START_TEST(overlong_strings_are_refused)
{
    char text[8192], args[2049];

    memset(args, 'a', 2048);
    args[2048] = '\0';
    snprintf(text, sizeof(text),
             "{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM
             ",\"memorySize\":4096,\"cpuCount\":1,\"bootArgs\":\"%s\",\"machineConfig\":\"\"}}",
             args);
    refuse(text, "bootArgs");
    args[2047] = '\0';
    snprintf(text, sizeof(text),
             "{\"agentVSockPort\":0,\"drafter\":{\"format\":1," VMM
             ",\"memorySize\":4096,\"cpuCount\":1,\"bootArgs\":\"%s\",\"machineConfig\":\"\"}}",
             args);
    ck_assert_int_eq(decode(text), 0);
}
END_TEST

START_TEST(too_many_devices_are_refused)
{
    char text[8192] = "{\"agentVSockPort\":0,\"drafter\":{" DRAFTER ",\"devices\":[";
    size_t used = strlen(text);

    for (unsigned i = 0; i <= WIRE_DEVICES_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used,
                                 "%s{\"name\":\"d\",\"blake2b\":\"\",\"size\":1}", i ? "," : "");
    snprintf(text + used, sizeof(text) - used, "]}}");
    refuse(text, "too many devices");
}
END_TEST

START_TEST(a_refused_config_leaves_the_result_alone)
{
    package->agent_port = 77;
    refuse("{\"agentVSockPort\":5,\"drafter\":{}}", "format");
    ck_assert_uint_eq(package->agent_port, 77);
}
END_TEST

START_TEST(padded_sizes_are_whole_with_room_to_grow)
{
    const uint64_t mib = 1 << 20;

    ck_assert_uint_eq(package_padded_size(0), mib);
    ck_assert_uint_eq(package_padded_size(1), 2 * mib);
    ck_assert_uint_eq(package_padded_size(mib), 2 * mib);
    ck_assert_uint_eq(package_padded_size(mib + 1), 3 * mib);
    for (uint64_t size = 1; size < 5 * mib; size += 65535) {
        ck_assert_uint_eq(package_padded_size(size) % mib, 0);
        ck_assert_uint_ge(package_padded_size(size) - size, mib);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_originals_config_is_read);
    tcase_add_test(tests, padding_does_not_count);
    tcase_add_test(tests, a_config_without_padding_is_read_to_its_end);
    tcase_add_test(tests, memory_is_guessed_without_its_padding);
    tcase_add_test(tests, our_own_survives);
    tcase_add_test(tests, a_config_that_is_none_is_refused);
    tcase_add_test(tests, a_damaged_description_is_refused);
    tcase_add_test(tests, overlong_strings_are_refused);
    tcase_add_test(tests, too_many_devices_are_refused);
    tcase_add_test(tests, a_refused_config_leaves_the_result_alone);
    tcase_add_test(tests, padded_sizes_are_whole_with_room_to_grow);
}

int main(void)
{
    return unit_run("package", add_tests);
}
