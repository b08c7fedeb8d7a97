/*
 * Drives the meter's callbacks without QEMU: the events come from standard input, one a line, and the file is written
 * at the end, as QEMU would have it. Arguments: the file to write, the number of vCPUs; with a third one, a trace goes there.
 *
 *   b VCPU N K S        a block of N instructions runs; K kernel, S ends in SYSCALL
 *   m VCPU LOW KIND K   a marker is executed, the last instruction of its block so far counted
 *   r VCPU ADDRESS K    one iteration of the REP instruction at this address; a kernel one has the top bit set too
 *   i VCPU              the vCPU goes idle
 *   t VCPU ADDRESS      the vCPU executes the instruction at this address
 */
#include "../plugin/meter.c"

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) { return 0; }
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb) { return 0; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i) { return NULL; }
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn) { return 0; }
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn) { return NULL; }
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn) { return 0; }
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *)) {}
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, vcpu_udata_cb cb, int flags, void *u) {}
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, vcpu_udata_cb cb, int flags, void *u) {}
void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, unsigned)) {}
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *), void *u) {}

int main(int argc, char **argv)
{
    char option[4096], trace_option[4096], line[80], low, kind;
    unsigned v, n, k, s;
    char *options[] = { option, trace_option };
    qemu_info_t info = { .target_name = "x86_64", .system_emulation = true };

    if (argc != 3 && argc != 4)
        return 2;
    info.system.max_vcpus = info.system.smp_vcpus = atoi(argv[2]);
    snprintf(option, sizeof option, "out=%s", argv[1]);
    if (argc == 4)
        snprintf(trace_option, sizeof trace_option, "trace=%s", argv[3]);
    if (qemu_plugin_install(0, &info, argc - 2, options))
        return 1;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "b %u %u %u %u", &v, &n, &k, &s) == 4)
            on_block(v, BLOCK(n, k, s));
        else if (sscanf(line, "m %u %c %c %u", &v, &low, &kind, &k) == 4)
            on_marker(v, MARK(0, k, (uint8_t)(low >= '0' && low <= '9' ? low - '0' : low), (uint8_t)kind));
        else if (sscanf(line, "r %u %u %u", &v, &n, &k) == 3) {
            on_block(v, BLOCK(1, k, 0));
            on_rep(v, (void *)(uintptr_t)(n | (uint64_t)k << 63));
        } else if (sscanf(line, "i %u", &v) == 1)
            on_idle(0, v);
        else if (sscanf(line, "t %u %u", &v, &n) == 2)
            on_traced_insn(v, (void *)(uintptr_t)n);
        else
            return 3;
    }
    on_exit_of_qemu(0, NULL);
    return 0;
}
