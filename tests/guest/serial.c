/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two 16550 serial ports, polled. Output goes through a ring so that a report
 * of some hundred bytes does not hold up the memory touches it reports about.
 */
#include "serial.h"

#include "cpu.h"

enum {
    COM1 = 0x3f8,
    COM2 = 0x2f8,

    REG_DATA = 0,
    REG_INTERRUPTS = 1,
    REG_FIFO = 2,
    REG_LINE = 3,
    REG_MODEM = 4,
    REG_STATUS = 5,
    REG_SCRATCH = 7,

    STATUS_RECEIVED = 0x01,
    STATUS_CAN_SEND = 0x20,
    FIFO_BYTES = 16,
    RING_BYTES = 8192,
};

static uint8_t ring[RING_BYTES];
static uint32_t ring_head;              /* next to be written; both run on without a bound */
static uint32_t ring_tail;              /* next to be sent */
static uint16_t line_sum;
static int have_com2;

static void
port_setup(uint16_t port)
{
    port_write(port + REG_INTERRUPTS, 0);
    port_write(port + REG_LINE, 0x80);  /* the divisor shows in the first two registers */
    port_write(port + REG_DATA, 1);     /* 115200 */
    port_write(port + REG_INTERRUPTS, 0);
    port_write(port + REG_LINE, 0x03);  /* 8 bits, no parity */
    port_write(port + REG_FIFO, 0x07);
    port_write(port + REG_MODEM, 0x03);
}

void
serial_init(void)
{
    port_setup(COM1);
    port_write(COM2 + REG_SCRATCH, 0x5a);
    have_com2 = port_read(COM2 + REG_SCRATCH) == 0x5a;
    if (have_com2)
        port_setup(COM2);
}

static void
echo_com2(void)
{
    if (!(port_read(COM2 + REG_STATUS) & STATUS_RECEIVED))
        return;
    port_write(COM2 + REG_DATA, port_read(COM2 + REG_DATA));
}

void
serial_pump(void)
{
    if (have_com2)
        echo_com2();
    if (ring_tail == ring_head || !(port_read(COM1 + REG_STATUS) & STATUS_CAN_SEND))
        return;
    for (int i = 0; i < FIFO_BYTES && ring_tail != ring_head; i++)
        port_write(COM1 + REG_DATA, ring[ring_tail++ % RING_BYTES]);
}

void
serial_flush(void)
{
    while (ring_tail != ring_head)
        serial_pump();
}

static void
line_char(char c)
{
    while (ring_head - ring_tail == RING_BYTES)
        serial_pump();
    ring[ring_head++ % RING_BYTES] = (uint8_t) c;
    line_sum += (uint8_t) c;
}

void
line_begin(const char *text)
{
    line_sum = 0;
    line_text(text);
}

void
line_text(const char *text)
{
    while (*text)
        line_char(*text++);
}

void
line_number(uint64_t number)
{
    char digits[20];
    int n = 0;

    do {
        uint64_t rest = divide(number, 10);

        digits[n++] = (char) ('0' + (uint32_t) (number - rest * 10));
        number = rest;
    } while (number);
    while (n)
        line_char(digits[--n]);
}

void
line_hex(uint32_t number)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        line_char("0123456789abcdef"[number >> shift & 15]);
}

void
line_address(uint64_t address)
{
    if (address >> 32)
        line_hex((uint32_t) (address >> 32));
    line_hex((uint32_t) address);
}

void
line_field(const char *key, uint64_t number)
{
    line_char(' ');
    line_text(key);
    line_char('=');
    line_number(number);
}

void
line_end(void)
{
    uint16_t sum = line_sum;

    line_text(" #");
    line_hex(sum);
    line_text("\r\n");
}
