//! From the boot loader to the first user thread.

use core::cmp::Reverse;
use core::ops::Range as Span;
use core::slice;
use core::sync::atomic::Ordering;

use abi::{Error, RootBoot};
use arrayvec::ArrayVec;
use kcore::memory_map::{MAX_REGIONS, Map};
use kcore::{acpi, program};

use crate::arch::memory::{self, to_virtual};
use crate::arch::{self, apic, ioapic, loader, serial, time};
use crate::dispatch;
use crate::object::{CSpace, Cpu, Header, Log, Machine, Place, Range, Ref, Task, Thread, Untyped, create};
use crate::percore::{self, core_count};
use crate::sync::SpinLock;
use crate::{klog, log, panic, sched, smp, trace};

/// Memory for objects that the kernel itself makes: root task's objects, device Ranges, IrqHandlers.
const RESERVE_BYTES: u64 = 4 << 20;
/// Addresses in the root task.
const ROOT_STACK_TOP: u64 = 0x3000_0000;
const ROOT_STACK_BYTES: u64 = 64 << 10;
const ROOT_BOOT: u64 = 0x3000_1000;
const ROOT_MESSAGE: u64 = 0x3000_2000;
const ROOT_MODULE: u64 = 0x1_0000_0000;
const ROOT_PRIORITY: u8 = 200;

static MAP: SpinLock<Map<'static>> = SpinLock::new(Map::none());

/// Whether a physical range touches RAM.
pub fn overlaps_ram(span: Span<u64>) -> bool {
    MAP.lock().has_ram_in(&span)
}

/// Entered by boot.s on the boot core, with the loader's magic and the physical address of what it hands over.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, info: u64) -> ! {
    serial::init();
    klog!("Tacet microkernel {}", env!("CARGO_PKG_VERSION"));
    memory::init();
    kobj::platform::set_window(to_virtual(0));
    let mut boot = loader::read(magic, info);
    *MAP.lock() = boot.map;
    trace::init(boot.command_line);
    arch::FAST_PATH.store(!has_word(boot.command_line, b"tacet.nofast"), Ordering::Relaxed);
    smp::init_boot_core(&mut boot.free);
    arch::init_cpu_features(percore::core().index);
    apic::init(true);
    let platform = match acpi::parse(&loader::Firmware, boot.rsdp) {
        Ok(platform) => platform,
        Err(error) => panic!("ACPI tables at {:#x} are unusable: {error:?}", boot.rsdp),
    };
    ioapic::disable_legacy();
    ioapic::init(&platform.ioapics);
    percore::core().set_apic_id(apic::id());
    smp::start_others(&mut boot.free, &platform.cores);
    let off = (platform.cores.len() + platform.cores_left_out).saturating_sub(core_count());
    if off > 0 {
        klog!("{off} cores stay off: beyond {}, or with an APIC id that xAPIC mode cannot address", acpi::MAX_CORES);
    }
    memory::drop_identity_map();
    // SAFETY: the module lies in RAM (checked by loader::build) and is never given out.
    let archive =
        unsafe { slice::from_raw_parts(to_virtual(boot.module.start), (boot.module.end - boot.module.start) as usize) };
    if let Ok(Some(text)) = kcore::cpio::find(archive, "symbols") {
        panic::set_symbols(text);
    }
    klog!(
        "{} cores ({}{}), TSC {}.{:03} MHz, {} MiB free, boot archive {} KiB",
        core_count(),
        apic::mode_name(),
        if memory::has_contexts() { ", PCID" } else { "" },
        time::tsc_hz() / 1_000_000,
        time::tsc_hz() / 1000 % 1000,
        boot.free.regions().iter().map(|r| r.end - r.start).sum::<u64>() >> 20,
        archive.len() >> 10
    );
    log::hand_over();
    start_root(boot, &platform, archive);
    dispatch::run()
}

/// Whether a word is in the command line.
pub fn has_word(cmdline: &[u8], word: &[u8]) -> bool {
    let text = cmdline.split(|&b| b == 0).next().unwrap_or_default();
    text.split(u8::is_ascii_whitespace).any(|w| w == word)
}

/// The kernel's own reserve, which is there for ever: it pays for the objects that the kernel makes itself.
fn make_reserve(boot: &mut loader::BootInfo) -> Ref<Untyped> {
    let at = boot.free.take(RESERVE_BYTES + 4096).expect("not enough memory for the kernel's reserve");
    // SAFETY: just taken.
    let reserve =
        unsafe { Ref::new(to_virtual(at), Untyped::new_boot(Header::new::<Untyped>(None), at + 4096, RESERVE_BYTES)) };
    // (A reference that nobody gives up.)
    let _ = reserve.clone().into_raw();
    #[cfg(feature = "check")]
    crate::check::set_reserve(&reserve);
    reserve
}

fn start_root(mut boot: loader::BootInfo, platform: &acpi::Platform, archive: &'static [u8]) {
    let payer = &make_reserve(&mut boot);
    let image = match kcore::cpio::find(archive, "root") {
        Ok(Some(image)) => image,
        Ok(None) => panic!("the boot archive has no file named 'root'"),
        Err(error) => panic!("the boot archive (cpio newc) is malformed: {error:?}"),
    };
    let space = made(|| CSpace::create(payer, abi::ROOT_CSPACE_SLOTS));
    let task = Task::create(payer).expect("reserve too small");
    let entry = load(payer, &task, image);
    drop(fresh(payer, &task, ROOT_STACK_TOP - ROOT_STACK_BYTES, ROOT_STACK_BYTES));
    let info_range = fresh(payer, &task, ROOT_BOOT, 4096);
    let message = fresh(payer, &task, ROOT_MESSAGE, 4096);
    let module_at = boot.module.start & !4095;
    let module_bytes = boot.module.end.next_multiple_of(4096) - module_at;
    // Marked as no device, but with no payer to get the pages back: the archive stays.
    let module = create(payer, |h| Range::new_borrowed(h, module_at, module_bytes, false)).expect("reserve too small");
    map(&task, &module, ROOT_MODULE, module_bytes, abi::MAP_READ);

    let thread = create(payer, Thread::new).expect("reserve too small");
    let name = |n: &[u8; 8]| [u64::from_le_bytes(*n), 0];
    thread.clone().any().set_name(name(b"root\0\0\0\0"));
    task.clone().any().set_name(name(b"root\0\0\0\0"));
    let info = info_range.page::<RootBoot>(0).expect("a page");
    // SAFETY: a zeroed page of its own, not yet visible to the root task; all-zero is a valid RootBoot.
    let info = unsafe { &mut *info };
    info.magic = abi::BOOT_MAGIC;
    info.cores = core_count() as u64;
    info.tsc_hz = time::tsc_hz();
    info.wall_seconds = time::wall_seconds();
    info.boot_tsc = time::tsc();
    info.rsdp = boot.rsdp;
    if let Some((address, first, last)) = platform.ecam {
        info.ecam = address;
        info.ecam_buses[..2].copy_from_slice(&[first, last]);
    }
    (info.xcr0, info.xsave_bytes) = arch::fpu::layout();
    info.module_address = ROOT_MODULE + (boot.module.start - module_at);
    info.module_bytes = archive.len() as u64;
    let length = boot.command_line.len().min(info.cmdline.len() - 1);
    info.cmdline[..length].copy_from_slice(&boot.command_line[..length]);

    let put = |slot: u64, object: Ref<Header>| space.insert_new(slot, object, None).expect("slots are free");
    put(abi::ROOT_CAP_CSPACE, space.clone().any());
    put(abi::ROOT_CAP_TASK, task.clone().any());
    put(abi::ROOT_CAP_THREAD, thread.clone().any());
    put(
        abi::ROOT_CAP_MACHINE,
        create(payer, |header| Machine { header, reserve: payer.clone() }).expect("reserve").any(),
    );
    put(abi::ROOT_CAP_LOG, create(payer, |header| Log { header }).expect("reserve").any());
    put(abi::ROOT_CAP_MODULE, module.any());
    for index in 0..core_count() {
        put(abi::ROOT_CAP_CPU + index as u64, create(payer, |h| Cpu::new(h, index)).expect("reserve").any());
    }
    let mut regions: ArrayVec<_, MAX_REGIONS> = boot.free.regions().iter().cloned().collect();
    regions.sort_unstable_by_key(|r| Reverse(r.end - r.start));
    let large = regions.iter().filter(|r| r.end - r.start > 4096);
    for (i, region) in large.take(abi::MAX_UNTYPED).enumerate() {
        let bytes = region.end - region.start;
        let made = create(payer, |h| Untyped::new_boot(h, region.start, bytes)).expect("reserve");
        put(abi::ROOT_CAP_UNTYPED + i as u64, made.any());
        info.untyped_bytes[i] = bytes;
        info.untyped_count = i as u64 + 1;
    }
    #[cfg(feature = "check")]
    crate::attack::run(boot.command_line, task.root(), entry);
    let message = Place { range: message, by: None, offset: 0 };
    thread.set_spaces(Some(space), task, Some(message), None).expect("not started");
    thread.bind(percore::core().index, ROOT_PRIORITY, None).expect("not started");
    let regs = thread.regs();
    regs.set_result(0, ROOT_BOOT, ROOT_MESSAGE);
    regs.rip.set(entry);
    regs.rsp.set(ROOT_STACK_TOP - 8);
    sched::wake(thread);
}

/// What takes more than one call to make.
fn made<T>(make: impl Fn() -> Result<T, Error>) -> T {
    loop {
        match make() {
            Err(Error::Cancelled) => {}
            done => return done.expect("reserve too small for the root task"),
        }
    }
}

fn map(task: &Task, range: &Range, address: u64, bytes: u64, flags: u64) {
    if let Err(error) = task.map(address, bytes, || range.source(0, 0, bytes, flags)) {
        panic!("cannot map {bytes:#x} bytes at {address:#x} into the root task: {error:?}");
    }
}

/// Zeroed memory of the root task at an address, readable and writable.
fn fresh(payer: &Ref<Untyped>, task: &Task, address: u64, bytes: u64) -> Ref<Range> {
    let range = made(|| Range::create(payer, bytes / 4096));
    map(task, &range, address, bytes, abi::MAP_READ | abi::MAP_WRITE);
    // The root task's memory is its own for ever.
    let _ = range.clone().into_raw();
    range
}

/// Copy an executable's segments into fresh memory of the root task. Its entry point.
fn load(payer: &Ref<Untyped>, task: &Task, image: &'static [u8]) -> u64 {
    let (entry, segments) = match program::read(image, 0..ROOT_STACK_TOP - ROOT_STACK_BYTES) {
        Ok(program) => program,
        Err(error) => panic!("'root' in the boot archive {error}"),
    };
    for segment in segments {
        let start = segment.address & !4095;
        let bytes = (segment.address + segment.bytes - start).next_multiple_of(4096);
        let range = made(|| Range::create(payer, bytes / 4096));
        let data = segment.data;
        let target = range.physical(segment.address - start, data.len() as u64).expect("inside the segment");
        // SAFETY: the target is fresh memory of the segment's size.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to_virtual(target), data.len()) };
        let allowed = [(segment.writable, abi::MAP_WRITE), (segment.executable, abi::MAP_EXEC)];
        let flags = allowed.iter().filter(|(is, _)| *is).fold(abi::MAP_READ, |flags, (_, flag)| flags | flag);
        map(task, &range, start, bytes, flags);
        let _ = range.into_raw();
    }
    entry
}
