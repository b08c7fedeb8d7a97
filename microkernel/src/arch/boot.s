# The kernel's entries. Both protocols come in 32-bit protected mode, paging off, EBX = address of what they hand over:
# PVH (Xen's x86/HVM direct boot ABI) by its ELF note, Multiboot2 (specification 2.0, 3.3: EAX = magic) at the ELF entry.
.section .note.pvh, "a", @note
.align 4
.long 4, 4, 18                      # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long _pvh_start

.section .multiboot2, "a", @progbits
.align 8
multiboot2_header:                  # in the first 32 KiB of the file (3.1)
    .long 0xe85250d6, 0, multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    .short 6, 0                     # modules begin at pages
    .long 8
    .short 0, 0                     # end
    .long 8
multiboot2_header_end:

.section .boot.text, "ax", @progbits
.code32
.global _pvh_start
_pvh_start:
    xor eax, eax
.global multiboot2_start
multiboot2_start:
    cli
    cld
    mov esp, offset boot_stack_top
    mov esi, eax
    # First 1 GiB at 0 and at -2 GiB, in 2 MiB pages; the kernel builds its own tables later.
    mov eax, offset boot_pdpt
    or eax, 3
    mov dword ptr [boot_pml4], eax
    mov dword ptr [boot_pml4 + 511*8], eax
    mov eax, offset boot_pd
    or eax, 3
    mov dword ptr [boot_pdpt], eax
    mov dword ptr [boot_pdpt + 510*8], eax
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov dword ptr [boot_pd + ecx*8], eax
    inc ecx
    cmp ecx, 512
    jb 2b
    mov edi, offset boot_pml4
    mov ebp, offset bsp_entry
    jmp enter_long_mode

# Common to all cores: EDI = CR3, EBP = 64-bit address below 4 GiB to go on at. Keeps EBX and ESI.
.global enter_long_mode
enter_long_mode:
    mov eax, cr4
    or eax, 0x20                    # PAE
    mov cr4, eax
    mov cr3, edi
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901                   # EFER: SCE | LME | NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             # caches on (CD and NW clear)
    or eax, 0x80010023              # PG | WP | NE | MP | PE
    mov cr0, eax
    lgdt [boot_gdt_ptr]
    push 8
    push ebp
    retf

# The rest of a core's start, which does not come back: RAX = top of the stack.
.macro BEGIN function
    mov rsp, rax
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor ebp, ebp                    # ends backtraces
    movabs rax, offset \function
    call rax
.endm

.code64
bsp_entry:
    mov edi, esi                    # the loader's magic, 0 for PVH
    mov esi, ebx
    movabs rax, offset boot_kernel_stack_top
    BEGIN kernel_main

ap_entry:
    movabs rax, offset ap_stack_top
    mov rax, [rax]
    BEGIN ap_main

# Copied to a page below 1 MiB; a STARTUP IPI begins here in real mode with CS = page >> 4 (SDM vol. 3, 9.4).
.section .boot.data, "aw", @progbits
.global ap_trampoline
.global ap_trampoline_end
.code16
ap_trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x0f, 0x01, 0x16          # lgdt [ds:offset]
    .word ap_gdt_ptr - ap_trampoline
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea                # far jump, 32-bit offset
    .long ap_protected
    .word 0x18
ap_gdt_ptr: .word 4*8 - 1
    .long boot_gdt
ap_trampoline_end:

.section .boot.text
.code32
ap_protected:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, offset boot_stack_top
    mov edi, offset boot_pml4
    mov ebp, offset ap_entry
    jmp enter_long_mode
.code64

.section .boot.data
.align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08 64-bit code
    .quad 0x00cf93000000ffff        # 0x10 data
    .quad 0x00cf9b000000ffff        # 0x18 32-bit code
boot_gdt_ptr: .word . - boot_gdt - 1
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.align 4096
.global boot_pml4
boot_pml4: .skip 4096
.global boot_pdpt
boot_pdpt: .skip 4096
boot_pd:   .skip 4096
boot_stack: .skip 1024
boot_stack_top:

.section .bss
.align 4096
.global boot_stack_guard
boot_stack_guard: .skip 4096        # arch::memory takes its mapping away
    .skip 32768
boot_kernel_stack_top:
.global ap_stack_top
ap_stack_top: .skip 8
