# The work quantum and its markers, x86-64, AT&T syntax, System V calling convention.
# One source for the program inside Linux (global_asm! in src/quantum.rs) and for the bare-metal floor (bare/).
#
# A marker is a no-op with a displacement that nobody else uses; it is harmless anywhere, and an emulator can see it:
#     nopl 0x4e51KKLL(%rax)   =   0f 1f 80  LL KK 51 4e
#         KK=53 'S'  LL=42 'B' a quantum begins, LL=45 'E' it ends
#         KK=52 'R'  the next marker is rank LL's
#         KK=4a 'J'  run LL begins;  KK=6a 'j'  run LL ends
# The rank marker stands directly before begin and end (no instruction between), so that the two stay together when
# several ranks share one core. Displacements are constants of the instruction: hence a table with one stub for each rank.

    .text

    .macro tacet_marker low, kind
    .byte 0x0f, 0x1f, 0x80, \low, \kind, 0x51, 0x4e
    .endm

    .p2align 4
fwq_begin_stubs:
    .set tacet_id, 0
    .rept 256
    tacet_marker tacet_id, 0x52
    tacet_marker 0x42, 0x53
    ret
    .byte 0xcc
    .set tacet_id, tacet_id + 1
    .endr

fwq_end_stubs:
    .set tacet_id, 0
    .rept 256
    tacet_marker tacet_id, 0x52
    tacet_marker 0x45, 0x53
    ret
    .byte 0xcc
    .set tacet_id, tacet_id + 1
    .endr

fwq_run_begin_stubs:
    .set tacet_id, 0
    .rept 256
    tacet_marker tacet_id, 0x4a
    ret
    .set tacet_id, tacet_id + 1
    .endr

fwq_run_end_stubs:
    .set tacet_id, 0
    .rept 256
    tacet_marker tacet_id, 0x6a
    ret
    .set tacet_id, tacet_id + 1
    .endr

# void fwq_mark_run_begin(uint64_t run), void fwq_mark_run_end(uint64_t run); run < 256
    .globl fwq_mark_run_begin
    .p2align 4
fwq_mark_run_begin:
    leaq fwq_run_begin_stubs(%rip), %rax
    leaq (%rax,%rdi,8), %rax
    jmp *%rax

    .globl fwq_mark_run_end
    .p2align 4
fwq_mark_run_end:
    leaq fwq_run_end_stubs(%rip), %rax
    leaq (%rax,%rdi,8), %rax
    jmp *%rax

# void fwq_quantum(uint64_t iterations, uint64_t times[2], uint64_t rank); iterations >= 1, rank < 256
#
# times[0], times[1]: time-stamp counter before and after the loop, both read between the markers, so that nothing that
# the clock sees escapes the meter. From the instruction after the begin marker to the end marker, both ends of that
# range included, exactly 66 * iterations + 17 instructions are executed; src/quantum.rs repeats the formula and a
# metered run checks it. No memory but the stack line of the two calls is touched inside.
# The loop body holds no rotate and no carry-in: those make an emulator compute the flags.
    .globl fwq_quantum
    .p2align 4
fwq_quantum:
    shlq $4, %rdx
    leaq fwq_begin_stubs(%rip), %r8
    addq %rdx, %r8
    leaq fwq_end_stubs(%rip), %r9
    addq %rdx, %r9
    call *%r8                   # rank and begin markers; its ret is the 1st counted instruction
    lfence                      # 2nd
    rdtsc
    lfence
    shlq $32, %rdx
    orq %rax, %rdx
    movq %rdx, %r10
    movq %rdi, %rcx             # 8th
1:
    .rept 8
    addq %rdx, %rax
    xorq %rax, %r8
    leaq 3(%r8,%rdx,4), %rdx
    bswapq %rax
    subq %r8, %rdi
    leaq (%rdi,%rax), %r8
    xorq %rdi, %rdx
    notq %rax
    .endr
    decq %rcx
    jnz 1b
    lfence                      # 9th beside the loop
    rdtsc
    lfence
    shlq $32, %rdx
    orq %rax, %rdx
    movq %rdx, %r11
    call *%r9                   # the call, the rank marker, the end marker: 15th to 17th
    movq %r10, (%rsi)
    movq %r11, 8(%rsi)
    ret
