/*
 * The bare-metal floor: the same quantum as mpi-fwq's with no system at all. Every core but the first is one rank; no
 * interrupt is ever enabled. What time still varies here is the emulator's and the host's doing.
 *
 * Command line (all optional): mode=step|start samples=N work=BITS | iterations=N warmup=N run=ID
 * Result on COM1, lines of text, read by fwq's src/bare.rs; then QEMU's isa-debug-exit with status 0 (1 on an error).
 */
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;

void fwq_quantum(u64 iterations, u64 times[2], u64 rank);
void fwq_mark_run_begin(u64 run);
void fwq_mark_run_end(u64 run);

/* struct hvm_start_info, xen/include/public/arch-x86/hvm/start_info.h */
struct start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist, cmdline, rsdp;
};

#define MAX_RANKS 255
#define BUFFER ((u64 (*)[2])(32ul << 20)) /* samples of all ranks, from 32 MiB on */
#define BUFFER_BYTES (448ul << 20)        /* the machine has 512 MiB at least */

static u64 samples = 10000, iterations = 1 << 15, warmup = 100, run, ranks;
static int step = 1;
static u64 tsc_hz, origin;
static u64 boundary[MAX_RANKS][2]; /* each rank's clock before its first and after its last quantum */
static volatile u32 arrived, phase, finished, started;

static inline void outb(uint16_t port, uint8_t v) { asm volatile("outb %0,%1" ::"a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1,%0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline u64 rdtsc(void)
{
    u32 lo, hi;
    asm volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi)::"memory");
    return lo | (u64)hi << 32;
}
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static void __attribute__((noreturn)) sleep_for_ever(void)
{
    for (;;)
        asm volatile("cli; hlt");
}

static void put(const char *s)
{
    for (; *s; s++) {
        while (!(inb(0x3fd) & 0x20))
            pause();
        outb(0x3f8, *s);
    }
}
static void put_number(u64 n)
{
    char text[21], *p = text + 20;
    *p = 0;
    do
        *--p = '0' + n % 10;
    while (n /= 10);
    put(p);
}
static void put_pair(const char *name, u64 n)
{
    put(name);
    put_number(n);
}

static void __attribute__((noreturn)) leave(uint8_t status)
{
    outb(0xf4, status);
    sleep_for_ever();
}
static void __attribute__((noreturn)) fail(const char *what, const char *where)
{
    put("error ");
    put(what);
    put(where);
    put("\n");
    leave(1);
}

/* If `word` is KEY=NUMBER with this key, store the number. */
static int option(const char *word, const char *key, u64 min, u64 max, u64 *value)
{
    const char *p = word;
    while (*key)
        if (*p++ != *key++)
            return 0;
    u64 n = 0;
    if (*p < '0' || *p > '9')
        fail("number expected: ", word);
    for (; *p >= '0' && *p <= '9'; p++) {
        n = 10 * n + (*p - '0');
        if (n > max)
            fail("number too large: ", word);
    }
    if (*p && *p != ' ')
        fail("number expected: ", word);
    if (n < min)
        fail("number too small: ", word);
    *value = n;
    return 1;
}
static int same(const char *word, const char *want)
{
    while (*want)
        if (*word++ != *want++)
            return 0;
    return *word == 0 || *word == ' ';
}
static void parse(const char *line)
{
    u64 bits;
    while (*line) {
        if (*line == ' ') {
            line++;
            continue;
        }
        if (same(line, "mode=step"))
            step = 1;
        else if (same(line, "mode=start"))
            step = 0;
        else if (option(line, "work=", 3, 30, &bits))
            iterations = 1ul << bits;
        else if (!option(line, "samples=", 1, 10000000, &samples) &&
                 !option(line, "iterations=", 1, 1ul << 32, &iterations) &&
                 !option(line, "warmup=", 0, 1000000, &warmup) && !option(line, "run=", 0, 255, &run))
            fail("unknown option: ", line);
        while (*line && *line != ' ')
            line++;
    }
}

/* Counter 2 of the PIT (1,193,182 Hz) counts 1 ms down in mode 0; its output is bit 5 of port 0x61. The clock is read
 * before the counter starts and after it is seen to have ended: what the host delays makes a try longer, never shorter,
 * so the shortest of a few is right. */
static u64 calibrate(void)
{
    const u64 ticks = 1193;
    u64 shortest = ~0ul;

    outb(0x61, (inb(0x61) & ~2) | 1);
    for (int i = 0; i < 100; i++) {
        outb(0x43, 0xb0);
        outb(0x42, ticks & 0xff);
        u64 begin = rdtsc();
        outb(0x42, ticks >> 8);
        while (!(inb(0x61) & 0x20))
            pause();
        u64 length = rdtsc() - begin;
        if (length < shortest)
            shortest = length;
    }
    return shortest * 1193182 / ticks;
}

static void barrier(void)
{
    u32 p = phase;
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == ranks) {
        arrived = 0;
        __atomic_store_n(&phase, p + 1, __ATOMIC_RELEASE);
    } else
        while (phase == p)
            pause();
}

static void __attribute__((noreturn)) report(void)
{
    put("tacet-bare 1\n");
    put(step ? "mode step" : "mode start");
    put_pair("\nsamples ", samples);
    put_pair("\niterations ", iterations);
    put_pair("\nwarmup ", warmup);
    put_pair("\nrun ", run);
    put_pair("\nranks ", ranks);
    put_pair("\ntsc_hz ", tsc_hz);
    put("\n");
    for (u64 r = 0; r < ranks; r++) {
        put_pair("rank ", r);
        put_pair(" core ", r + 1);
        put_pair(" begin ", boundary[r][0] - origin);
        put_pair(" end ", boundary[r][1] - origin);
        put("\n");
        for (u64 i = 0; i < samples; i++) {
            const u64 *t = BUFFER[r * samples + i];
            put_number(t[0] - origin);
            put_pair(" ", t[1] - t[0]);
            put("\n");
        }
    }
    put("end\n");
    leave(0);
}

void __attribute__((noreturn)) bare_core(u32 core)
{
    u64 rank = core - 1;
    u64(*t)[2] = BUFFER + rank * samples;

    __atomic_add_fetch(&started, 1, __ATOMIC_ACQ_REL);
    for (u64 i = 0; i < samples; i++)
        t[i][0] = t[i][1] = 0; /* as in mpi-fwq: the buffer is touched before the first quantum */
    for (u64 i = 0; i < warmup; i++) {
        u64 discard[2];
        barrier();
        fwq_quantum(iterations, discard, rank);
    }
    barrier();
    fwq_mark_run_begin(run);
    barrier();
    boundary[rank][0] = rdtsc();
    for (u64 i = 0; i < samples; i++) {
        fwq_quantum(iterations, t[i], rank);
        if (step)
            barrier();
    }
    boundary[rank][1] = rdtsc();
    barrier();
    fwq_mark_run_end(run);
    if (__atomic_add_fetch(&finished, 1, __ATOMIC_ACQ_REL) == ranks)
        report();
    sleep_for_ever();
}

void __attribute__((noreturn)) bare_main(const struct start_info *info)
{
    volatile u32 *apic = (volatile u32 *)0xfee00000;

    /* COM1: 115200 8N1, no interrupts. */
    outb(0x3f9, 0);
    outb(0x3fb, 0x80);
    outb(0x3f8, 1);
    outb(0x3f9, 0);
    outb(0x3fb, 3);
    if (info->magic != 0x336ec578)
        fail("not started by PVH", "");
    if (info->cmdline)
        parse((const char *)info->cmdline);

    /* QEMU's fw_cfg, key 5: the number of cores. */
    asm volatile("outw %0,%1" ::"a"((uint16_t)5), "Nd"((uint16_t)0x510));
    u64 cores = inb(0x511);
    cores |= inb(0x511) << 8;
    if (cores < 2)
        fail("one core only: start with -smp 2 or more; rank r runs on core r + 1", "");
    ranks = cores - 1;
    if (ranks > MAX_RANKS || ranks * samples * sizeof *BUFFER > BUFFER_BYTES)
        fail("too many samples: 29,360,128 for all cores together is the limit", "");

    tsc_hz = calibrate();
    origin = rdtsc();
    apic[0xf0 / 4] = 0x1ff;       /* enable the local APIC */
    apic[0x300 / 4] = 0xc4500;    /* INIT to all but self */
    for (u64 until = rdtsc() + tsc_hz / 100; rdtsc() < until;)
        pause();
    apic[0x300 / 4] = 0xc4608;    /* start-up at 0x8000 */
    for (u64 until = rdtsc() + 2 * tsc_hz; started < ranks;) {
        if (rdtsc() > until)
            fail("a core did not start", "");
        pause();
    }
    sleep_for_ever();
}
