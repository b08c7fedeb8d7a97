//! Exceptions of ordinary threads.

use abi::FAULT_LABEL;
use rt::{invoke, receive, reply_receive};

use crate::support::{CODE, DATA, Outcome, Test, equal, memory, object, user_task};

pub const TESTS: &[Test] = &[
    Test { name: "a_fault_message_tells_vector_error_address_and_place", cores: 1, run: fields },
    Test { name: "an_answer_with_a_new_place_goes_on_there", cores: 1, run: new_place },
    Test { name: "privileged_instructions_and_ports_fault", cores: 1, run: privileged },
];

/// A thread in a Task of its own that runs `code`; (fault endpoint, reply).
fn run(code: &[u8]) -> Result<(u64, u64), crate::support::Failure> {
    let (task, _, _) = user_task(code)?;
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    let slot = object(abi::KIND_THREAD, 0)?;
    let (message, _) = memory(1)?;
    invoke(slot, abi::THREAD_CONFIGURE, &[0, task, message, 0, endpoint])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 10])?;
    invoke(slot, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
    Ok((endpoint, reply))
}

fn fields() -> Outcome {
    // mov rax, [0x1000]; mov [0x1000], rax; jmp 0x1000 absolute; mov [CODE], rax
    let cases: [(&[u8], u64, u64, u64); 6] = [
        (&[0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0], 14, 4, 0x1000),
        (&[0x48, 0x89, 0x04, 0x25, 0, 0x10, 0, 0], 14, 6, 0x1000),
        (&[0xb8, 0, 0, 0x80, 0, 0xff, 0xe0], 14, 0x15, DATA),
        (&[0x48, 0x89, 0x04, 0x25, 0, 0, 0x40, 0], 14, 7, CODE),
        (&[0x0f, 0x0b], 6, 0, 0),
        (&[0xcc], 3, 0, 0),
    ];
    for (code, vector, error, address) in cases {
        let (endpoint, reply) = run(code)?;
        let fault = receive(endpoint, reply)?;
        equal(fault.label(), FAULT_LABEL)?;
        equal(fault.words[0], vector)?;
        equal(fault.words[1], error)?;
        equal(fault.words[2], address)?;
        let place = match (vector, error) {
            (14, 0x15) => DATA,
            (3, _) => CODE + 1,
            _ => CODE,
        };
        equal(fault.words[3], place)?;
    }
    Ok(())
}

fn new_place() -> Outcome {
    // ud2 at 0; ud2 at 16
    let mut code = [0x90; 32];
    code[..2].copy_from_slice(&[0x0f, 0x0b]);
    code[20..22].copy_from_slice(&[0x0f, 0x0b]);
    let (endpoint, reply) = run(&code)?;
    receive(endpoint, reply)?;
    let second = reply_receive(endpoint, reply, 0, [CODE + 16, 0, 0, 0], 1)?;
    equal(second.words[3], CODE + 20)?;
    // A place in the kernel's half is not jumped to.
    let third = reply_receive(endpoint, reply, 0, [0xffff_ffff_8010_0000, 0, 0, 0], 1)?;
    equal(third.words[0], 14)?;
    equal(u64::from(third.words[2] < 1 << 47), 1)
}

fn privileged() -> Outcome {
    // hlt; in al, 0x60; mov cr3, rax; rdmsr; lgdt [rax]; int 0x80
    let cases: [&[u8]; 6] =
        [&[0xf4], &[0xe4, 0x60], &[0x0f, 0x22, 0xd8], &[0x0f, 0x32], &[0x0f, 0x01, 0x10], &[0xcd, 0x80]];
    for code in cases {
        let (endpoint, reply) = run(code)?;
        equal(receive(endpoint, reply)?.words[0], 13)?;
    }
    Ok(())
}
