/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The serial lines: reports leave by the first one, in the background; the
 * second one, if the machine has it, sends back what it receives.
 */
#pragma once

#include <stdint.h>

void serial_init(void);

/* Starts a line of output; what follows up to line_end() belongs to it.
 * Nothing waits for the line to be sent unless the buffer is full. */
void line_begin(const char *text);
void line_text(const char *text);
void line_number(uint64_t number);
void line_hex(uint32_t number);

/* In hexadecimal, with eight digits or sixteen. */
void line_address(uint64_t address);

/* " key=number" */
void line_field(const char *key, uint64_t number);

/* Ends the line with " #" and the sum of its bytes in hexadecimal: a line torn
 * when the guest changed hosts in the middle of it does not fit its sum. */
void line_end(void);

/* Sends what the device takes without waiting. Call it often. */
void serial_pump(void);

/* Sends everything that is buffered. */
void serial_flush(void);
