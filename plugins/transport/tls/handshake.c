/* SPDX-License-Identifier: BSD-2-Clause */
/* Records and the transcript of a handshake, for both sides. */
#include "handshake.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void begin(struct tls_handshake *handshake, const struct tls_context *context,
                  struct tls_secrets *secrets)
{
    /* Not its buffers: pages that nobody writes cost nothing. */
    memset(handshake, 0, offsetof(struct tls_handshake, few));
    handshake->in = handshake->few;
    handshake->context = context;
    handshake->secrets = secrets;
    crypto_hash_sha256_init(&handshake->transcript);
}

void tls_handshake_server(struct tls_handshake *handshake, const struct tls_context *context,
                          struct tls_secrets *secrets)
{
    begin(handshake, context, secrets);
    handshake->server = true;
    handshake->state = TLS_WAIT_CLIENT_HELLO;
}

void tls_client_begin(struct tls_handshake *handshake, const struct tls_session *session,
                      const struct tls_psk *psk);

void tls_handshake_client(struct tls_handshake *handshake, const struct tls_context *context,
                          struct tls_secrets *secrets, const struct tls_session *session,
                          const struct tls_psk *psk)
{
    begin(handshake, context, secrets);
    tls_client_begin(handshake, session, psk);
}

int tls_alert_errno(int alert)
{
    switch (alert) {
    case TLS_ALERT_BAD_CERTIFICATE:
    case TLS_ALERT_UNSUPPORTED_CERTIFICATE:
    case TLS_ALERT_CERTIFICATE_REVOKED:
    case TLS_ALERT_CERTIFICATE_EXPIRED:
    case TLS_ALERT_CERTIFICATE_UNKNOWN:
    case TLS_ALERT_UNKNOWN_CA:
    case TLS_ALERT_ACCESS_DENIED:
    case TLS_ALERT_DECRYPT_ERROR:
    case TLS_ALERT_UNKNOWN_PSK_IDENTITY:
    case TLS_ALERT_CERTIFICATE_REQUIRED:
        return EACCES;
    case TLS_ALERT_BAD_RECORD_MAC:
        return EBADMSG;
    case TLS_ALERT_CLOSE_NOTIFY:
        return ECONNRESET;
    default:
        return EPROTO;
    }
}

/* ---- records out ------------------------------------------------------------------------------ */

/* Adds one record to `out`; the longest flight fits, so a failure here is ours. */
static bool put_record(struct tls_handshake *handshake, enum tls_content type, const uint8_t *bytes,
                       size_t length)
{
    const struct iovec piece = {.iov_base = (void *)bytes, .iov_len = length};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};
    bool sealed = handshake->sealed_out && type != TLS_CHANGE_CIPHER_SPEC;
    bool first_hello = type == TLS_HANDSHAKE && !handshake->server && !handshake->retried;
    size_t size = sealed ? TLS_SEALED_SIZE(length) : TLS_RECORD_HEADER + length;
    uint8_t *record;

    if (!handshake->out)
        handshake->out = malloc(TLS_HANDSHAKE_OUT);
    if (!handshake->out || size > TLS_HANDSHAKE_OUT - handshake->out_length)
        return false;
    record = handshake->out + handshake->out_length;
    if (sealed) {
        tls_seal(&handshake->secrets->send, type, &cursor, length, record);
    } else {
        record[0] = (uint8_t)type;
        record[1] = 3;
        record[2] = first_hello ? 1 : 3; /* section 5.1 */
        record[3] = (uint8_t)(length >> 8);
        record[4] = (uint8_t)length;
        memcpy(record + TLS_RECORD_HEADER, bytes, length);
    }
    handshake->out_length += size;
    return true;
}

void tls_handshake_drop_out(struct tls_handshake *handshake)
{
    free(handshake->out);
    handshake->out = NULL;
    handshake->out_length = 0;
}

static void drop_in(struct tls_handshake *handshake)
{
    if (handshake->in != handshake->few)
        free(handshake->in);
    handshake->in = handshake->few;
}

/* Room for so many more bytes, and the header of another record behind them. */
static bool make_room(struct tls_handshake *handshake, size_t length)
{
    uint8_t *more;

    if (handshake->in != handshake->few ||
        handshake->in_length + length + TLS_RECORD_HEADER <= TLS_HANDSHAKE_FEW)
        return true;
    more = malloc(TLS_HANDSHAKE_IN + TLS_RECORD_HEADER);
    if (!more)
        return false;
    memcpy(more, handshake->few, TLS_HANDSHAKE_FEW);
    handshake->in = more;
    return true;
}

void tls_handshake_release(struct tls_handshake *handshake)
{
    tls_handshake_drop_out(handshake);
    if (handshake->in)
        drop_in(handshake);
}

int tls_handshake_fail(struct tls_handshake *handshake, int alert, const char *format, ...)
{
    const uint8_t bytes[2] = {alert == TLS_ALERT_CLOSE_NOTIFY || alert == TLS_ALERT_USER_CANCELED ? 1 : 2,
                              (uint8_t)alert};
    va_list arguments;

    if (handshake->state == TLS_FAILED)
        return -tls_alert_errno(handshake->alert);
    handshake->state = TLS_FAILED;
    handshake->alert = alert;
    va_start(arguments, format);
    vsnprintf(handshake->reason, sizeof(handshake->reason), format, arguments);
    va_end(arguments);
    put_record(handshake, TLS_ALERT, bytes, sizeof(bytes));
    return -tls_alert_errno(alert);
}

int tls_handshake_send(struct tls_handshake *handshake, const struct tls_writer *message)
{
    if (message->failed || !put_record(handshake, TLS_HANDSHAKE, message->start, message->used))
        return tls_handshake_fail(handshake, TLS_ALERT_INTERNAL_ERROR, "a message became too long");
    tls_transcript_add(handshake, message->start, message->used);
    /* Section D.4: for boxes in the middle that know only TLS 1.2. */
    if (handshake->server && message->start[0] == TLS_SERVER_HELLO && handshake->session_id_length &&
        !handshake->retried)
        put_record(handshake, TLS_CHANGE_CIPHER_SPEC, (const uint8_t *)"\1", 1);
    return 0;
}

/* ---- transcript ------------------------------------------------------------------------------- */

void tls_transcript_add(struct tls_handshake *handshake, const uint8_t *bytes, size_t length)
{
    crypto_hash_sha256_update(&handshake->transcript, bytes, length);
}

void tls_transcript_add_message(struct tls_handshake *handshake,
                                const struct tls_handshake_message *message)
{
    tls_transcript_add(handshake, message->whole, message->whole_length);
}

void tls_transcript_hash_with(const struct tls_handshake *handshake, const uint8_t *bytes, size_t length,
                              uint8_t ret_hash[TLS_HASH_SIZE])
{
    crypto_hash_sha256_state copy = handshake->transcript;

    if (length)
        crypto_hash_sha256_update(&copy, bytes, length);
    crypto_hash_sha256_final(&copy, ret_hash);
}

void tls_transcript_hash(const struct tls_handshake *handshake, uint8_t ret_hash[TLS_HASH_SIZE])
{
    tls_transcript_hash_with(handshake, NULL, 0, ret_hash);
}

void tls_transcript_retry(struct tls_handshake *handshake)
{
    uint8_t message[4 + TLS_HASH_SIZE] = {TLS_MESSAGE_HASH, 0, 0, TLS_HASH_SIZE};

    tls_transcript_hash(handshake, message + 4);
    crypto_hash_sha256_init(&handshake->transcript);
    tls_transcript_add(handshake, message, sizeof(message));
}

/* ---- records in ------------------------------------------------------------------------------- */

uint8_t *tls_handshake_room(struct tls_handshake *handshake)
{
    return handshake->in + handshake->in_length;
}

ssize_t tls_handshake_expect(struct tls_handshake *handshake)
{
    const uint8_t *header = tls_handshake_room(handshake);
    size_t length = (size_t)header[3] << 8 | header[4];
    size_t room = TLS_HANDSHAKE_IN - handshake->in_length - TLS_RECORD_HEADER;

    if (header[1] != 3 || header[0] < TLS_CHANGE_CIPHER_SPEC || header[0] > TLS_APPLICATION_DATA)
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE, "it does not speak TLS");
    handshake->unwanted = handshake->early && header[0] == TLS_APPLICATION_DATA && !handshake->in_length &&
                          (!handshake->sealed_in || length > room);
    if (length > room && !handshake->unwanted)
        return tls_handshake_fail(handshake, TLS_ALERT_RECORD_OVERFLOW,
                                  "a record of %zu bytes is too long before it is known", length);
    handshake->received += TLS_RECORD_HEADER + length;
    if (handshake->received > TLS_HANDSHAKE_LIMIT)
        return tls_handshake_fail(handshake,
                                  handshake->early ? TLS_ALERT_UNEXPECTED_MESSAGE : TLS_ALERT_RECORD_OVERFLOW,
                                  "it says too much before it is known");
    if (!handshake->unwanted && !make_room(handshake, TLS_RECORD_HEADER + length))
        return tls_handshake_fail(handshake, TLS_ALERT_INTERNAL_ERROR, "out of memory");
    return (ssize_t)length;
}

static int take_alert(struct tls_handshake *handshake, const uint8_t *bytes, size_t length)
{
    const char *hint;

    if (length != 2)
        return tls_handshake_fail(handshake, TLS_ALERT_DECODE_ERROR, "it sent a malformed alert");
    handshake->state = TLS_FAILED;
    handshake->alerted = true;
    handshake->alert = bytes[1];
    hint = tls_alert_hint(bytes[1]);
    snprintf(handshake->reason, sizeof(handshake->reason), "it refused with alert %s (%u)%s%s",
             tls_alert_name(bytes[1]), bytes[1], *hint ? ": " : "", hint);
    return -tls_alert_errno(bytes[1]);
}

/* Handles the whole messages at the front of `in`; `length` bytes are there. */
static int take_messages(struct tls_handshake *handshake, size_t length)
{
    size_t done = 0;

    while (length - done >= 4) {
        const uint8_t *bytes = handshake->in + done;
        size_t body = (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
        struct tls_handshake_message message = {.type = bytes[0], .body = bytes + 4, .length = body,
                                                .whole = bytes, .whole_length = 4 + body};
        int rc;

        if (body > TLS_HANDSHAKE_IN - TLS_SEALED_SIZE(4))
            return tls_handshake_fail(handshake, TLS_ALERT_DECODE_ERROR, "a message is too long");
        if (length - done - 4 < body)
            break;
        done += 4 + body;
        message.last = done == length;
        if (handshake->state == TLS_DONE)
            return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                      "it goes on after its Finished");
        rc = handshake->server ? tls_server_message(handshake, &message)
                               : tls_client_message(handshake, &message);
        if (rc)
            return rc;
    }
    memmove(handshake->in, handshake->in + done, length - done);
    handshake->in_length = length - done;
    if (!handshake->in_length)
        drop_in(handshake);
    return 0;
}

/* Opens the record in place: its type and where its content begins; or 1: it is early data, to be skipped. */
static int open_record(struct tls_handshake *handshake, uint8_t *record, size_t length,
                       enum tls_content *ret_type, uint8_t **ret_content, size_t *ret_length)
{
    struct tls_opened opened;
    int alert;

    *ret_type = record[0];
    *ret_content = record + TLS_RECORD_HEADER;
    *ret_length = length - TLS_RECORD_HEADER;
    if (!handshake->sealed_in)
        return *ret_type == TLS_APPLICATION_DATA
                   ? tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                        "it sends data before there are keys")
                   : 0;
    if (*ret_type == TLS_CHANGE_CIPHER_SPEC)
        return 0;
    /* A peer that could not make the keys says why in the clear. */
    if (*ret_type == TLS_ALERT && handshake->secrets->receive.sequence == 0)
        return 0;
    alert = tls_open(&handshake->secrets->receive, record, length, &opened);
    if (alert == TLS_ALERT_BAD_RECORD_MAC && handshake->early) {
        drop_in(handshake);
        return 1;
    }
    handshake->early = false; /* section 4.2.10: from here on it is the client's second flight */
    if (alert != TLS_OK)
        return tls_handshake_fail(handshake, alert, "a record was changed on its way, or a key is wrong");
    if (opened.type == TLS_CHANGE_CIPHER_SPEC) /* section 5: it is for who cannot look inside */
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE, "it sealed a change_cipher_spec");
    *ret_type = opened.type;
    *ret_length = opened.length;
    tls_take(&handshake->secrets->receive, &opened, *ret_content, opened.length);
    return 0;
}

int tls_handshake_record(struct tls_handshake *handshake, size_t length)
{
    uint8_t *record = tls_handshake_room(handshake), *content;
    enum tls_content type;
    size_t content_length;
    int rc = open_record(handshake, record, length, &type, &content, &content_length);

    if (rc)
        return rc < 0 ? rc : 0;
    if (!content_length) /* sections 5.1 and 5.4 */
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE, "it sent an empty record");
    switch (type) {
    case TLS_CHANGE_CIPHER_SPEC: /* section 5: means nothing, and is allowed after the first hello */
        if (content_length == 1 && content[0] == 1 && !handshake->in_length &&
            (handshake->state != TLS_WAIT_CLIENT_HELLO || handshake->retried))
            return 0;
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                  "it sent change_cipher_spec out of place");
    case TLS_ALERT:
        return take_alert(handshake, content, content_length);
    case TLS_HANDSHAKE:
        memmove(record, content, content_length);
        return take_messages(handshake, handshake->in_length + content_length);
    default:
        return tls_handshake_fail(handshake, TLS_ALERT_UNEXPECTED_MESSAGE,
                                  "it sent a record of type %d during the handshake", type);
    }
}

void tls_secrets_settle(struct tls_secrets *secrets)
{
    sodium_memzero(secrets, offsetof(struct tls_secrets, client_traffic));
}
