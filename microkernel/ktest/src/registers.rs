//! Extended registers (x87, SSE, AVX): whose they are, and that nobody sees another's.

use abi::{RESUME_WAIT, SYS_VCPU_RESUME, VCPU_EXC, VcpuState};
use core::sync::atomic::Ordering;
use rt::{invoke, raw, receive, send};

use crate::support::{Outcome, Program, Shared, Test, copy, delete, equal, holds, memory, object, wait_for};

pub const TESTS: &[Test] = &[
    Test { name: "an_ordinary_thread_has_no_extended_registers", cores: 1, run: none_for_ordinary },
    Test { name: "a_new_vcpu_sees_nothing_of_older_extended_registers", cores: 1, run: fresh },
    Test { name: "vcpus_of_one_core_keep_their_extended_registers_apart", cores: 1, run: apart },
    Test { name: "a_deleted_vcpu_gives_its_memory_back_though_its_registers_are_loaded", cores: 1, run: deleted },
];

fn none_for_ordinary() -> Outcome {
    // movq rax, xmm0; vmovd eax, xmm0; fldz; movq rax, mm0: device not available, vector 7.
    let programs: [&[u8]; 4] =
        [&[0x66, 0x48, 0x0f, 0x7e, 0xc0], &[0xc5, 0xf9, 0x7e, 0xc0], &[0xd9, 0xee], &[0x48, 0x0f, 0x7e, 0xc0]];
    for code in programs {
        equal(Program::start(code)?.fault()?[0], 7)?;
    }
    Ok(())
}

static PAGE: [Shared; 2] = [const { Shared::new() }; 2];
static DONE: [Shared; 2] = [const { Shared::new() }; 2];
static TURN: [Shared; 2] = [const { Shared::new() }; 2];
static SEEN: [Shared; 2] = [const { Shared::new() }; 2];

core::arch::global_asm!(
    // u64 registers_or(): all bits of xmm0 to xmm15 (upper halves of ymm included), x87 and MXCSR other than at reset.
    ".global registers_or",
    "registers_or:",
    "sub rsp, 136",
    "xor eax, eax",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu [rsp], ymm\\n",
    "or rax, [rsp]",
    "or rax, [rsp + 8]",
    "or rax, [rsp + 16]",
    "or rax, [rsp + 24]",
    ".endr",
    "stmxcsr [rsp]",
    "mov ecx, [rsp]",
    "xor ecx, 0x1f80",
    "or rax, rcx",
    "fnstcw [rsp]",
    "movzx ecx, word ptr [rsp]",
    "xor ecx, 0x37f",
    "or rax, rcx",
    "fnstsw [rsp]",
    "movzx ecx, word ptr [rsp]",
    "or rax, rcx",
    "add rsp, 136",
    "ret",
    // void registers_fill(u64): all of ymm0 to ymm15, st0, MXCSR.
    ".global registers_fill",
    "registers_fill:",
    "sub rsp, 40",
    "mov [rsp], rdi",
    "mov [rsp + 8], rdi",
    "mov [rsp + 16], rdi",
    "mov [rsp + 24], rdi",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu ymm\\n, [rsp]",
    ".endr",
    "fld1",
    "mov dword ptr [rsp], 0x7f80",
    "ldmxcsr [rsp]",
    "add rsp, 40",
    "ret",
    // bool registers_are(u64): whether ymm0 and ymm15 hold what registers_fill put there.
    ".global registers_are",
    "registers_are:",
    "sub rsp, 72",
    "vmovdqu [rsp], ymm0",
    "vmovdqu [rsp + 32], ymm15",
    "xor eax, eax",
    ".irp n, 0, 8, 16, 24, 32, 40, 48, 56",
    "mov rcx, [rsp + \\n]",
    "xor rcx, rdi",
    "or rax, rcx",
    ".endr",
    "cmp rax, 1",
    "sbb eax, eax",
    "neg eax",
    "add rsp, 72",
    "ret",
);

unsafe extern "C" {
    fn registers_or() -> u64;
    fn registers_fill(value: u64);
    fn registers_are(value: u64) -> u64;
}

/// Looks at its registers, fills them, says so, and waits; when it is woken, looks whether they are as before.
extern "C" fn vcpu(index: u64) -> ! {
    let i = index as usize;
    // SAFETY: the vCPU's page.
    let state = unsafe { &*(PAGE[i].get() as *const VcpuState) };
    state.flags.store(VCPU_EXC, Ordering::Relaxed);
    let value = 0x1111_2222_3333_4444 * (index + 1);
    // SAFETY: this program has no extended registers of its own (it is built without).
    unsafe {
        SEEN[i].set(registers_or());
        registers_fill(value);
    }
    loop {
        TURN[i].set(TURN[i].get() + 1);
        let _ = send(DONE[i].get(), 0, [0; 4], 0);
        let _ = raw(SYS_VCPU_RESUME, RESUME_WAIT, 0, [0; 4], 0);
        state.pending.swap(0, Ordering::SeqCst);
        // SAFETY: this program has no extended registers of its own (it is built without).
        if unsafe { registers_are(value) } != 1 {
            SEEN[i].set(0xbad);
        }
    }
}

/// A vCPU on core 0, and a capability that signals it.
fn start(index: usize) -> Result<(u64, u64), abi::Error> {
    let (range, at) = memory(8)?;
    let slot = object(abi::KIND_THREAD, 0)?;
    PAGE[index].set(at);
    TURN[index].set(0);
    SEEN[index].set(u64::MAX);
    DONE[index].set(copy(object(abi::KIND_NOTIFICATION, 0)?, abi::RIGHT_ALL, 1)?);
    invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 4096, 0])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 100])?;
    invoke(slot, abi::THREAD_VCPU, &[range, 0])?;
    invoke(slot, abi::THREAD_START, &[vcpu as *const () as u64, at + 8 * 4096 - 8, index as u64])?;
    Ok((slot, copy(slot, abi::RIGHT_ALL, 1)?))
}

fn fresh() -> Outcome {
    for index in [0, 1] {
        start(index)?;
        receive(DONE[index].get(), 0)?;
        equal(SEEN[index].get(), 0)?;
    }
    Ok(())
}

fn apart() -> Outcome {
    let (_, first) = start(0)?;
    receive(DONE[0].get(), 0)?;
    let (_, second) = start(1)?;
    receive(DONE[1].get(), 0)?;
    for _ in 0..50 {
        for (i, bell) in [(0, first), (1, second)] {
            send(bell, 0, [0; 4], 0)?;
            receive(DONE[i].get(), 0)?;
            equal(SEEN[i].get(), 0)?;
        }
    }
    equal(TURN[0].get(), 51)
}

fn deleted() -> Outcome {
    let untyped = object(abi::KIND_UNTYPED, 32)?;
    let free = invoke(untyped, abi::UNTYPED_FREE, &[])?[0];
    let (slot, range) = {
        let slot = crate::support::slot();
        let range = crate::support::slot();
        invoke(untyped, abi::UNTYPED_RETYPE, &[abi::KIND_THREAD, 0, slot])?;
        invoke(untyped, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, 8, range])?;
        let at = crate::support::address(8 * 4096);
        invoke(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[range, 0, at, 8 * 4096, abi::MAP_READ | abi::MAP_WRITE])?;
        PAGE[0].set(at);
        SEEN[0].set(u64::MAX);
        DONE[0].set(copy(object(abi::KIND_NOTIFICATION, 0)?, abi::RIGHT_ALL, 1)?);
        invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 4096, 0])?;
        invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 100])?;
        invoke(slot, abi::THREAD_VCPU, &[range, 0])?;
        invoke(slot, abi::THREAD_START, &[vcpu as *const () as u64, at + 8 * 4096 - 8, 0])?;
        (slot, range)
    };
    receive(DONE[0].get(), 0)?;
    delete(slot)?;
    delete(range)?;
    holds(wait_for(|| invoke(untyped, abi::UNTYPED_FREE, &[]).is_ok_and(|[bytes, _]| bytes == free)))
}
