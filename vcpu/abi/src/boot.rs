//! What a first program finds when it starts: the root task from the kernel, Linux from the root task.

/// Most cores, memory regions and modules that the boot pages can describe.
pub const MAX_CORES: usize = 64;
pub const MAX_UNTYPED: usize = 16;

/// First page of [`RootBoot`] and of [`LinuxBoot`]: "Tacet" and a version.
pub const BOOT_MAGIC: u64 = 0x0001_7465_6361_5400;

/// What the kernel tells the root task (address in rdi at its start).
#[repr(C)]
pub struct RootBoot {
    pub magic: u64,
    pub cores: u64,
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// Seconds since 1970 (from the RTC) at `boot_tsc`.
    pub wall_seconds: u64,
    pub boot_tsc: u64,
    /// Physical address of ACPI's RSDP, 0 where there is none.
    pub rsdp: u64,
    /// PCI configuration space (MCFG): physical address and first and last bus; address 0 where there is none.
    pub ecam: u64,
    pub ecam_buses: [u8; 8],
    /// Extended state given to user level, and the size of its XSAVE area.
    pub xcr0: u64,
    pub xsave_bytes: u64,
    /// Boot module archive (cpio "newc"), mapped at `module_address`.
    pub module_address: u64,
    pub module_bytes: u64,
    pub untyped_count: u64,
    /// Bytes of each Untyped, in the slots ROOT_CAP_UNTYPED + i.
    pub untyped_bytes: [u64; MAX_UNTYPED],
    /// Kernel command line, zero terminated.
    pub cmdline: [u8; 1024],
}

impl RootBoot {
    /// Words of the command line; `None` where it is not UTF-8.
    pub fn words(&self) -> Option<core::str::SplitAsciiWhitespace<'_>> {
        let text = core::ffi::CStr::from_bytes_until_nul(&self.cmdline).ok()?;
        Some(text.to_str().ok()?.split_ascii_whitespace())
    }
}

// Slots of the root task's CSpace at its start.
pub const ROOT_CAP_CSPACE: u64 = 1;
pub const ROOT_CAP_TASK: u64 = 2;
pub const ROOT_CAP_THREAD: u64 = 3;
pub const ROOT_CAP_MACHINE: u64 = 4;
pub const ROOT_CAP_LOG: u64 = 5;
/// Range that holds the module archive.
pub const ROOT_CAP_MODULE: u64 = 6;
/// Cpu capability of core i: ROOT_CAP_CPU + i.
pub const ROOT_CAP_CPU: u64 = 16;
pub const ROOT_CAP_UNTYPED: u64 = 96;
/// First free slot; the root CSpace has ROOT_CSPACE_SLOTS.
pub const ROOT_CAP_FREE: u64 = 128;
pub const ROOT_CSPACE_SLOTS: u64 = 4096;

// Slots of Linux's CSpace.
pub const LINUX_CAP_CSPACE: u64 = 1;
/// Linux's own Task.
pub const LINUX_CAP_TASK: u64 = 2;
/// Pays for user Tasks, their page tables, and decoupled threads.
pub const LINUX_CAP_UNTYPED: u64 = 3;
/// Linux's memory: offset 0 is Linux's "physical" address 0.
pub const LINUX_CAP_MEMORY: u64 = 4;
pub const LINUX_CAP_LOG: u64 = 5;
/// Endpoint to the root task (ROOT_POWEROFF, ...).
pub const LINUX_CAP_ROOT: u64 = 6;
/// PCI configuration space (ECAM) as a device Range.
pub const LINUX_CAP_ECAM: u64 = 7;
/// PCI memory window below 4 GiB, and the one above, as device Ranges (0-sized windows have an empty slot).
pub const LINUX_CAP_MMIO: u64 = 8;
pub const LINUX_CAP_MMIO64: u64 = 9;
/// IrqHandlers for MSI, all on service cores: LINUX_CAP_MSI + i, i < msi_count.
pub const LINUX_CAP_MSI: u64 = 128;
/// vCPU thread i: LINUX_CAP_VCPU + i. Sending to it with a badged copy sets `pending`.
pub const LINUX_CAP_VCPU: u64 = 16;
/// The highest priority that Linux may give a thread of its compute cores: the ceiling of those Cpu capabilities.
pub const LINUX_CEILING: u64 = 128;
/// Cpu capability of compute core number c (machine numbering): LINUX_CAP_CPU + c.
pub const LINUX_CAP_CPU: u64 = 64;
pub const LINUX_CAP_FREE: u64 = 256;
pub const LINUX_CSPACE_SLOTS: u64 = 16384;

/// Where Linux's memory is mapped in its own Task, and so where vmlinux is linked to.
pub const LINUX_BASE: u64 = 0x6000_0000;

/// What the root task tells Linux (address in rdi at its start on vCPU 0; the page lies in Linux's memory).
#[repr(C)]
pub struct LinuxBoot {
    pub magic: u64,
    /// Bytes of Linux's memory, mapped at LINUX_BASE, readable, writable and executable, with 2 MiB pages.
    pub memory_bytes: u64,
    /// Physical machine address of its first byte: what a device must be told is offset + dma_base.
    pub dma_base: u64,
    /// Offsets from LINUX_BASE. [0, free_offset) holds vmlinux, this page, vCPU pages, decoupled frames, initramfs.
    pub free_offset: u64,
    /// 0 and 0 where there is none.
    pub initrd_offset: u64,
    pub initrd_bytes: u64,
    pub tsc_hz: u64,
    /// Nanoseconds since 1970 at TSC 0 (computed backwards, may be used as an unsigned sum).
    pub wall_ns_at_tsc0: u64,
    pub vcpu_count: u64,
    /// VcpuState of vCPU i: LINUX_BASE + vcpu_offset + i * 4096. The MessagePage of vCPU i: message_offset + i * 4096.
    pub vcpu_offset: u64,
    pub message_offset: u64,
    /// Service core (machine number) of vCPU i.
    pub vcpu_core: [u32; MAX_CORES],
    /// Compute cores: machine numbers. DecoupledFrame of entry i: LINUX_BASE + frame_offset + i * 4096.
    pub compute_count: u64,
    pub compute_core: [u32; MAX_CORES],
    pub frame_offset: u64,
    /// PCI: physical addresses and sizes of the windows behind the capabilities (sizes 0 where absent).
    pub ecam_address: u64,
    pub ecam_bytes: u64,
    pub mmio_address: u64,
    pub mmio_bytes: u64,
    pub mmio64_address: u64,
    pub mmio64_bytes: u64,
    pub msi_count: u64,
    /// XSAVE area size for the enabled features, and XCR0.
    pub xsave_bytes: u64,
    pub xcr0: u64,
    /// Zero-terminated Linux command line.
    pub cmdline: [u8; 1024],
}

const _: () = assert!(core::mem::size_of::<RootBoot>() <= 4096);
const _: () = assert!(core::mem::size_of::<LinuxBoot>() <= 4096);
