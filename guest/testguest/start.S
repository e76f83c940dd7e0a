/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry of the test guest. A PVH loader (QEMU) enters start32 in protected mode with the start info in
 * EBX; a loader that follows Linux's 64-bit boot protocol (Firecracker) enters start64 with the zero
 * page in RSI. Both ways end in guest_main(info, kind) on our own stack, descriptors and page tables,
 * so that nothing of the loader's memory is needed once the command line has been copied.
 */
#include "boot.h"

#define STACK_SIZE 8192
#define PAGE_DIRS MAPPED_GIB

/* Identity map of MAPPED_GIB GiB in 2 MiB pages. Only stos, which means the same in both modes. */
.macro build_page_tables
        mov     $pml4, %edi
        mov     $(pdpt + 3), %eax
        stosl
        mov     $pdpt, %edi
        mov     $(page_dirs + 3), %eax
        mov     $PAGE_DIRS, %ecx
1:      stosl
        add     $4, %edi
        add     $4096, %eax
        dec     %ecx
        jnz     1b
        mov     $page_dirs, %edi
        xor     %edx, %edx
        mov     $(PAGE_DIRS * 512), %ecx
2:      mov     %edx, %eax
        or      $0x83, %eax
        stosl
        xor     %eax, %eax
        stosl
        add     $0x200000, %edx
        dec     %ecx
        jnz     2b
.endm

.macro clear_bss
        mov     $__bss_start, %edi
        mov     $__bss_end, %ecx
        sub     %edi, %ecx
        xor     %eax, %eax
        rep stosb
.endm

#ifdef WITH_PVH
        .section .note.Xen, "a", @note
        .align  4
        .long   4                       /* name size */
        .long   4                       /* descriptor size */
        .long   18                      /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   start32
#endif

        .section .text.start, "ax"
        .code32
        .globl  start32
start32:
        cli
        cld
        clear_bss
        build_page_tables
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        or      $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx       /* EFER */
        rdmsr
        or      $0x100, %eax            /* LME */
        wrmsr
        mov     %cr0, %eax
        or      $0x80000001, %eax       /* PG, PE */
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $8, $from32

        .code64
from32:
        mov     %ebx, %ebx
        mov     %rbx, %r12
        mov     $BOOT_PVH, %r13d
        jmp     common

        .globl  start64
start64:
        cli
        cld
        mov     %rsi, %r12
        mov     $BOOT_LINUX, %r13d
        clear_bss
        build_page_tables
        mov     $pml4, %eax
        mov     %rax, %cr3
        lgdt    gdt_pointer
        pushq   $8                      /* the loader's stack pointer is ours to use until here */
        mov     $common, %eax
        push    %rax
        lretq
common:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_top, %esp
        mov     %r12, %rdi
        mov     %r13d, %esi
        call    guest_main
3:      hlt
        jmp     3b

        .section .data
        .align  8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      /* 64-bit code */
        .quad   0x00cf93000000ffff      /* data */
gdt_pointer:
        .word   . - gdt - 1
        .quad   gdt

        .section .bss
        .align  4096
pml4:   .skip   4096
pdpt:   .skip   4096
page_dirs:
        .skip   4096 * PAGE_DIRS
        .skip   STACK_SIZE
stack_top:

        .section .note.GNU-stack, "", @progbits
