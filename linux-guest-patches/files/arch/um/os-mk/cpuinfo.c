// SPDX-License-Identifier: GPL-2.0
/* The processor: CPUID needs no privilege. */

#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/math64.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/topology.h>
#include <linux/utsname.h>
#include <asm/archrandom.h>
#include <asm/cpufeature.h>
#include <asm/elf.h>
#include <asm/mk.h>
#include "os-mk.h"

struct cpuinfo_um boot_cpu_data = {
	.cache_alignment = L1_CACHE_BYTES,
};
EXPORT_SYMBOL(boot_cpu_data);

unsigned long mk_hwcap __ro_after_init;

static void cpuid(u32 leaf, u32 sub, u32 *regs)
{
	asm volatile("cpuid"
		     : "=a" (regs[0]), "=b" (regs[1]), "=c" (regs[2]), "=d" (regs[3])
		     : "0" (leaf), "2" (sub));
}

void __init mk_cpuinfo_init(void)
{
	struct cpuinfo_um *c = &boot_cpu_data;
	u32 max, max_ext, i, r[4];

	cpuid(0, 0, r);
	max = r[0];
	memcpy(c->vendor_id, &r[1], 4);
	memcpy(c->vendor_id + 4, &r[3], 4);
	memcpy(c->vendor_id + 8, &r[2], 4);

	/* The words of x86_capability are numbered in asm/cpufeatures.h. */
	cpuid(1, 0, r);
	mk_hwcap = r[3];
	c->x86 = (r[0] >> 8) & 0xf;
	c->x86_model = (r[0] >> 4) & 0xf;
	if (c->x86 == 0xf)
		c->x86 += (r[0] >> 20) & 0xff;
	if (c->x86 >= 6)
		c->x86_model += ((r[0] >> 16) & 0xf) << 4;
	c->x86_stepping = r[0] & 0xf;
	if (r[3] & BIT(19)) /* CLFLUSH: its line size */
		c->cache_alignment = ((r[1] >> 8) & 0xff) * 8;
	c->x86_capability[0] = r[3];
	c->x86_capability[4] = r[2];
	if (max >= 7) {
		cpuid(7, 0, r);
		c->x86_capability[9] = r[1];
		c->x86_capability[16] = r[2];
		c->x86_capability[18] = r[3];
	}
	if (max >= 0xd) {
		cpuid(0xd, 1, r);
		c->x86_capability[10] = r[0];
	}

	cpuid(0x80000000, 0, r);
	max_ext = r[0];
	if (max_ext >= 0x80000001) {
		cpuid(0x80000001, 0, r);
		c->x86_capability[1] = r[3];
		c->x86_capability[6] = r[2];
	}
	if (max_ext >= 0x80000004)
		for (i = 0; i < 3; i++)
			cpuid(0x80000002 + i, 0, (u32 *)(c->model_id + 16 * i));

	strscpy(init_utsname()->machine, "x86_64", sizeof(init_utsname()->machine));
}

unsigned int mk_core_of(unsigned int cpu)
{
	return mk_boot->vcpu_core[cpu];
}

static bool rand_step(bool seed, unsigned long *v)
{
	unsigned int tries = 10;
	bool ok;

	do {
		if (seed)
			asm volatile("rdseed %0" : "=r" (*v), "=@ccc" (ok));
		else
			asm volatile("rdrand %0" : "=r" (*v), "=@ccc" (ok));
	} while (!ok && --tries);
	return ok;
}

size_t arch_get_random_longs(unsigned long *v, size_t max_longs)
{
	return max_longs && boot_cpu_has(X86_FEATURE_RDRAND) && rand_step(false, v);
}

size_t arch_get_random_seed_longs(unsigned long *v, size_t max_longs)
{
	return max_longs && boot_cpu_has(X86_FEATURE_RDSEED) && rand_step(true, v);
}

static int show_cpuinfo(struct seq_file *m, void *v)
{
	struct cpuinfo_um *c = &boot_cpu_data;
	u64 khz = div_u64(mk_boot->tsc_hz, 1000);
	int cpu = (unsigned long)v - 1, i;

	seq_printf(m, "processor\t: %d\n", cpu);
	seq_printf(m, "vendor_id\t: %s\n", c->vendor_id);
	seq_printf(m, "cpu family\t: %d\n", c->x86);
	seq_printf(m, "model\t\t: %d\n", c->x86_model);
	seq_printf(m, "model name\t: %s\n", c->model_id[0] ? c->model_id : "unknown");
	seq_printf(m, "stepping\t: %d\n", c->x86_stepping);
	seq_printf(m, "cpu MHz\t\t: %llu.%03llu\n", khz / 1000, khz % 1000);
	seq_printf(m, "physical id\t: %d\n", topology_physical_package_id(cpu));
	seq_printf(m, "siblings\t: %u\n", num_online_cpus());
	seq_printf(m, "core id\t\t: %u\n", mk_core_of(cpu));
	seq_printf(m, "cpu cores\t: %u\n", num_online_cpus());
	seq_puts(m, "fpu\t\t: yes\n");
	seq_puts(m, "flags\t\t:");
	for (i = 0; i < 32 * NCAPINTS; i++)
		if (cpu_has(c, i) && x86_cap_flags[i])
			seq_printf(m, " %s", x86_cap_flags[i]);
	seq_printf(m, "\nbogomips\t: %lu.%02lu\n", loops_per_jiffy / (500000 / HZ),
		   (loops_per_jiffy / (5000 / HZ)) % 100);
	seq_printf(m, "clflush size\t: %d\n", c->cache_alignment);
	seq_printf(m, "cache_alignment\t: %d\n\n", c->cache_alignment);
	return 0;
}

static void *c_start(struct seq_file *m, loff_t *pos)
{
	*pos = cpumask_next(*pos - 1, cpu_online_mask);
	return *pos < nr_cpu_ids ? (void *)(unsigned long)(*pos + 1) : NULL;
}

static void *c_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return c_start(m, pos);
}

static void c_stop(struct seq_file *m, void *v)
{
}

const struct seq_operations cpuinfo_op = {
	.start	= c_start,
	.next	= c_next,
	.stop	= c_stop,
	.show	= show_cpuinfo,
};
