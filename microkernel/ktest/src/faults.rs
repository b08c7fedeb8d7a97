//! Exceptions of ordinary threads.

use abi::FAULT_LABEL;
use rt::{invoke, receive, reply_receive};

use crate::support::{
    CODE, DATA, Outcome, Program, Test, copy, delete, equal, holds, log_end, logged, memory, object, pause, refused,
    user_task, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "a_fault_message_tells_vector_error_address_and_place", cores: 1, run: fields },
    Test { name: "a_fault_comes_with_its_handlers_badge", cores: 1, run: badges },
    Test { name: "an_answer_with_a_new_place_goes_on_there", cores: 1, run: new_place },
    Test { name: "a_fault_that_nobody_handles_ends_the_thread_and_names_it", cores: 1, run: unhandled },
    Test { name: "a_fault_whose_endpoint_was_deleted_ends_the_thread", cores: 1, run: deleted_endpoint },
];

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
        let program = Program::start(code)?;
        let fault = receive(program.endpoint, program.reply)?;
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
    let Program { endpoint, reply, .. } = Program::start(&code)?;
    receive(endpoint, reply)?;
    let second = reply_receive(endpoint, reply, 0, [CODE + 16, 0, 0, 0], 1)?;
    equal(second.words[3], CODE + 20)?;
    // A place in the kernel's half is not jumped to.
    let third = reply_receive(endpoint, reply, 0, [0xffff_ffff_8010_0000, 0, 0, 0], 1)?;
    equal(third.words[0], 14)?;
    equal(u64::from(third.words[2] < 1 << 47), 1)
}

fn unhandled() -> Outcome {
    let (task, _, data) = user_task(&[0x48, 0xff, 0x04, 0x25, 0, 0, 0x80, 0, 0x0f, 0x0b])?; // inc qword ptr [DATA]; ud2
    let thread = object(abi::KIND_THREAD, 0)?;
    invoke(thread, abi::OBJECT_NAME, &[u64::from_le_bytes(*b"victim-7"), 0])?;
    invoke(thread, abi::THREAD_CONFIGURE, &[0, task, 0, 0, 0])?;
    invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 210])?;
    let mut position = log_end();
    invoke(thread, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
    holds(wait_for(|| logged(&mut position, "thread 'victim-7': exception 6")))?;
    // It ran once, and nothing makes it run again.
    let _ = invoke(thread, abi::THREAD_RESUME, &[]);
    refused(invoke(thread, abi::THREAD_START, &[CODE, DATA + 4096, 0]), abi::Error::BadState)?;
    pause();
    // SAFETY: the program's data page.
    equal(unsafe { (data as *const u64).read_volatile() }, 1)
}

fn deleted_endpoint() -> Outcome {
    let (task, _, _) = user_task(&[0x0f, 0x0b])?;
    let (endpoint, thread) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_THREAD, 0)?);
    invoke(thread, abi::OBJECT_NAME, &[u64::from_le_bytes(*b"victim-8"), 0])?;
    invoke(thread, abi::THREAD_CONFIGURE, &[0, task, 0, 0, endpoint])?;
    invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 210])?;
    delete(endpoint)?;
    let mut position = log_end();
    invoke(thread, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
    holds(wait_for(|| logged(&mut position, "thread 'victim-8' ends: nobody will answer its fault")))?;
    refused(invoke(thread, abi::THREAD_CANCEL, &[]), abi::Error::BadState)
}

fn badges() -> Outcome {
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    for badge in [7, 0x1234_5678_9abc] {
        let (task, _, _) = user_task(&[0x0f, 0x0b])?;
        let thread = object(abi::KIND_THREAD, 0)?;
        let (message, _) = memory(1)?;
        invoke(thread, abi::THREAD_CONFIGURE, &[0, task, message, 0, copy(endpoint, abi::RIGHT_ALL, badge)?])?;
        invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 10])?;
        invoke(thread, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
        equal(receive(endpoint, reply)?.badge, badge)?;
    }
    Ok(())
}
