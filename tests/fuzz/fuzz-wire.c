/* SPDX-License-Identifier: BSD-2-Clause */
/* Frame headers: whatever is accepted is within its bounds and encodes to the same bytes. */
#include "migrate/wire.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char payload[WIRE_PAYLOAD_MAX];
    char bytes[WIRE_HEADER_SIZE];
    struct wire_header header;

    if (size < WIRE_HEADER_SIZE || wire_decode(data, &header))
        return 0;
    assert(header.length <= WIRE_PAYLOAD_MAX);
    assert(header.type < WIRE_DATA || header.device < WIRE_DEVICES_MAX);
    assert(strcmp(wire_type_name(header.type), "unknown"));
    size -= WIRE_HEADER_SIZE;
    memset(payload, 0, header.length);
    memcpy(payload, data + WIRE_HEADER_SIZE, size < header.length ? size : header.length);
    wire_check(data, 0, header.sequence);
    wire_verify(data, &header, 0, payload);
    wire_encode(&header, 0, payload, bytes);
    assert(!memcmp(bytes, data, 36)); /* all but check and checksum */
    assert(!wire_check(bytes, 0, header.sequence));
    assert(!wire_verify(bytes, &header, 0, payload));
    return 0;
}
