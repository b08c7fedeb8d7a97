/*
 * The noise meter: a QEMU TCG plugin that counts, for each work quantum and each vCPU, the instructions that the core
 * executed, split into user and kernel mode, the entries into kernel mode, the system calls and the times the core
 * went idle. A quantum is what lies between the markers of fwq/asm/quantum.s. docs/measuring.md says what the counts
 * mean and where they end.
 *
 *   build   gcc -shared -fPIC -O2 -Wall -o libtacet-meter.so meter.c
 *   use     qemu-system-x86_64 -accel tcg,thread=multi ... -plugin /path/libtacet-meter.so,out=/path/meter.csv
 *           with ,trace=/path/trace also the address of each instruction of some windows (slow: every instruction of
 *           the machine's life calls back)
 *
 * Plugin API version 1 (QEMU 6.0 to 8.2; Debian 12 has 7.2). Debian packages no header for it, so the few functions
 * used are declared here. The order of events inside a translation block matters: the block's callback runs first and
 * adds all of its instructions; a marker's callback, later in the same block, takes the ones behind it off again.
 * QEMU takes interrupts only between blocks, so both are exact. A REP string instruction is translated into a block that
 * jumps to itself once an iteration; it counts as one instruction however many iterations it has, as on a real core.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    union {
        struct {
            int smp_vcpus, max_vcpus;
        } system;
    };
} qemu_info_t;
enum { CB_NO_REGS };
typedef void (*vcpu_udata_cb)(unsigned vcpu, void *udata);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, vcpu_udata_cb, int, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, vcpu_udata_cb, int, void *);
void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

EXPORT int qemu_plugin_version = 1;

#define MAX_VCPUS 64
#define IDS 256     /* ranks, runs and windows are one byte of the marker */
#define NO_ID (-1)

/* Where a vCPU was when its last block began: decides whether a kernel block is an entry, and of which kind. */
enum mode { KERNEL, USER, USER_SYSCALL };

struct counts {
    uint64_t user, kernel, entries, syscalls, idles;
};

/* Written by its own vCPU's thread only; read by others for windows, hence relaxed atomics and a line of its own. */
struct vcpu {
    struct counts c;
    enum mode mode;
    int rank;              /* of the last rank marker */
    uint64_t rank_at;      /* instructions executed up to and including it */
    uint64_t rep;          /* address of the last REP instruction */
    uint64_t rep_at;       /* instructions executed up to and including it */
} __attribute__((aligned(128)));

static struct vcpu vcpus[MAX_VCPUS];
static unsigned n_vcpus;

/* Everything below is touched at markers only (two per millisecond and core), under one lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int current_run = NO_ID;

enum flags { MIGRATED = 1, NO_RANK = 2, NO_GAP = 4, OVERLAP = 8 };

struct quantum {
    int run, rank, vcpu;
    unsigned flags;
    struct counts in, gap;
};
static struct quantum *quanta;
static size_t n_quanta, cap_quanta;

/* A quantum in progress, and the end of the one before. Slot `rank`; unranked quanta use IDS + vcpu. */
struct slot {
    bool open, ended;
    unsigned vcpu, flags;
    int ended_run;
    unsigned ended_vcpu;
    struct counts at, ended_at, gap;
};
static struct slot slots[IDS + MAX_VCPUS];

struct window {
    int id;
    unsigned vcpu_begin, vcpu_end;
    struct counts in[MAX_VCPUS];
};
static struct window *windows;
static size_t n_windows, cap_windows;
static bool window_open[IDS];
static unsigned window_vcpu[IDS];
static struct counts window_at[IDS][MAX_VCPUS];

/* Of the windows of one id, these are traced: early ones run on cold paths. */
enum { TRACE_FIRST = 100, TRACE_END = 116 };

/* What a vCPU executed since it began the window that is being traced. Belongs to the vCPU's thread, but for `open`, which
 * another one clears where the window ends there. */
struct trace {
    bool open;
    int id;
    uint64_t *addresses;
    size_t n, cap;
};
static struct trace traces[MAX_VCPUS];
static unsigned windows_begun[IDS];

static FILE *out, *trace_out;
static char *out_path, *trace_path;

static void bump(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static struct counts snapshot(unsigned v)
{
    const struct counts *c = &vcpus[v].c;
    return (struct counts){
        .user = __atomic_load_n(&c->user, __ATOMIC_RELAXED),
        .kernel = __atomic_load_n(&c->kernel, __ATOMIC_RELAXED),
        .entries = __atomic_load_n(&c->entries, __ATOMIC_RELAXED),
        .syscalls = __atomic_load_n(&c->syscalls, __ATOMIC_RELAXED),
        .idles = __atomic_load_n(&c->idles, __ATOMIC_RELAXED),
    };
}

static struct counts minus(struct counts a, struct counts b)
{
    return (struct counts){ a.user - b.user, a.kernel - b.kernel, a.entries - b.entries,
                            a.syscalls - b.syscalls, a.idles - b.idles };
}

static void *grow(void *array, size_t used, size_t *cap, size_t size)
{
    if (used < *cap)
        return array;
    *cap = *cap ? 2 * *cap : 16384;
    array = realloc(array, *cap * size);
    if (!array) {
        fprintf(stderr, "tacet-meter: out of memory at %zu records; the run is not metered, giving up\n", used);
        abort();
    }
    return array;
}

/* Callback argument: instructions in the block, whether it is a kernel block, whether it ends in SYSCALL or INT. */
#define BLOCK(n, kernel, sys) ((void *)(uintptr_t)((n) | (uint64_t)(kernel) << 32 | (uint64_t)(sys) << 33))

static void on_block(unsigned v, void *udata)
{
    uint64_t u = (uintptr_t)udata;
    struct vcpu *cpu = &vcpus[v];

    if (u >> 32 & 1) {
        bump(&cpu->c.kernel, (uint32_t)u);
        if (cpu->mode != KERNEL) {
            bump(&cpu->c.entries, 1);
            if (cpu->mode == USER_SYSCALL)
                bump(&cpu->c.syscalls, 1);
            cpu->mode = KERNEL;
        }
    } else {
        bump(&cpu->c.user, (uint32_t)u);
        cpu->mode = u >> 33 & 1 ? USER_SYSCALL : USER;
    }
}

/* One iteration of the REP instruction at this address, the last of its block. Nothing between it and the iteration
 * before: it is the same instruction still. */
static void on_rep(unsigned v, void *udata)
{
    uint64_t address = (uintptr_t)udata;
    struct vcpu *cpu = &vcpus[v];
    uint64_t executed = cpu->c.user + cpu->c.kernel;

    if (cpu->rep == address && cpu->rep_at == executed - 1) {
        bump(address >> 63 ? &cpu->c.kernel : &cpu->c.user, -1);
        if (traces[v].open)
            traces[v].n--;
        return;
    }
    cpu->rep = address;
    cpu->rep_at = executed;
}

static void on_idle(qemu_plugin_id_t id, unsigned v)
{
    if (v < MAX_VCPUS)
        bump(&vcpus[v].c.idles, 1);
}

static void quantum_begin(unsigned v, struct counts now)
{
    struct vcpu *cpu = &vcpus[v];
    bool ranked = cpu->rank != NO_ID && now.user + now.kernel - cpu->rank_at == 1;
    struct slot *s = &slots[ranked ? (unsigned)cpu->rank : IDS + v];

    s->flags = (ranked ? 0 : NO_RANK) | (s->open ? OVERLAP : 0);
    if (s->ended && s->ended_vcpu == v && s->ended_run == current_run)
        s->gap = minus(now, s->ended_at);
    else
        s->flags |= NO_GAP;
    s->open = true;
    s->vcpu = v;
    s->at = now;
}

static void quantum_end(unsigned v, struct counts now)
{
    struct vcpu *cpu = &vcpus[v];
    bool ranked = cpu->rank != NO_ID && now.user + now.kernel - cpu->rank_at == 1;
    struct slot *s = &slots[ranked ? (unsigned)cpu->rank : IDS + v];

    if (!s->open)
        return;
    quanta = grow(quanta, n_quanta, &cap_quanta, sizeof *quanta);
    struct quantum *q = &quanta[n_quanta++];
    *q = (struct quantum){ .run = current_run, .rank = ranked ? cpu->rank : NO_ID, .vcpu = v, .flags = s->flags };
    if (s->vcpu == v)
        q->in = minus(now, s->at);
    else
        q->flags |= MIGRATED;
    if (!(s->flags & NO_GAP))
        q->gap = s->gap;
    s->open = false;
    s->ended = true;
    s->ended_vcpu = v;
    s->ended_run = current_run;
    s->ended_at = now;
}

static void on_traced_insn(unsigned v, void *udata)
{
    struct trace *t = &traces[v];

    if (!__atomic_load_n(&t->open, __ATOMIC_RELAXED))
        return;
    t->addresses = grow(t->addresses, t->n, &t->cap, sizeof *t->addresses);
    t->addresses[t->n++] = (uintptr_t)udata;
}

static void trace_begin(unsigned v, int id)
{
    unsigned ordinal = windows_begun[id]++;

    if (!trace_out || ordinal < TRACE_FIRST || ordinal >= TRACE_END)
        return;
    traces[v].id = id;
    traces[v].n = 0;
    __atomic_store_n(&traces[v].open, true, __ATOMIC_RELAXED);
}

static void trace_end(unsigned v, int id)
{
    struct trace *t = &traces[v];

    if (!t->open || t->id != id)
        return;
    __atomic_store_n(&t->open, false, __ATOMIC_RELAXED);
    fprintf(trace_out, "T,%d,%u\n", id, v);
    for (size_t i = 0; i < t->n; i++)
        fprintf(trace_out, "%" PRIx64 "\n", t->addresses[i]);
}

static void window_begin(unsigned v, int id, struct counts now)
{
    trace_begin(v, id);
    window_open[id] = true;
    window_vcpu[id] = v;
    for (unsigned i = 0; i < n_vcpus; i++)
        window_at[id][i] = i == v ? now : snapshot(i);
}

static void window_end(unsigned v, int id, struct counts now)
{
    if (!window_open[id])
        return;
    if (window_vcpu[id] == v)
        trace_end(v, id);
    else
        __atomic_store_n(&traces[window_vcpu[id]].open, false, __ATOMIC_RELAXED); /* no path that one could follow */
    window_open[id] = false;
    windows = grow(windows, n_windows, &cap_windows, sizeof *windows);
    struct window *w = &windows[n_windows++];
    w->id = id;
    w->vcpu_begin = window_vcpu[id];
    w->vcpu_end = v;
    for (unsigned i = 0; i < n_vcpus; i++)
        w->in[i] = minus(i == v ? now : snapshot(i), window_at[id][i]);
}

/* Callback argument: instructions behind the marker in its block, kernel bit, the marker's two variable bytes. */
#define MARK(behind, kernel, low, kind) \
    ((void *)(uintptr_t)((behind) | (uint64_t)(kernel) << 32 | (uint64_t)(low) << 40 | (uint64_t)(kind) << 48))

static void on_marker(unsigned v, void *udata)
{
    uint64_t u = (uintptr_t)udata;
    uint8_t low = u >> 40, kind = u >> 48;
    struct counts now = snapshot(v);

    if (u >> 32 & 1)
        now.kernel -= (uint32_t)u;
    else
        now.user -= (uint32_t)u;

    if (kind == 'R') {
        vcpus[v].rank = low;
        vcpus[v].rank_at = now.user + now.kernel;
        return;
    }
    pthread_mutex_lock(&lock);
    if (kind == 'S' && low == 'B')
        quantum_begin(v, now);
    else if (kind == 'S' && low == 'E')
        quantum_end(v, now);
    else if (kind == 'J')
        current_run = low;
    else if (kind == 'j')
        current_run = NO_ID;
    else if (kind == 'W')
        window_begin(v, low, now);
    else if (kind == 'w')
        window_end(v, low, now);
    pthread_mutex_unlock(&lock);
}

/* Whether the bytes are a REP string instruction: prefixes, F2 or F3 among them, then INS to OUTS or MOVS to SCAS. */
static bool is_rep(const uint8_t *b, size_t size)
{
    bool rep = false;
    size_t i = 0;

    for (; i < size; i++) {
        if (b[i] == 0xf2 || b[i] == 0xf3)
            rep = true;
        else if (b[i] != 0x66 && b[i] != 0x67 && (b[i] & 0xf0) != 0x40)
            break;
    }
    return rep && i == size - 1 &&
           ((b[i] >= 0x6c && b[i] <= 0x6f) || (b[i] >= 0xa4 && b[i] <= 0xa7) || (b[i] >= 0xaa && b[i] <= 0xaf));
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;
    bool sys = false;

    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        const uint8_t *b = qemu_plugin_insn_data(insn);

        /* Before the marker's callback: a window holds the marker that ends it, not the one that begins it. */
        if (trace_out)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_traced_insn, CB_NO_REGS,
                                                   (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
        if (i == n - 1 && size == 2 && ((b[0] == 0x0f && b[1] == 0x05) || b[0] == 0xcd))
            sys = true;
        if (i == n - 1 && is_rep(b, size))
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_rep, CB_NO_REGS,
                                                   (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
        if (size == 7 && b[0] == 0x0f && b[1] == 0x1f && b[2] == 0x80 && b[5] == 0x51 && b[6] == 0x4e &&
            strchr("SRJjWw", b[4]) && b[4])
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_marker, CB_NO_REGS, MARK(n - 1 - i, kernel, b[3], b[4]));
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CB_NO_REGS, BLOCK(n, kernel, sys));
}

static void print_counts(struct counts c)
{
    fprintf(out, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, c.user, c.kernel, c.entries,
            c.syscalls, c.idles);
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *udata)
{
    pthread_mutex_lock(&lock);
    fprintf(out, "tacet-meter,1,%u\n", n_vcpus);
    for (unsigned v = 0; v < n_vcpus; v++) {
        fprintf(out, "V,%u", v);
        print_counts(snapshot(v));
        fputc('\n', out);
    }
    for (size_t i = 0; i < n_quanta; i++) {
        const struct quantum *q = &quanta[i];
        fprintf(out, "Q,%d,%d,%d,%u", q->run, q->rank, q->vcpu, q->flags);
        print_counts(q->in);
        print_counts(q->gap);
        fputc('\n', out);
    }
    for (size_t i = 0; i < n_windows; i++)
        for (unsigned v = 0; v < n_vcpus; v++) {
            const struct window *w = &windows[i];
            fprintf(out, "W,%d,%zu,%u,%u,%u", w->id, i, w->vcpu_begin, w->vcpu_end, v);
            print_counts(w->in[v]);
            fputc('\n', out);
        }
    /* The last line proves to the reader that the file is whole. */
    fprintf(out, "end,%zu,%zu\n", n_quanta, n_windows);
    if (fflush(out) || ferror(out) || fclose(out))
        fprintf(stderr, "tacet-meter: cannot write %s: %s\n", out_path, strerror(errno));
    if (trace_out) {
        fprintf(trace_out, "end\n");
        if (fflush(trace_out) || ferror(trace_out) || fclose(trace_out))
            fprintf(stderr, "tacet-meter: cannot write %s: %s\n", trace_path, strerror(errno));
    }
    pthread_mutex_unlock(&lock);
}

static FILE *open_for_writing(const char *path)
{
    FILE *file = fopen(path, "w");

    if (!file)
        fprintf(stderr, "tacet-meter: cannot write %s: %s\n", path, strerror(errno));
    return file;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (!info->system_emulation || strcmp(info->target_name, "x86_64")) {
        fprintf(stderr, "tacet-meter: works with qemu-system-x86_64 only, this is %s\n", info->target_name);
        return -1;
    }
    if (info->system.max_vcpus < 1 || info->system.max_vcpus > MAX_VCPUS) {
        fprintf(stderr, "tacet-meter: %d vCPUs; at most %d can be metered\n", info->system.max_vcpus, MAX_VCPUS);
        return -1;
    }
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4) && argv[i][4] && !out_path) {
            out_path = strdup(argv[i] + 4);
        } else if (!strncmp(argv[i], "trace=", 6) && argv[i][6] && !trace_path) {
            trace_path = strdup(argv[i] + 6);
        } else {
            fprintf(stderr, "tacet-meter: unknown or repeated argument '%s'; the arguments are out=FILE and trace=FILE\n",
                    argv[i]);
            return -1;
        }
    }
    if (!out_path) {
        fprintf(stderr, "tacet-meter: give out=FILE, the file for the counts\n");
        return -1;
    }
    if (!(out = open_for_writing(out_path)) || (trace_path && !(trace_out = open_for_writing(trace_path))))
        return -1;
    n_vcpus = info->system.max_vcpus;
    for (unsigned v = 0; v < n_vcpus; v++)
        vcpus[v].rank = NO_ID;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_idle_cb(id, on_idle);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
