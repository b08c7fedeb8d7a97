# Entry from and return to user mode. A core in user mode has its registers' home in the frame (abi::Regs) at
# gs:[FRAME]; the CPU (through TSS.RSP0) and the code here push straight into it. The kernel itself runs on one
# stack per core and is not preemptible; the only interrupts in kernel mode come from the idle loop and from spin waits.

.text
.code64

.set FRAME, 8            # Core::frame_top: address just behind Regs::ss of the current frame
.set KSTACK, 16          # Core::kernel_stack
.set SCRATCH, 24         # Core::scratch

.set REGS_RIP, 16*8
.set REGS_RFLAGS, 18*8
.set REGS_RSP, 19*8
.set REGS_TOP, 21*8           # size of the frame up to and with ss

.macro SAVE_FROM_RSI
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm

.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[SCRATCH], rsp
    mov rsp, gs:[FRAME]
    push 0x23                       # ss
    push gs:[SCRATCH]               # rsp
    push r11                        # rflags
    push 0x2b                       # cs
    push rcx                        # rip
    push rax                        # orig_rax
    push rdi
    SAVE_FROM_RSI
    mov rdi, rsp
    mov rsp, gs:[KSTACK]
    xor ebp, ebp
    call handle_syscall
    jmp return_to_user

# One 16-byte stub per vector. The call's return address tells the vector and lies where rdi belongs.
.align 16
.global trap_stubs
trap_stubs:
.set v, 0
.rept 256
    .align 16
    .if v == 8 || v == 10 || v == 11 || v == 12 || v == 13 || v == 14 || v == 17 || v == 21 || v == 29 || v == 30
    .else
        push -1
    .endif
    .if v == 2 || v == 8 || v == 18
        call paranoid_common
    .else
        call trap_common
    .endif
    .set v, v + 1
.endr

.align 16
trap_common:
    xchg rdi, [rsp]
    sub rdi, offset trap_stubs
    shr edi, 4
    test byte ptr [rsp + 3*8], 3    # cs, above rdi, orig_rax, rip
    jz trap_from_kernel
    swapgs
    SAVE_FROM_RSI
    mov rsi, rsp
    mov rsp, gs:[KSTACK]
    cld
    xor ebp, ebp
    call handle_trap
    jmp return_to_user

# NMI, double fault, machine check: on stacks of their own (IST), at any instruction, with either GS base. Neither cs nor
# the sign of the base tells whose it is (user mode may set one in the upper half): the kernel's lies above the frame,
# where Tables::load put it, and what was there comes back.
paranoid_common:
    xchg rdi, [rsp]
    sub rdi, offset trap_stubs
    shr edi, 4
    SAVE_FROM_RSI
    mov rsi, rsp
    cld
    mov ecx, 0xc0000101             # GS base (by MSR: FSGSBASE is not on yet while a core starts)
    rdmsr
    mov r12d, eax
    mov r13d, edx
    mov eax, [rsp + REGS_TOP]
    mov edx, [rsp + REGS_TOP + 4]
    wrmsr
    mov rbx, rsp
    and rsp, -16
    call handle_paranoid_trap
    mov rsp, rbx
    mov ecx, 0xc0000101
    mov eax, r12d
    mov edx, r13d
    wrmsr
    jmp restore_and_iret

trap_from_kernel:
    SAVE_FROM_RSI
    mov rsi, rsp
    cld
    mov rbx, rsp
    and rsp, -16
    call handle_kernel_trap
    mov rsp, rbx
restore_and_iret:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    add rsp, 8
    iretq

# Load the current frame. The frame may be shared with Linux, which may write it at any time from another core: what
# decides about privilege (cs, ss, rip, rflags) is checked in registers and goes to the kernel's own stack.
.global return_to_user
return_to_user:
    mov rsp, gs:[KSTACK]
    mov rdx, gs:[FRAME]
    sub rdx, REGS_TOP
    mov rcx, [rdx + REGS_RIP]
    mov r11, [rdx + REGS_RFLAGS]
    mov rax, rcx
    shr rax, 47
    jnz 3f                          # not in the lower half: see below
2:  and r11d, {flags_user}
    or r11d, 0x202
    push 0x23
    push qword ptr [rdx + REGS_RSP]
    push r11
    push 0x2b
    push rcx
    mov rsp, rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    mov rsp, gs:[KSTACK]
    lea rsp, [rsp - 40]
    swapgs
    iretq
    # IRETQ to a non-canonical address would fault in kernel mode; an upper-half address faults in user mode as it
    # should, but is folded likewise: the user sees a fault at the last byte of the lower half.
3:  mov rcx, 0x00007fffffffffff
    jmp 2b

# Upcall into a vCPU's kernel mode: rdi = rip, rsi = rsp. All other registers are cleared: they hold kernel values.
.global enter_upcall
enter_upcall:
    mov rcx, rdi
    mov rax, rcx
    shr rax, 47
    jz 4f
    mov rcx, 0x00007fffffffffff
4:  mov rsp, rsi
    mov r11d, 0x202
    xor eax, eax
    xor ebx, ebx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    swapgs
    sysretq

# Wait for an interrupt: rdi = 0. The interrupt lands in trap_from_kernel and returns to behind the hlt.
.global halt_until_interrupt
halt_until_interrupt:
    sti
    hlt
    cli
    ret

# bool xrstor_checked(const u8 *area, u32 mask): 0 where the CPU refused the area (handle_kernel_trap goes to the fixup).
.global xrstor_checked
.global xrstor_instruction
.global xrstor_fixup
xrstor_checked:
    mov eax, esi
    xor edx, edx
xrstor_instruction:
    xrstor64 [rdi]
    mov eax, 1
    ret
xrstor_fixup:
    xor eax, eax
    ret
