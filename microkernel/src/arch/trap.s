# Entry from and return to user mode. A core in user mode has its registers' home in the frame (abi::Regs) at
# gs:[FRAME]; the CPU (through TSS.RSP0) and the code here push straight into it. The kernel itself runs on one
# stack per core and is not preemptible; the only interrupts in kernel mode come from the idle loop and from spin waits.

.text
.code64

.set THIS, 0             # Core::this
.set CURRENT, 32         # Core::current
.set FRAME, 8            # Core::frame_top: address just behind Regs::ss of the current frame
.set KSTACK, 16          # Core::kernel_stack
.set SCRATCH, 24         # Core::scratch

.set at_r15, 0*8
.set at_r14, 1*8
.set at_r13, 2*8
.set at_r12, 3*8
.set at_rbp, 4*8
.set at_rbx, 5*8
.set at_r10, 7*8
.set at_r9, 8*8
.set at_r8, 9*8
.set at_rax, 10*8
.set at_rdx, 12*8
.set at_rsi, 13*8
.set at_rdi, 14*8
.set REGS_RIP, 16*8
.set REGS_RFLAGS, 18*8
.set REGS_RSP, 19*8
.set REGS_TOP, 21*8           # size of the frame up to and with ss
.set REGS_FS_BASE, 21*8
.set REGS_GS_BASE, 22*8

.macro PUSH_ALL registers:vararg
    .irp register, \registers
    push \register
    .endr
.endm

.macro POP_ALL registers:vararg
    .irp register, \registers
    pop \register
    .endr
.endm

.macro SAVE_FROM_RSI
    PUSH_ALL rsi, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
.endm

.macro RESTORE
    POP_ALL r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi
.endm

# A system call: rcx is rip, r11 is rflags. What a frame that Linux sees has besides is completed by handle_syscall.
.macro SAVE_SYSCALL
    swapgs
    mov gs:[SCRATCH], rsp
    mov rsp, gs:[FRAME]
    mov [rsp - REGS_TOP + REGS_RIP], rcx
    mov [rsp - REGS_TOP + REGS_RFLAGS], r11
    .irp register, rdi, rsi, rdx, rax, r8, r9, r10, rbx, rbp, r12, r13, r14, r15
    mov [rsp - REGS_TOP + at_\register], \register
    .endr
    lea rdx, [rsp - REGS_TOP]
    mov rcx, gs:[SCRATCH]
    mov [rdx + REGS_RSP], rcx
    mov rsp, gs:[KSTACK]
    xor ebp, ebp                    # ends backtraces
.endm

# rdx is the frame, rax the number. The fast path of an ordinary thread's first four calls; it returns only for the slow path.
.global syscall_entry
syscall_entry:
    SAVE_SYSCALL
    mov rdi, gs:[THIS]
    mov rsi, gs:[CURRENT]
    test byte ptr [rsi + {thread_home}], {thread_special}
    jnz 8f
    cmp rax, 4
    jae 8f
    call [fast_calls + rax*8]
8:  mov rdi, gs:[FRAME]
    sub rdi, REGS_TOP
    call handle_syscall             # does not return

# The same without the fast path, to compare with.
.global syscall_entry_slow
syscall_entry_slow:
    SAVE_SYSCALL
    mov rdi, rdx
    call handle_syscall

.section .rodata
.align 8
fast_calls:
    .quad fast_call, fast_reply_receive, fast_send, fast_receive
.text

# One 16-byte stub per vector. From user mode, the stack here is the frame, which may be shared with Linux and so changed at
# any time by another core: nothing that was pushed is ever read back to decide by. The vector is in a register.
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
    push rdi
    mov edi, v
    .if v == 2 || v == 8 || v == 18
        jmp paranoid_common
    .else
        jmp trap_common
    .endif
    .set v, v + 1
.endr

.align 16
trap_common:
    bt rsp, {kernel_stack_bit}      # kernel mode has its stack outside the direct map, where all frames are
    jc trap_from_kernel
    swapgs
    SAVE_FROM_RSI
    mov rsi, rsp
    mov rsp, gs:[KSTACK]
    cld
    xor ebp, ebp
    call handle_trap
    jmp return_to_current

# NMI, double fault, machine check: on stacks of their own (IST), at any instruction, with either GS base. Neither cs nor
# the sign of the base tells whose it is (user mode may set one in the upper half): the kernel's lies above the frame,
# where Tables::load put it, and what was there comes back.
paranoid_common:
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
    RESTORE
    add rsp, 8
    iretq

# Load the current frame. The frame may be shared with Linux, which may write it at any time from another core: what
# decides about privilege (cs, ss, rip, rflags) is checked in registers and goes to the kernel's own stack.
.global return_to_current
return_to_current:
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
    push 0x2b
    push qword ptr [rdx + REGS_RSP]
    push r11
    push 0x33
    push rcx
    mov rsp, rdx
    RESTORE
    mov rsp, gs:[KSTACK]
    lea rsp, [rsp - 40]
    swapgs
    iretq
    # IRETQ to a non-canonical address would fault in kernel mode; an upper-half address faults in user mode as it
    # should, but is folded likewise: the user sees a fault at the last byte of the lower half.
3:  mov rcx, 0x00007fffffffffff
    jmp 2b

# Return from a system call to the private frame in rdi, which nobody else writes; rcx and r11 do not survive.
# SYSRET to a non-canonical address would fault in kernel mode, with the user's stack pointer (SDM vol. 2, SYSRET).
.macro RETURN_FROM_SYSCALL
    mov rcx, [rdi + REGS_RIP]
    mov r11, [rdi + REGS_RFLAGS]
    and r11d, {flags_user}
    or r11d, 0x202
    .irp register, r15, r14, r13, r12, rbp, rbx, r10, r9, r8, rax, rdx, rsi
    mov \register, [rdi + at_\register]
    .endr
    mov rsp, [rdi + REGS_RSP]
    mov rdi, [rdi + at_rdi]
    sysretq
.endm

.global return_from_current_syscall
return_from_current_syscall:
    test dword ptr [rdi + REGS_RIP + 4], 0xffff8000
    jnz return_to_current
    swapgs
    RETURN_FROM_SYSCALL

# The same, to another thread's frame than the one that entered: FS and GS base are its own, too. Bases of a private
# frame came from the CPU: they are canonical.
.global return_from_other_syscall
return_from_other_syscall:
    mov rax, [rdi + REGS_FS_BASE]
    wrfsbase rax
    mov rax, [rdi + REGS_GS_BASE]
    swapgs
    wrgsbase rax
    test dword ptr [rdi + REGS_RIP + 4], 0xffff8000
    jnz 7f
    RETURN_FROM_SYSCALL
7:  swapgs
    jmp return_to_current

# Upcall into a vCPU's kernel mode: rdi = rip, rsi = rsp. All other registers are cleared: they hold kernel values.
.global return_to_upcall
return_to_upcall:
    mov rcx, rdi
    mov rax, rcx
    shr rax, 47
    jz 4f
    mov rcx, 0x00007fffffffffff
4:  mov rsp, rsi
    mov r11d, 0x202
    .irp register, eax, ebx, edx, esi, edi, ebp, r8d, r9d, r10d, r12d, r13d, r14d, r15d
    xor \register, \register
    .endr
    swapgs
    sysretq

# load_in_context([rsp + 8]), for a caller who does not know of a call: keeps all registers.
.global call_load_in_context
call_load_in_context:
    push rbp
    mov rbp, rsp
    PUSH_ALL rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
    mov rdi, [rbp + 16]
    and rsp, -16
    call load_in_context
    lea rsp, [rbp - 72]
    POP_ALL r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
    pop rbp
    ret

# Wait for an interrupt: rdi = 0. The interrupt lands in trap_from_kernel and returns to behind the hlt.
.global halt
halt:
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
