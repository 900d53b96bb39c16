/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the test guest comes up: a multiboot header for the loader, a flat
 * address space and a stack for the C code, and the one interrupt it takes.
 */
        .set MAGIC, 0x1badb002
        .set FLAGS, 0x00000003          /* page-aligned modules, memory map */
        .set STACK_BYTES, 16384

        .section .multiboot, "a"
        .balign 4
        .long MAGIC, FLAGS, -(MAGIC + FLAGS)

        .section .bss
        .balign 16
stack:  .skip STACK_BYTES
stack_top:

        .section .data
        .balign 8
gdt:    .quad 0                         /* the null descriptor */
        .quad 0x00cf9b000000ffff        /* 0x08: code, 4 GiB, 32 bit */
        .quad 0x00cf93000000ffff        /* 0x10: data, 4 GiB */
gdt_register:
        .word . - gdt - 1
        .long gdt

        .text
        .globl _start
_start:
        cli
        cld
        lgdt gdt_register
        ljmp $0x08, $1f
1:      movw $0x10, %cx
        movw %cx, %ds
        movw %cx, %es
        movw %cx, %fs
        movw %cx, %gs
        movw %cx, %ss
        movl $stack_top, %esp
        pushl %ebx                      /* the loader's information */
        pushl %eax                      /* the loader's magic number */
        call guest_main
2:      cli
        hlt
        jmp 2b

/* The timer wakes a halted guest; nothing else is to be done. */
        .globl timer_interrupt
timer_interrupt:
        pushl %eax
        movb $0x20, %al                 /* end of interrupt */
        outb %al, $0x20
        popl %eax
        iret

        .section .note.GNU-stack, "", @progbits
