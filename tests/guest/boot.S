/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the test guest comes up: a multiboot header for the loader, a flat
 * address space and a stack for the C code, the way there for the other
 * processors, and the interrupts that are taken.
 */
#include "apic.h"
#include "lowmem.h"
#include "smp.h"

        .set MAGIC, 0x1badb002
        .set FLAGS, 0x00000003          /* page-aligned modules, memory map */
        .set STACK_BYTES, 16384
        .set CODE_SEGMENT, 0x08
        .set DATA_SEGMENT, 0x10

        .section .multiboot, "a"
        .balign 4
        .long MAGIC, FLAGS, -(MAGIC + FLAGS)

        .section .bss
        .balign 16
stack:  .skip STACK_BYTES
stack_top:

        .section .bss.others, "aw", @nobits
        .balign 4096
        .globl ap_stacks
ap_stacks:
        .skip (SMP_MAX - 1) * SMP_STACK_BYTES

        .section .data
        .balign 8
gdt:    .quad 0                         /* the null descriptor */
        .quad 0x00cf9b000000ffff        /* CODE_SEGMENT: 4 GiB, 32 bit */
        .quad 0x00cf93000000ffff        /* DATA_SEGMENT: 4 GiB */
gdt_register:
        .word . - gdt - 1
        .long gdt
        .balign 4
        .globl ap_wanted, ap_running
ap_wanted:
        .long 0
ap_running:
        .long 0
ap_number:
        .long 0                         /* of the last one that came this far */

        .macro load_data_segments
        movw $DATA_SEGMENT, %cx
        movw %cx, %ds
        movw %cx, %es
        movw %cx, %fs
        movw %cx, %gs
        movw %cx, %ss
        .endm

        .text
        .globl _start
_start:
        cli
        cld
        lgdt gdt_register
        ljmp $CODE_SEGMENT, $1f
1:      load_data_segments
        movl $stack_top, %esp
        pushl %ebx                      /* the loader's information */
        pushl %eax                      /* the loader's magic number */
        call guest_main
2:      cli
        hlt
        jmp 2b

/* Another processor begins here, in real mode, in a copy at LOWMEM_AP_CODE. */
        .globl ap_code, ap_code_end
ap_code:
        .code16
        cli
        cld
        movw %cs, %ax
        movw %ax, %ds
        lgdtl ap_gdt_register - ap_code
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $CODE_SEGMENT, $ap_start
ap_gdt_register:
        .word gdt_register - gdt - 1
        .long gdt
ap_code_end:

        .code32
ap_start:
        load_data_segments
        movl $1, %eax
        lock xaddl %eax, ap_number
        cmpl ap_wanted, %eax
        jae 2b                          /* one more than asked for */
        incl %eax                       /* its number; the first processor is 0 */
        movl %eax, %ecx
        imull $SMP_STACK_BYTES, %ecx
        leal ap_stacks(%ecx), %esp
        pushl %eax
        lock incl ap_running
        call smp_main

/* The timer wakes a halted guest; nothing else is to be done. */
        .globl timer_interrupt
timer_interrupt:
        pushl %eax
        movb $0x20, %al                 /* end of interrupt */
        outb %al, $0x20
        popl %eax
        iret

/* The same of a processor that has its own timer. */
        .globl local_timer_interrupt
local_timer_interrupt:
        movl $0, APIC_BASE + APIC_END_OF_INTERRUPT
        .globl spurious_interrupt
spurious_interrupt:
        iret

        .section .note.GNU-stack, "", @progbits
