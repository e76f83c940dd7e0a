/* SPDX-License-Identifier: BSD-2-Clause */
/* Signatures and answers of S3; vectors of "Signature Calculations" in the S3 API reference. */
#include "unit.h"

#include "../../plugins/storage/s3/sign.h"
#include "../../plugins/storage/s3/xml.h"

static const struct sign_credentials example = {
    .access_key = "AKIAIOSFODNN7EXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static void expect_signature(const char *query, const char *signature)
{
    char hash[SIGN_HASH_TEXT], value[1024], expected[1024];
    struct sign_request request = {.method = "GET", .host = "examplebucket.s3.amazonaws.com", .path = "/",
                                   .query = query, .payload_hash = hash, .region = "us-east-1",
                                   .when = 1369353600};

    sign_hash("", 0, hash);
    ck_assert_int_eq(sign_authorize(&request, &example, value, sizeof value), 0);
    snprintf(expected, sizeof expected,
             "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
             "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=%s",
             signature);
    ck_assert_str_eq(value, expected);
}

START_TEST(signatures_are_those_of_the_reference)
{
    expect_signature("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    expect_signature("max-keys=2&prefix=J",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    char value[100], hash[SIGN_HASH_TEXT];
    struct sign_request request = {.method = "GET", .host = "h", .path = "/", .query = "",
                                   .payload_hash = hash, .region = "us-east-1", .when = 0};

    sign_hash("", 0, hash);
    ck_assert_int_eq(sign_authorize(&request, &example, value, sizeof value), -ENAMETOOLONG);
    ck_assert_int_eq(sign_encode("abc/d", 1, value, 5), -ENAMETOOLONG);
}
END_TEST

START_TEST(names_are_encoded_as_aws_wants_them)
{
    char encoded[64];

    ck_assert_int_eq(sign_encode("a b/c+d~e=\xc3\xa9", 1, encoded, sizeof encoded), 0);
    ck_assert_str_eq(encoded, "a%20b/c%2Bd~e%3D%C3%A9");
    ck_assert_int_eq(sign_encode("a/b", 0, encoded, sizeof encoded), 0);
    ck_assert_str_eq(encoded, "a%2Fb");
}
END_TEST

START_TEST(texts_of_elements_are_found_one_after_the_other)
{
    static const char xml[] = "<L><Key>a&amp;b</Key><Key>c&#100;</Key><Key>bad&x;</Key><Key>open";
    const char *at = xml;
    char text[8];

    ck_assert(xml_find(at, strlen(at), "Key", text, sizeof text, &at));
    ck_assert_str_eq(text, "a&b");
    ck_assert(xml_find(at, strlen(at), "Key", text, sizeof text, &at));
    ck_assert_str_eq(text, "cd");
    ck_assert(!xml_find(at, strlen(at), "Key", text, sizeof text, &at));
    ck_assert(!xml_find(at, strlen(at), "Key", text, sizeof text, &at)); /* it has no end */
    ck_assert(!xml_text(xml, strlen(xml), "Key", text, 3));
    ck_assert(!xml_text(xml, strlen(xml), "Code", text, sizeof text));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, signatures_are_those_of_the_reference);
    tcase_add_test(tests, what_does_not_fit_is_refused);
    tcase_add_test(tests, names_are_encoded_as_aws_wants_them);
    tcase_add_test(tests, texts_of_elements_are_found_one_after_the_other);
}

int main(void)
{
    return unit_run("s3-sign", add_tests);
}
