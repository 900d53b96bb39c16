/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Wakes the other processors: all are reset, then told to start at a page below
 * 1 MiB, where a few instructions (boot.S) bring them into the first one's world.
 */
#include "smp.h"

#include "apic.h"
#include "clock.h"
#include "cpu.h"
#include "lowmem.h"

enum {
    RESET_MS = 10,
    START_MS = 1000,
};

extern const char ap_code[], ap_code_end[];
extern char ap_stacks[];
extern volatile uint32_t ap_wanted, ap_running;

static void
wait_ms(uint32_t ms)
{
    uint64_t end = cpu_ticks() + (uint64_t) clock_khz() * ms;

    while (cpu_ticks() < end)
        ;
}

uint32_t
smp_start(uint32_t cpus)
{
    volatile char *to = (volatile char *) LOWMEM_AP_CODE;

    if (cpus > SMP_MAX)
        cpus = SMP_MAX;
    if (cpus < 2)
        return 1;
    for (const char *from = ap_code; from < ap_code_end; from++)
        *to++ = *from;
    ap_wanted = cpus - 1;
    apic_write(APIC_SPURIOUS, APIC_ENABLE | CLOCK_SPURIOUS_VECTOR);
    apic_write(APIC_COMMAND, APIC_INIT_OTHERS);
    wait_ms(RESET_MS);
    apic_write(APIC_COMMAND, APIC_START_OTHERS | LOWMEM_AP_CODE >> 12);
    for (int ms = 0; ms < START_MS && ap_running < ap_wanted; ms++)
        wait_ms(1);
    return 1 + (ap_running < ap_wanted ? ap_running : ap_wanted);
}

char *
smp_stack(uint32_t number)
{
    return ap_stacks + (number - 1) * SMP_STACK_BYTES;
}
