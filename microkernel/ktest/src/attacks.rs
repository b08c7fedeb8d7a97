//! User mode tries to crash, stall or read the kernel: whatever it does ends in a fault of its own.

use abi::{MAP_EXEC, MAP_READ, TASK_MAP};
use rt::{invoke, reply_receive};

use crate::code;
use crate::support::{CODE, DATA, Outcome, Program, Test, begin_anew, bytes, equal, holds, memory};

pub const TESTS: &[Test] = &[
    Test { name: "privileged_instructions_fault", cores: 1, run: privileged },
    Test {
        name: "invd_and_wbinvd_fault",
        cores: 1,
        run: || all_fault(&[&[0x0f, 0x08], &[0x0f, 0x09]], GENERAL_PROTECTION),
    },
    Test {
        name: "into_and_vmxon_are_undefined",
        cores: 1,
        run: || all_fault(&[&[0xce], &[0xf3, 0x0f, 0xc7, 0x30]], INVALID_OPCODE),
    },
    Test { name: "instructions_of_other_modes_are_undefined", cores: 1, run: undefined },
    Test { name: "sysenter_leads_nowhere", cores: 1, run: sysenter },
    Test { name: "icebp_is_a_debug_exception_of_the_program", cores: 1, run: icebp },
    Test { name: "no_io_port_can_be_used", cores: 1, run: ports },
    Test { name: "descriptor_tables_cannot_be_read", cores: 1, run: umip },
    Test { name: "debug_registers_are_out_of_reach", cores: 1, run: debug_registers },
    Test { name: "no_selector_leads_out_of_user_mode", cores: 1, run: selectors },
    Test { name: "no_far_return_leads_out_of_user_mode", cores: 1, run: far_returns },
    Test { name: "no_far_return_brings_privileged_flags", cores: 1, run: flags_of_far_returns },
    Test { name: "popf_brings_no_privileged_flags", cores: 1, run: flags_of_popf },
    Test { name: "kernel_addresses_cannot_be_read_written_or_run", cores: 1, run: kernel_addresses },
    Test { name: "stack_pointers_of_any_value_are_harmless", cores: 1, run: stacks },
    Test { name: "a_system_call_at_the_end_of_the_address_space_returns_a_fault", cores: 1, run: last_syscall },
    Test { name: "flags_at_a_system_call_do_not_reach_the_kernel", cores: 1, run: flags },
    Test { name: "single_stepping_over_system_calls_stays_in_user_mode", cores: 1, run: single_step },
    Test { name: "any_segment_base_is_kept_and_harmless", cores: 1, run: bases },
    Test { name: "software_interrupts_reach_no_handler_but_the_breakpoint", cores: 1, run: software_interrupts },
    Test { name: "a_fault_in_the_handler_of_a_fault_is_a_fault_of_the_handler", cores: 1, run: nested },
];

/// Each program must fault at its first instruction with the vector; for those that fault otherwise, the test says how.
fn all_fault(programs: &[&[u8]], vector: u64) -> Outcome {
    for code in programs {
        let program = Program::start(code)?;
        let [saw, _, _, rip] = program.fault()?;
        equal(saw, vector)?;
        equal(rip, CODE)?;
    }
    Ok(())
}

const GENERAL_PROTECTION: u64 = 13;
const INVALID_OPCODE: u64 = 6;
const PAGE_FAULT: u64 = 14;

fn privileged() -> Outcome {
    all_fault(
        &[
            &[0xf4],                   // hlt
            &[0xfa],                   // cli
            &[0xfb],                   // sti
            &[0x0f, 0x20, 0xc0],       // mov rax, cr0
            &[0x0f, 0x22, 0xc0],       // mov cr0, rax
            &[0x0f, 0x22, 0xd8],       // mov cr3, rax
            &[0x0f, 0x22, 0xe0],       // mov cr4, rax
            &[0x44, 0x0f, 0x22, 0xc0], // mov cr8, rax
            &[0x0f, 0x06],             // clts
            &[0x0f, 0x01, 0xf0],       // lmsw ax
            &[0x0f, 0x32],             // rdmsr
            &[0x0f, 0x30],             // wrmsr
            &[0x0f, 0x01, 0x10],       // lgdt [rax]
            &[0x0f, 0x01, 0x18],       // lidt [rax]
            &[0x0f, 0x00, 0xd0],       // lldt ax
            &[0x0f, 0x00, 0xd8],       // ltr ax
            &[0x0f, 0x01, 0x38],       // invlpg [rax]
            &[0x0f, 0x01, 0xf8],       // swapgs
            &[0x0f, 0x01, 0xd1],       // xsetbv
            &[0x48, 0x0f, 0x07],       // sysretq
            &[0x0f, 0x33],             // rdpmc
        ],
        GENERAL_PROTECTION,
    )
}

fn undefined() -> Outcome {
    all_fault(
        &[
            &[0x0f, 0x01, 0xca], // clac
            &[0x0f, 0x01, 0xcb], // stac
            &[0x0f, 0x01, 0xc8], // monitor
            &[0x0f, 0x01, 0xc9], // mwait
            &[0x0f, 0x01, 0xc1], // vmcall
            &[0x0f, 0x01, 0xc2], // vmlaunch
            &[0x0f, 0x01, 0xd8], // vmrun
            &[0x0f, 0x37],       // getsec
            &[0x0f, 0xaa],       // rsm
        ],
        INVALID_OPCODE,
    )
}

fn sysenter() -> Outcome {
    // Undefined in 64-bit mode on AMD's CPUs; on Intel's the kernel has left no code segment for it. SYSEXIT is privileged.
    for code in [&[0x0f, 0x34], &[0x0f, 0x35]] {
        let [vector, error, _, rip] = Program::start(code)?.fault()?;
        holds(vector == GENERAL_PROTECTION || vector == INVALID_OPCODE)?;
        equal(error, 0)?;
        equal(rip, CODE)?;
    }
    Ok(())
}

fn icebp() -> Outcome {
    let [vector, _, _, rip] = Program::start(&[0xf1])?.fault()?;
    equal(vector, 1)?;
    equal(rip, CODE + 1)
}

fn ports() -> Outcome {
    // in al, 0x60; out 0x20, al; in eax, dx (0); out dx, eax; insb; outsb
    let any: [&[u8]; 6] = [&[0xe4, 0x60], &[0xe6, 0x20], &[0xed], &[0xef], &[0x6c], &[0x6e]];
    all_fault(&any, GENERAL_PROTECTION)?;
    // The debug-exit port, which would end the run, and PCI's.
    for port in [0xf4u16, 0xcf8, 0xffff] {
        let [low, high] = port.to_le_bytes();
        // mov dx, port; out dx, eax
        let program = Program::start(&[0x66, 0xba, low, high, 0xef])?;
        let [vector, _, _, rip] = program.fault()?;
        equal(vector, GENERAL_PROTECTION)?;
        equal(rip, CODE + 4)?;
    }
    Ok(())
}

fn umip() -> Outcome {
    // sgdt, sidt, sldt, str, smsw: into the data page
    let stores: [&[u8]; 5] = [
        &[0x0f, 0x01, 0x04, 0x25, 0, 0, 0x80, 0],
        &[0x0f, 0x01, 0x0c, 0x25, 0, 0, 0x80, 0],
        &[0x0f, 0x00, 0x04, 0x25, 0, 0, 0x80, 0],
        &[0x0f, 0x00, 0x0c, 0x25, 0, 0, 0x80, 0],
        &[0x0f, 0x01, 0x24, 0x25, 0, 0, 0x80, 0],
    ];
    all_fault(&stores, GENERAL_PROTECTION)
}

fn debug_registers() -> Outcome {
    for register in 0..8 {
        // mov drN, rax and mov rax, drN. (4 and 5 are 6 and 7 by another name.)
        for direction in [0x23, 0x21] {
            let program = Program::start(&[0x0f, direction, 0xc0 | register << 3])?;
            equal(program.fault()?[0], GENERAL_PROTECTION)?;
        }
    }
    Ok(())
}

fn selectors() -> Outcome {
    // Loads of every selector of the GDT and beyond into DS, GS and SS: those that are no user data segment fault.
    for selector in 0..0x80u8 {
        for (load, name) in [(0xd8, "ds"), (0xe8, "gs"), (0xd0, "ss")] {
            // mov eax, selector; mov SEGMENT, ax; ud2
            let program = Program::start(&[0xb8, selector, 0, 0, 0, 0x8e, load, 0x0f, 0x0b])?;
            let [vector, error, _, rip] = program.fault()?;
            // Null for DS and GS; else user data (0x28), and for DS and GS readable user code (0x30); SS needs RPL 3.
            let null = selector < 4;
            let good = if name == "ss" { selector == 0x2b } else { null || matches!(selector & 0xfc, 0x28 | 0x30) };
            if good {
                equal(vector, INVALID_OPCODE)?;
            } else {
                equal(vector, GENERAL_PROTECTION)?;
                equal(error, u64::from(selector & 0xfc))?;
                equal(rip, CODE + 5)?;
            }
        }
        begin_anew();
    }
    // Far jumps and calls to the kernel's code, data, the TSS, an LDT, and behind the table.
    for selector in [0x08u8, 0x0b, 0x0c, 0x10, 0x2b, 0x40, 0x43, 0x50, 0x7c] {
        for transfer in [0x2c, 0x1c] {
            // jmp far [CODE + 16] or call far [CODE + 16]; at CODE + 8, UD2
            let mut code = [0u8; 22];
            code[..7].copy_from_slice(&[0xff, transfer, 0x25, 16, 0, 0x40, 0]);
            code[8..10].copy_from_slice(&[0x0f, 0x0b]);
            code[16..20].copy_from_slice(&(CODE as u32 + 8).to_le_bytes());
            code[20] = selector;
            let program = Program::start(&code)?;
            let [vector, error, ..] = program.fault()?;
            equal(vector, GENERAL_PROTECTION)?;
            equal(error, u64::from(selector & 0xfc))?;
            // To user code it works, so it was the selector. (Of the call, QEMU gets the push wrong.)
            if transfer == 0x2c {
                code[20] = 0x33;
                equal(Program::start(&code)?.fault()?[0], INVALID_OPCODE)?;
            }
        }
    }
    Ok(())
}

/// IRETQ and RETFQ.
const IRET: [u8; 2] = [0x48, 0xcf];
const RETF: [u8; 2] = [0x48, 0xcb];
/// Where far returns lead to, if they lead anywhere: `pushfq; pop [DATA]; ud2`.
const TARGET: u64 = CODE + 64;
const TELL_FLAGS: [u8; 10] = [0x9c, 0x8f, 0x04, 0x25, 0, 0, 0x80, 0, 0x0f, 0x0b];

/// Runs `begin`, then pushes these words and returns by them.
fn return_by(begin: &[u8], words: &[u64], instruction: [u8; 2]) -> Result<(Program, [u64; 4]), abi::Error> {
    let mut code = [0x90; 64 + TELL_FLAGS.len()];
    code[..begin.len()].copy_from_slice(begin);
    let mut end = begin.len();
    for word in words {
        code[end] = 0x68; // push imm32
        code[end + 1..end + 5].copy_from_slice(&(*word as u32).to_le_bytes());
        end += 5;
    }
    code[end..end + 2].copy_from_slice(&instruction);
    code[64..].copy_from_slice(&TELL_FLAGS);
    let program = Program::start(&code)?;
    let fault = program.fault()?;
    Ok((program, fault))
}

const USER_CODE: u64 = 0x33;
const USER_DATA: u64 = 0x2b;
const STACK: u64 = DATA + 2048;

fn far_returns() -> Outcome {
    // To the kernel's code and data, null, user data, the TSS, an LDT, and behind the table.
    for selector in [0x08, 0x0b, 0x10, 0, 3, 0x2b, 0x40, 0x43, 0x0c, 0x0f, 0x50, 0x7b] {
        let (_, iret) = return_by(&[], &[USER_DATA, STACK, 2, selector, TARGET], IRET)?;
        let (_, retf) = return_by(&[], &[selector, TARGET], RETF)?;
        for [vector, error, _, rip] in [iret, retf] {
            equal(vector, GENERAL_PROTECTION)?;
            equal(error, selector & 0xfc)?;
            holds(rip < TARGET)?;
        }
    }
    // To user code it works, so it was the selector; and a stack segment of the kernel's is refused as well.
    equal(return_by(&[], &[USER_DATA, STACK, 2, USER_CODE, TARGET], IRET)?.1[3], TARGET + 8)?;
    equal(return_by(&[], &[USER_CODE, TARGET], RETF)?.1[3], TARGET + 8)?;
    equal(return_by(&[], &[0x10, STACK, 2, USER_CODE, TARGET], IRET)?.1[0], GENERAL_PROTECTION)
}

/// IOPL 3, VM; the interrupt flag is off.
const BAD_FLAGS: u64 = 0x2_3002;
/// Those bits of RFLAGS, and the interrupt flag.
const PRIVILEGED_FLAGS: u64 = 0x2_3200;

fn flags_of_far_returns() -> Outcome {
    let (program, fault) = return_by(&[], &[USER_DATA, STACK, BAD_FLAGS, USER_CODE, TARGET], IRET)?;
    equal(fault[3], TARGET + 8)?;
    equal(program.word(0) & PRIVILEGED_FLAGS, 0x200)?;
    // pushfq; or dword ptr [rsp], NT; popfq: with it, an IRET would be the return of a task.
    let nested_task = [0x9c, 0x81, 0x0c, 0x24, 0, 0x40, 0, 0, 0x9d];
    let (_, [vector, error, _, rip]) = return_by(&nested_task, &[USER_DATA, STACK, 2, USER_CODE, TARGET], IRET)?;
    equal(vector, GENERAL_PROTECTION)?;
    equal(error, 0)?;
    holds(rip < TARGET)
}

fn flags_of_popf() -> Outcome {
    let mut code = [0; 6 + TELL_FLAGS.len()];
    code[0] = 0x68; // push imm32; popfq
    code[1..5].copy_from_slice(&(BAD_FLAGS as u32).to_le_bytes());
    code[5] = 0x9d;
    code[6..].copy_from_slice(&TELL_FLAGS);
    let program = Program::start(&code)?;
    equal(program.fault()?[0], INVALID_OPCODE)?;
    equal(program.word(0) & PRIVILEGED_FLAGS, 0x200)
}

fn kernel_addresses() -> Outcome {
    // The direct map, the stacks, the kernel's text, and the last byte.
    for kernel in [0xffff_8000_0000_0000u64, 0xffff_8080_0000_7000, 0xffff_ffff_8010_0000, u64::MAX] {
        let mut read = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x8a, 0x00]; // mov rax, imm64; mov al, [rax]
        read[2..10].copy_from_slice(&kernel.to_le_bytes());
        let mut write = read;
        write[10] = 0x88;
        let mut jump = read;
        jump[10..].copy_from_slice(&[0xff, 0xe0]);
        for (code, kind) in [(read, 0), (write, 2), (jump, 0x10)] {
            let [vector, error, place, _] = Program::start(&code)?.fault()?;
            equal(vector, PAGE_FAULT)?;
            equal(error & 0x16, 4 | kind)?;
            // A jump may be told at the place itself.
            equal(place, kernel)?;
        }
    }
    // Not canonical at all.
    for wild in [0x8000_0000_0000u64, 0x0123_4567_89ab_cdef, 0xffff_7fff_ffff_ffff] {
        let mut jump = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
        jump[2..10].copy_from_slice(&wild.to_le_bytes());
        let mut read = jump;
        read[10..].copy_from_slice(&[0x8a, 0x00]);
        for code in [jump, read] {
            let vector = Program::start(&code)?.fault()?[0];
            // (QEMU 7.2 raises a page fault for some of these, hardware a general protection fault.)
            holds(vector == GENERAL_PROTECTION || vector == PAGE_FAULT)?;
        }
    }
    Ok(())
}

code!(STACK_CALLS, "mov rsp, rdi", "mov eax, 99", "syscall", "mov ebx, eax", "ud2");
code!(STACK_PUSH, "mov rsp, rdi", "push rax");

fn stacks() -> Outcome {
    for sp in [0, 1, 7, DATA + 13, u64::MAX, 0x8000_0000_0000, 0xffff_8000_0000_0000, 0x0123_4567_89ab_cdef] {
        let run = |code| -> Result<[u64; 4], crate::support::Failure> {
            let program = Program::start(&[0x90, 0x0f, 0x0b])?; // nop; ud2: then with rdi set
            program.fault()?;
            drop(program);
            let mut with_rdi = [0u8; 64];
            with_rdi[..2].copy_from_slice(&[0x48, 0xbf]); // mov rdi, imm64
            with_rdi[2..10].copy_from_slice(&sp.to_le_bytes());
            with_rdi[10..10 + <[u8]>::len(code)].copy_from_slice(code);
            Ok(Program::start(&with_rdi)?.fault()?)
        };
        // The kernel takes and returns a system call, and an exception, with any stack pointer.
        equal(run(bytes(&raw const STACK_CALLS))?[0], INVALID_OPCODE)?;
        if sp != DATA + 13 {
            let vector = run(bytes(&raw const STACK_PUSH))?[0];
            holds((12..=14).contains(&vector))?;
        }
    }
    Ok(())
}

fn last_syscall() -> Outcome {
    // The last page of the user half ends with a SYSCALL: the return address is not canonical.
    let last = (1 << 47) - 4096;
    let program = Program::start(&[0x0f, 0x0b])?;
    program.fault()?;
    let (range, at) = memory(1)?;
    // SAFETY: a fresh page.
    unsafe { ((at + 4094) as *mut [u8; 2]).write([0x0f, 0x05]) };
    invoke(program.task, TASK_MAP, &[range, 0, last, 4096, MAP_READ | MAP_EXEC])?;
    let fault = reply_receive(program.endpoint, program.reply, 0, [last + 4094, 0, 0, 0], 1)?;
    holds(fault.words[0] == PAGE_FAULT || fault.words[0] == GENERAL_PROTECTION || fault.words[0] == INVALID_OPCODE)?;
    holds(fault.words[3] < 1 << 47)
}

// AC, DF and NT are set at a system call that does much (a copy of a capability of slot 1 to an impossible slot), and are
// there after it.
code!(
    FLAGS,
    "pushfq",
    "or qword ptr [rsp], 0x44400",
    "popfq",
    "mov eax, 0",
    "mov edi, 1",
    "mov rsi, 0x400000010",
    "mov edx, 1",
    "mov r10, -1",
    "mov r8d, 15",
    "xor r9d, r9d",
    "syscall",
    "mov [0x800000], rax",
    "pushfq",
    "pop rbx",
    "mov [0x800008], rbx",
    "ud2",
);

fn flags() -> Outcome {
    let program = Program::start(bytes(&raw const FLAGS))?;
    equal(program.fault()?[0], INVALID_OPCODE)?;
    equal(program.word(0), abi::Error::BadArgument.status() as u64)?;
    // NT does not come back: the kernel returns by IRET.
    equal(program.word(1) & 0x40400, 0x40400)
}

code!(STEP, "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov eax, 99", "syscall", "nop", "nop");

fn single_step() -> Outcome {
    let program = Program::start(bytes(&raw const STEP))?;
    // The answer says nothing of a new place: the thread goes on, one instruction at a time.
    let mut fault = program.fault()?;
    let mut last = 0;
    for _ in 0..5 {
        equal(fault[0], 1)?;
        holds(fault[3] > last && fault[3] < CODE + 4096)?;
        last = fault[3];
        if last >= CODE + bytes(&raw const STEP).len() as u64 {
            break;
        }
        fault = reply_receive(program.endpoint, program.reply, 0, [0; 4], 0)?.words;
    }
    Ok(())
}

// Bases in the upper half are canonical, so WRGSBASE takes them; system calls and exceptions go on, and both are kept.
code!(
    BASES,
    "mov rax, 0xffff800000000000",
    "wrgsbase rax",
    "mov rbx, 0xffffffff80000000",
    "wrfsbase rbx",
    "mov eax, 99",
    "syscall",
    "rdgsbase rcx",
    "rdfsbase rdx",
    "mov [0x800000], rcx",
    "mov [0x800008], rdx",
    "mov rax, 0x800000000000",
    "wrgsbase rax",
);

fn bases() -> Outcome {
    let program = Program::start(bytes(&raw const BASES))?;
    equal(program.fault()?[0], GENERAL_PROTECTION)?;
    equal(program.word(0), 0xffff_8000_0000_0000)?;
    equal(program.word(1), 0xffff_ffff_8000_0000)
}

fn software_interrupts() -> Outcome {
    for vector in 0..=255u8 {
        let program = Program::start(&[0xcd, vector])?;
        let [saw, error, _, rip] = program.fault()?;
        if vector == 3 || vector == 4 {
            equal(saw, u64::from(vector))?;
            equal(rip, CODE + 2)?;
        } else {
            equal(saw, GENERAL_PROTECTION)?;
            equal(error & 7, 2)?; // it was the IDT that refused
        }
        begin_anew();
    }
    Ok(())
}

fn nested() -> Outcome {
    // The handler is itself a user program: it receives the fault and runs into one of its own, which comes to the test.
    let handler = Program::start(&[0x0f, 0x0b])?;
    handler.fault()?;
    let victim = Program::start(&[0x0f, 0x0b])?;
    // The handler's Reply holds the victim while the handler faults three times over.
    victim.fault()?;
    for _ in 0..3 {
        let fault = reply_receive(handler.endpoint, handler.reply, 0, [CODE, 0, 0, 0], 1)?;
        equal(fault.words[0], INVALID_OPCODE)?;
    }
    // The victim still waits, and goes on when it is answered.
    let fault = reply_receive(victim.endpoint, victim.reply, 0, [CODE, 0, 0, 0], 1)?;
    equal(fault.words[0], INVALID_OPCODE)
}
