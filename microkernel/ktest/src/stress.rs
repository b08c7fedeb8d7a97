//! All at once: messages, copies, revocation and mappings on all cores.

use abi::{Error, MAP_READ, MAP_WRITE, RIGHT_ALL, ROOT_CAP_CSPACE, ROOT_CAP_TASK};
use fastrand::Rng;
use rt::{call, invoke, receive, reply_receive};

use crate::support::{
    ENDPOINT, Outcome, Shared, Test, address, copy, cores, equal, holds, object, slot, thread, wait_for,
};

pub const TESTS: &[Test] =
    &[Test { name: "messages_revocation_and_mappings_on_all_cores_at_once", cores: 2, run: all_at_once }];

/// Slots that come and go, for each client.
const CAPS: u64 = 4;
static FIRST: Shared = Shared::new();
static ANSWERED: [Shared; 4] = [const { Shared::new() }; 4];
static REFUSED: [Shared; 4] = [const { Shared::new() }; 4];
static WRONG: Shared = Shared::new();

/// Answers each call with its words plus one.
extern "C" fn serve(reply: u64) -> ! {
    let mut message = receive(ENDPOINT.get(), reply);
    loop {
        let words = message.map_or([0; 4], |m| m.words.map(|w| w.wrapping_add(1)));
        message = reply_receive(ENDPOINT.get(), reply, 0, words, 4);
    }
}

/// Calls through whichever of its capabilities is there.
extern "C" fn client(core: u64) -> ! {
    let i = core as usize;
    let mut random = Rng::with_seed(core + 1);
    loop {
        let word = random.u64(..1 << 30);
        let through = FIRST.get() + core * CAPS + random.u64(..CAPS);
        match call(through, 1, [word, word, word, word], 4) {
            Ok(answer) if answer.words == [word + 1; 4] => ANSWERED[i].set(ANSWERED[i].get() + 1),
            Err(Error::NoCapability) => REFUSED[i].set(REFUSED[i].get() + 1),
            _ => WRONG.set(WRONG.get() + 1),
        }
    }
}

fn all_at_once() -> Outcome {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    ENDPOINT.set(endpoint);
    WRONG.set(0);
    let clients = cores().min(4);
    let first = slot();
    for _ in 1..clients * CAPS {
        slot();
    }
    FIRST.set(first);
    let reply = object(abi::KIND_REPLY, 0)?;
    let server = thread(cores() - 1, 180, 0, serve, reply)?;
    invoke(server, abi::OBJECT_NAME, &[u64::from_le_bytes(*b"server\0\0"), 0])?;
    for core in 1..clients {
        ANSWERED[core as usize].set(0);
        REFUSED[core as usize].set(0);
        thread(core, 100, 0, client, core)?;
    }
    let (range, task) = (object(abi::KIND_RANGE, 4)?, object(abi::KIND_TASK, 0)?);
    let at = address(16384);
    let parent = copy(endpoint, RIGHT_ALL, 0)?;
    let brief = slot();
    let mut random = Rng::with_seed(99);
    for _ in 0..4000 {
        let to = first + random.u64(..clients * CAPS);
        match random.u64(..6) {
            0 | 1 => drop(invoke(ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[parent, to, RIGHT_ALL, 0])),
            2 => drop(invoke(ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[to])),
            3 if random.u64(..8) == 0 => while invoke(ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[parent]).is_err() {},
            4 => {
                // The clients' own Task: their cores take part in the shootdown.
                for in_task in [ROOT_CAP_TASK, task] {
                    invoke(in_task, abi::TASK_MAP, &[range, 0, at, 16384, MAP_READ | MAP_WRITE])?;
                    invoke(in_task, abi::TASK_UNMAP, &[at, 8192])?;
                    invoke(in_task, abi::TASK_MAP, &[range, 8192, at, 8192, MAP_READ])?;
                    invoke(in_task, abi::TASK_UNMAP, &[at, 16384])?;
                }
            }
            _ => {
                invoke(crate::support::POOL, abi::UNTYPED_RETYPE, &[abi::KIND_NOTIFICATION, 0, brief])?;
                invoke(ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[brief])?;
            }
        }
    }
    // In the end all have capabilities, and all are answered.
    for to in first..first + clients * CAPS {
        let _ = invoke(ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[parent, to, RIGHT_ALL, 0]);
    }
    for core in 1..clients as usize {
        let before = ANSWERED[core].get();
        holds(wait_for(|| ANSWERED[core].get() > before + 20))?;
    }
    // In between, some came with a capability that was gone.
    holds((1..clients as usize).all(|core| REFUSED[core].get() > 0))?;
    equal(WRONG.get(), 0)
}
