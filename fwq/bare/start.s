# Entry of the bare floor: from PVH's 32-bit protected mode to long mode, on the first core and on the others.
# PVH: Xen's docs/misc/pvh. Mode switches and the start-up IPI: Intel SDM volume 3, 9.8.5 and 8.4.

    .section .note.pvh, "a"
    .long 4, 4, 18              # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start

    .text
    .code32
    .globl _start
_start:
    cli
    movl $boot_stack_end, %esp
    movl %ebx, start_info       # physical address of struct hvm_start_info
    # Identity map of the first 4 GiB in 2 MiB pages: memory and the local APIC at 0xfee00000.
    movl $pdpt + 3, pml4
    movl $pds + 3, %eax
    movl $pdpt, %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 1b
    movl $0x83, %eax            # present, writable, 2 MiB
    movl $pds, %edi
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    # Copy the other cores' first instructions below 1 MiB, where the start-up IPI can point.
    movl $trampoline, %esi
    movl $0x8000, %edi
    movl $trampoline_end - trampoline, %ecx
    rep movsb
    movl $boot64, %edx
    jmp to_long_mode

# To 64-bit code at %edx, with the flat GDT.
to_long_mode:
    movl $0x20, %eax            # CR4.PAE
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      # EFER
    pushl %edx
    rdmsr
    popl %edx
    orl $0x100, %eax            # LME
    pushl %edx
    xorl %edx, %edx
    wrmsr
    popl %edx
    movl %cr0, %eax
    orl $0x80000001, %eax       # PG, PE
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $1f
    .code64
1:  movl %edx, %eax
    xorl %edx, %edx
    movl $16, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %ss
    jmp *%rax

boot64:
    leaq boot_stack_end(%rip), %rsp
    movl start_info(%rip), %edi
    call bare_main              # does not return

# The other cores. Each takes the next stack; its core number is its local APIC id.
    .code32
ap32:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $4096, %eax
    lock xaddl %eax, next_stack
    leal 4096(%eax), %esp
    movl $ap64, %edx
    movl %esp, %ebp
    jmp to_long_mode
    .code64
ap64:
    movl %ebp, %esp
    movl $0xfee00020, %eax      # local APIC id, bits 31 to 24
    movl (%rax), %edi
    shrl $24, %edi
    call bare_core              # does not return

    .code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x8000 + gdt_pointer_low - trampoline
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $24, $ap32
    .p2align 2
gdt_pointer_low:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .section .rodata
    .p2align 3
gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # 8: 64-bit code
    .quad 0x00cf92000000ffff    # 16: data
    .quad 0x00cf9a000000ffff    # 24: 32-bit code
gdt_end:
    .p2align 2
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .data
next_stack:
    .long stacks

    .bss
    .p2align 12
pml4:   .skip 4096
pdpt:   .skip 4096
pds:    .skip 4 * 4096
boot_stack:
    .skip 8192
boot_stack_end:
stacks: .skip 256 * 4096
start_info:
    .skip 8
