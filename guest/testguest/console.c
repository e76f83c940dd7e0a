/* SPDX-License-Identifier: BSD-2-Clause */
/* The serial port at 0x3f8, polled. A host that does not read costs a line, never the guest. */
#include "console.h"

#define PORT 0x3f8
#define LINE_STATUS (PORT + 5)
#define THR_EMPTY 0x20

static char line[256];
static unsigned length;
static int cut; /* the last line was not sent to its end */
static uint64_t patience;

static void port_write(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t port_read(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

void console_init(uint64_t ticks)
{
    patience = ticks;
    port_write(PORT + 1, 0);    /* no interrupts */
    port_write(PORT + 3, 0x80); /* divisor latch */
    port_write(PORT + 0, 1);    /* 115200 */
    port_write(PORT + 1, 0);
    port_write(PORT + 3, 3); /* 8n1 */
    port_write(PORT + 2, 7); /* FIFOs on and empty */
    port_write(PORT + 4, 3); /* DTR, RTS */
}

static void put(char c)
{
    if (length < sizeof(line) - 1)
        line[length++] = c;
}

void console_text(const char *text)
{
    while (*text)
        put(*text++);
}

static void put_number(uint64_t number, unsigned base)
{
    char digits[20];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    while (n)
        put(digits[--n]);
}

void console_decimal(uint64_t number)
{
    put_number(number, 10);
}

void console_hex(uint64_t number)
{
    put_number(number, 16);
}

static int send(char c, uint64_t start)
{
    while (!(port_read(LINE_STATUS) & THR_EMPTY))
        if (read_tsc() - start > patience)
            return 0;
    port_write(PORT, (uint8_t)c);
    return 1;
}

void console_end_line(void)
{
    uint64_t start = read_tsc();
    unsigned sent = 0;

    put('\n');
    /* What is left of a cut line must not run into this one. */
    if (cut && !send('\n', start)) {
        length = 0;
        return;
    }
    while (sent < length && send(line[sent], start))
        sent++;
    cut = sent < length;
    length = 0;
}
