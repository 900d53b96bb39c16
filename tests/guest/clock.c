/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interval timer (8254) in two uses: its third channel as the measure for
 * the tick counter, its first as the interrupt that ends an idle millisecond.
 * The other processors do not get that interrupt and have timers of their own.
 */
#include "clock.h"

#include "apic.h"
#include "cpu.h"

enum {
    PIT_CHANNEL0 = 0x40,
    PIT_CHANNEL2 = 0x42,
    PIT_COMMAND = 0x43,
    PIT_HZ = 1193182,
    SPEAKER = 0x61,
    SPEAKER_GATE = 0x01,                /* lets channel 2 count */
    SPEAKER_DATA = 0x02,
    SPEAKER_OUT = 0x20,                 /* channel 2 has reached zero */

    CALIBRATION_MS = 50,

    PIC1 = 0x20,
    PIC2 = 0xa0,
    TIMER_VECTOR = 0x20,
    TIMER_VECTORS = 8,                  /* the first controller's eight lines */
    LOCAL_TIMER_VECTOR = 0x30,
    LOCAL_TIMER_HZ = 1000000000,        /* as QEMU has it */
    IDT_ENTRIES = CLOCK_SPURIOUS_VECTOR + 1,
};

typedef struct Gate {
    uint16_t offset_low;
    uint16_t selector;
    uint16_t type;
    uint16_t offset_high;
} Gate;

static Gate idt[IDT_ENTRIES];
static uint32_t khz;

void timer_interrupt(void);
void local_timer_interrupt(void);
void spurious_interrupt(void);

void
clock_init(void)
{
    uint16_t count = PIT_HZ / 1000 * CALIBRATION_MS;
    uint64_t start;

    port_write(SPEAKER, (port_read(SPEAKER) & ~SPEAKER_DATA) | SPEAKER_GATE);
    port_write(PIT_COMMAND, 0xb0);      /* channel 2, both bytes, count down once */
    port_write(PIT_CHANNEL2, count & 0xff);
    port_write(PIT_CHANNEL2, count >> 8);
    start = cpu_ticks();
    while (!(port_read(SPEAKER) & SPEAKER_OUT))
        ;
    khz = (uint32_t) divide(cpu_ticks() - start, CALIBRATION_MS);
    if (khz == 0)
        khz = 1;
}

uint32_t
clock_khz(void)
{
    return khz;
}

uint32_t
clock_us(uint64_t ticks)
{
    uint64_t us;

    if (ticks >> 50)                    /* ticks * 1000 must fit */
        return UINT32_MAX;
    us = divide(ticks * 1000, khz);
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t) us;
}

static void
pic_setup(void)
{
    port_write(PIC1, 0x11);
    port_write(PIC1 + 1, TIMER_VECTOR);
    port_write(PIC1 + 1, 0x04);
    port_write(PIC1 + 1, 0x01);
    port_write(PIC1 + 1, 0xfe);         /* the timer's line alone */
    port_write(PIC2 + 1, 0xff);
}

static void
take_interrupts(int vector, void (*handler)(void))
{
    uint32_t at = (uint32_t) handler;

    idt[vector] = (Gate) { at & 0xffff, 0x08, 0x8e00, at >> 16 };
}

static void
load_idt(void)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } idt_register = { sizeof idt - 1, (uint32_t) idt };

    __asm__ volatile("lidt %0" : : "m"(idt_register));
}

void
clock_start_timer(void)
{
    uint16_t count = PIT_HZ / 1000;

    for (int i = 0; i < TIMER_VECTORS; i++)
        take_interrupts(TIMER_VECTOR + i, timer_interrupt);
    take_interrupts(LOCAL_TIMER_VECTOR, local_timer_interrupt);
    take_interrupts(CLOCK_SPURIOUS_VECTOR, spurious_interrupt);
    load_idt();
    pic_setup();
    port_write(PIT_COMMAND, 0x34);      /* channel 0, both bytes, repeating */
    port_write(PIT_CHANNEL0, count & 0xff);
    port_write(PIT_CHANNEL0, count >> 8);
}

void
clock_start_local_timer(void)
{
    load_idt();
    apic_write(APIC_SPURIOUS, APIC_ENABLE | CLOCK_SPURIOUS_VECTOR);
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
    apic_write(APIC_TIMER, APIC_PERIODIC | LOCAL_TIMER_VECTOR);
    apic_write(APIC_TIMER_START, LOCAL_TIMER_HZ / 1000);
}

void
clock_idle(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}
