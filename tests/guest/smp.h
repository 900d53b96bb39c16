/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processors beside the one that booted.
 */
#pragma once

/* Each of the others has a stack of so many bytes, SMP_MAX in all with the first. */
#define SMP_STACK_BYTES 4096
#define SMP_MAX 8

#ifndef __ASSEMBLER__

#include <stdint.h>

/* Starts processors 1 to @cpus - 1; each calls smp_main(). Returns how many run
 * in all, when all do or after a second. clock_start_timer() must have been called. */
uint32_t smp_start(uint32_t cpus);

/* The stack of processor @number, which is not 0. */
char *smp_stack(uint32_t number);

/* The program of the others, in main.c. Does not return. */
void smp_main(uint32_t number);

#endif
