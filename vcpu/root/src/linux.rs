//! Everything that Linux needs before its first instruction.

use abi::{LINUX_BASE, LinuxBoot, MAP_EXEC, MAP_READ, MAP_WRITE, RIGHT_ALL, RIGHT_GRANT, RIGHT_WRITE, RootBoot};
use kcore::{cpio, program};
use rt::println;

use crate::options::{Options, Reason};
use crate::pci;
use crate::slots::{self, give, must, name, retype};

/// Where the root task sees Linux's memory while it fills it.
const VIEW: u64 = 0x40_0000_0000;
const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
/// Interrupts that PCI devices can have.
const MSI_COUNT: u64 = 32;
const VCPU_PRIORITY: u64 = 100;

/// Where the root task hears of Linux.
pub struct Watched {
    pub endpoint: u64,
    pub reply: u64,
}

/// What lies where in Linux's memory, as offsets.
struct Layout {
    boot: u64,
    vcpus: u64,
    messages: u64,
    frames: u64,
    initrd: u64,
    free: u64,
}

pub fn start(boot: &RootBoot, options: &Options) -> Result<Watched, Reason> {
    // SAFETY: the kernel maps the archive there, read-only, for ever.
    let archive = unsafe { core::slice::from_raw_parts(boot.module_address as *const u8, boot.module_bytes as usize) };
    let file = |name| cpio::find(archive, name).map_err(|_| Reason::Archive("malformed (cpio newc expected)"));
    let vmlinux = file("vmlinux")?.ok_or(Reason::Archive("has no file named 'vmlinux'"))?;
    let initrd = file("initramfs")?.unwrap_or(&[]);

    let (memory, quota) = divide_memory(options)?;
    retype("Linux's memory", abi::KIND_RANGE, memory / PAGE, slots::LINUX_MEMORY)?;
    retype("Linux's quota", abi::KIND_UNTYPED, quota / PAGE, slots::LINUX_UNTYPED)?;
    // Of Linux's own quota: where it is used up, Linux drops other tables for those of its own memory.
    let task = rt::retype(slots::LINUX_UNTYPED, abi::KIND_TASK, 0, slots::LINUX_TASK);
    task.map_err(|error| Reason::Kernel("Linux's Task", error))?;
    retype("Linux's CSpace", abi::KIND_CSPACE, abi::LINUX_CSPACE_SLOTS, slots::LINUX_CSPACE)?;
    retype("an endpoint", abi::KIND_ENDPOINT, 0, slots::ENDPOINT)?;
    retype("a reply object", abi::KIND_REPLY, 0, slots::REPLY)?;
    name(slots::LINUX_TASK, "linux")?;
    let view = MAP_READ | MAP_WRITE;
    must("seeing Linux's memory", abi::ROOT_CAP_TASK, abi::TASK_MAP, &[slots::LINUX_MEMORY, 0, VIEW, memory, view])?;
    let all = view | MAP_EXEC;
    must("Linux's memory", slots::LINUX_TASK, abi::TASK_MAP, &[slots::LINUX_MEMORY, 0, LINUX_BASE, memory, all])?;

    let (entry, end) = load(vmlinux, memory)?;
    let layout = lay_out(boot, options, end, initrd.len() as u64);
    if layout.free > memory {
        return Err(Reason::Memory("Linux's image", layout.free, memory));
    }
    copy(initrd, layout.initrd);
    let windows = pci::windows(boot)?;
    give_capabilities(boot, options, &windows)?;
    describe(boot, options, &layout, memory, initrd.len() as u64, &windows)?;
    start_vcpus(options, &layout, entry)?;
    println!(
        "[root] Linux: {} MiB at {:#x}, {} service cores, {} compute cores",
        memory >> 20,
        dma_base()?,
        options.service_cores().count(),
        options.compute_cores(boot.cores).count()
    );
    Ok(Watched { endpoint: slots::ENDPOINT, reply: slots::REPLY })
}

/// (Linux's memory, its Untyped for Tasks and page tables), in bytes.
fn divide_memory(options: &Options) -> Result<(u64, u64), Reason> {
    let [free, _] = must("memory", abi::ROOT_CAP_UNTYPED, abi::UNTYPED_FREE, &[])?;
    // The Untyped: 1/32 of the memory, and the root task's own objects beside it.
    let own = 4 << 20;
    let quota_of = |memory: u64| (memory / 32).max(8 << 20) & !(HUGE - 1);
    let available = free.saturating_sub(own + 2 * HUGE);
    let largest = (available / 33 * 32).min(available.saturating_sub(8 << 20)) & !(HUGE - 1);
    let memory = match options.memory {
        Some(wanted) => wanted & !(HUGE - 1),
        None => largest,
    };
    if memory > largest || memory < 32 << 20 {
        return Err(Reason::Memory("Linux", memory.max(32 << 20) + quota_of(memory) + own, free));
    }
    Ok((memory, quota_of(memory)))
}

/// Copy vmlinux's segments to where it is linked. (Entry point, end offset.)
fn load(vmlinux: &[u8], memory: u64) -> Result<(u64, u64), Reason> {
    let (entry, segments) = program::read(vmlinux, LINUX_BASE..LINUX_BASE + memory).map_err(Reason::Program)?;
    let mut end = 0;
    for segment in segments {
        let offset = segment.address - LINUX_BASE;
        copy(segment.data, offset);
        end = end.max(offset + segment.bytes);
    }
    if !(LINUX_BASE..LINUX_BASE + end).contains(&entry) {
        return Err(Reason::Archive("'vmlinux' has no entry point in its segments"));
    }
    Ok((entry, end.next_multiple_of(PAGE)))
}

/// Copy bytes into Linux's memory (whose size callers have checked).
fn copy(bytes: &[u8], offset: u64) {
    // SAFETY: the view is mapped writable, and callers keep inside it.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), (VIEW + offset) as *mut u8, bytes.len()) };
}

fn lay_out(boot: &RootBoot, options: &Options, end: u64, initrd: u64) -> Layout {
    let service = options.service_cores().count() as u64;
    let vcpus = end + PAGE;
    let messages = vcpus + service * PAGE;
    let frames = messages + service * PAGE;
    let initrd_at = frames + (boot.cores - service) * PAGE;
    Layout { boot: end, vcpus, messages, frames, initrd: initrd_at, free: (initrd_at + initrd).next_multiple_of(PAGE) }
}

fn give_capabilities(boot: &RootBoot, options: &Options, windows: &pci::Windows) -> Result<(), Reason> {
    give(slots::LINUX_CSPACE, abi::LINUX_CAP_CSPACE, RIGHT_ALL, 0)?;
    give(slots::LINUX_TASK, abi::LINUX_CAP_TASK, RIGHT_ALL, 0)?;
    give(slots::LINUX_UNTYPED, abi::LINUX_CAP_UNTYPED, RIGHT_ALL, 0)?;
    give(slots::LINUX_MEMORY, abi::LINUX_CAP_MEMORY, RIGHT_ALL, 0)?;
    give(abi::ROOT_CAP_LOG, abi::LINUX_CAP_LOG, RIGHT_ALL, 0)?;
    give(slots::ENDPOINT, abi::LINUX_CAP_ROOT, RIGHT_WRITE | RIGHT_GRANT, 1)?;
    for (window, slot, linux_slot) in [
        (windows.ecam, slots::ECAM, abi::LINUX_CAP_ECAM),
        (windows.mmio, slots::MMIO, abi::LINUX_CAP_MMIO),
        (windows.mmio64, slots::MMIO64, abi::LINUX_CAP_MMIO64),
    ] {
        if window.1 > 0 {
            give(slot, linux_slot, RIGHT_ALL, 0)?;
        }
    }
    for core in options.compute_cores(boot.cores) {
        give(abi::ROOT_CAP_CPU + core, abi::LINUX_CAP_CPU + core, RIGHT_ALL, abi::LINUX_CEILING)?;
    }
    for i in 0..MSI_COUNT {
        must("an interrupt vector", abi::ROOT_CAP_MACHINE, abi::MACHINE_MSI, &[0, slots::MSI + i])?;
        give(slots::MSI + i, abi::LINUX_CAP_MSI + i, RIGHT_ALL, 0)?;
    }
    Ok(())
}

/// Machine address of Linux's memory, which devices must be told.
fn dma_base() -> Result<u64, Reason> {
    must("the memory's address", slots::LINUX_MEMORY, abi::RANGE_ADDRESS, &[]).map(|[address, _]| address)
}

fn describe(
    boot: &RootBoot,
    options: &Options,
    layout: &Layout,
    memory: u64,
    initrd: u64,
    windows: &pci::Windows,
) -> Result<(), Reason> {
    // SAFETY: a zeroed page of Linux's memory; all-zero is a valid LinuxBoot.
    let page = unsafe { &mut *((VIEW + layout.boot) as *mut LinuxBoot) };
    page.magic = abi::BOOT_MAGIC;
    page.memory_bytes = memory;
    page.dma_base = dma_base()?;
    page.free_offset = layout.free;
    if initrd > 0 {
        page.initrd_offset = layout.initrd;
        page.initrd_bytes = initrd;
    }
    page.tsc_hz = boot.tsc_hz;
    let since_tsc0 = u128::from(boot.boot_tsc) * 1_000_000_000 / u128::from(boot.tsc_hz);
    page.wall_ns_at_tsc0 = (boot.wall_seconds * 1_000_000_000).wrapping_sub(since_tsc0 as u64);
    page.vcpu_count = options.service_cores().count() as u64;
    page.vcpu_offset = layout.vcpus;
    page.message_offset = layout.messages;
    for (entry, core) in page.vcpu_core.iter_mut().zip(options.service_cores()) {
        *entry = core as u32;
    }
    page.compute_count = boot.cores - page.vcpu_count;
    for (entry, core) in page.compute_core.iter_mut().zip(options.compute_cores(boot.cores)) {
        *entry = core as u32;
    }
    page.frame_offset = layout.frames;
    (page.ecam_address, page.ecam_bytes) = windows.ecam;
    (page.mmio_address, page.mmio_bytes) = windows.mmio;
    (page.mmio64_address, page.mmio64_bytes) = windows.mmio64;
    page.msi_count = MSI_COUNT;
    page.xcr0 = boot.xcr0;
    page.xsave_bytes = boot.xsave_bytes;
    page.cmdline = options.linux;
    Ok(())
}

/// Make all vCPUs; the first starts, the others wait until Linux starts them (THREAD_START on their capabilities).
fn start_vcpus(options: &Options, layout: &Layout, entry: u64) -> Result<(), Reason> {
    for (i, core) in (0..).zip(options.service_cores()) {
        let slot = slots::VCPU + i;
        retype("a vCPU", abi::KIND_THREAD, 0, slot)?;
        let message = layout.messages + i * PAGE;
        let spaces = [slots::LINUX_CSPACE, slots::LINUX_TASK, slots::LINUX_MEMORY, message, slots::ENDPOINT];
        must("a vCPU", slot, abi::THREAD_CONFIGURE, &spaces)?;
        must("a vCPU's core", slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, VCPU_PRIORITY])?;
        must("a vCPU's page", slot, abi::THREAD_VCPU, &[slots::LINUX_MEMORY, layout.vcpus + i * PAGE])?;
        name(slot, "linux vcpu")?;
        give(slot, abi::LINUX_CAP_VCPU + i, RIGHT_ALL, 0)?;
    }
    let argument = LINUX_BASE + layout.boot;
    must("Linux's start", slots::VCPU, abi::THREAD_START, &[entry, 0, argument]).map(drop)
}
