/* SPDX-License-Identifier: BSD-2-Clause */
#include "alert.h"

#include <stddef.h>

static const struct {
    int alert;
    const char *name, *hint;
} alerts[] = {
    {TLS_ALERT_CLOSE_NOTIFY, "close_notify", "it closed the connection during the handshake"},
    {TLS_ALERT_UNEXPECTED_MESSAGE, "unexpected_message", ""},
    {TLS_ALERT_BAD_RECORD_MAC, "bad_record_mac", "the stream was changed on its way"},
    {TLS_ALERT_RECORD_OVERFLOW, "record_overflow", ""},
    {TLS_ALERT_HANDSHAKE_FAILURE, "handshake_failure", "it found no algorithms in common"},
    {TLS_ALERT_BAD_CERTIFICATE, "bad_certificate", "it does not accept our certificate"},
    {TLS_ALERT_UNSUPPORTED_CERTIFICATE, "unsupported_certificate",
     "it does not know our type of certificate"},
    {TLS_ALERT_CERTIFICATE_REVOKED, "certificate_revoked", "it does not accept our certificate"},
    {TLS_ALERT_CERTIFICATE_EXPIRED, "certificate_expired",
     "our certificate is out of date there; compare the clocks, or make a new one"},
    {TLS_ALERT_CERTIFICATE_UNKNOWN, "certificate_unknown", "it does not know our key"},
    {TLS_ALERT_ILLEGAL_PARAMETER, "illegal_parameter", ""},
    {TLS_ALERT_UNKNOWN_CA, "unknown_ca", "our key is not in its trust file"},
    {TLS_ALERT_ACCESS_DENIED, "access_denied", "it knows our key, and refuses it"},
    {TLS_ALERT_DECODE_ERROR, "decode_error", ""},
    {TLS_ALERT_DECRYPT_ERROR, "decrypt_error", "a key is not the one that it should be"},
    {TLS_ALERT_PROTOCOL_VERSION, "protocol_version", "it does not speak TLS 1.3"},
    {TLS_ALERT_INSUFFICIENT_SECURITY, "insufficient_security", "it wants other algorithms"},
    {TLS_ALERT_INTERNAL_ERROR, "internal_error", "see its log"},
    {TLS_ALERT_INAPPROPRIATE_FALLBACK, "inappropriate_fallback", ""},
    {TLS_ALERT_USER_CANCELED, "user_canceled", "it gave up"},
    {TLS_ALERT_MISSING_EXTENSION, "missing_extension", ""},
    {TLS_ALERT_UNSUPPORTED_EXTENSION, "unsupported_extension", ""},
    {TLS_ALERT_UNRECOGNIZED_NAME, "unrecognized_name", ""},
    {TLS_ALERT_BAD_CERTIFICATE_STATUS, "bad_certificate_status_response", ""},
    {TLS_ALERT_UNKNOWN_PSK_IDENTITY, "unknown_psk_identity", "it has no such pre-shared key"},
    {TLS_ALERT_CERTIFICATE_REQUIRED, "certificate_required", "it wants a certificate or a key of us"},
    {TLS_ALERT_NO_APPLICATION_PROTOCOL, "no_application_protocol", "it does not speak drafter/1"},
};
enum { ALERT_COUNT = sizeof(alerts) / sizeof(alerts[0]) };

const char *tls_alert_name(int alert)
{
    for (size_t i = 0; i < ALERT_COUNT; i++)
        if (alerts[i].alert == alert)
            return alerts[i].name;
    return "unknown alert";
}

const char *tls_alert_hint(int alert)
{
    for (size_t i = 0; i < ALERT_COUNT; i++)
        if (alerts[i].alert == alert)
            return alerts[i].hint;
    return "";
}
