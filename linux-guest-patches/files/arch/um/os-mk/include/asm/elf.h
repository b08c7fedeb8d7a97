/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_ELF_H
#define __UM_ELF_H

#include <asm/auxvec.h>
#include <asm/hwcap2.h>
#include <asm/page.h>
#include <asm/ptrace.h>
#include <asm/user.h>
#include <asm/mmu.h>

/* Relocations of modules (arch/x86/kernel/module.c). */
#define R_X86_64_NONE		0
#define R_X86_64_64		1
#define R_X86_64_PC32		2
#define R_X86_64_GOT32		3
#define R_X86_64_PLT32		4
#define R_X86_64_COPY		5
#define R_X86_64_GLOB_DAT	6
#define R_X86_64_JUMP_SLOT	7
#define R_X86_64_RELATIVE	8
#define R_X86_64_GOTPCREL	9
#define R_X86_64_32		10
#define R_X86_64_32S		11
#define R_X86_64_16		12
#define R_X86_64_PC16		13
#define R_X86_64_8		14
#define R_X86_64_PC8		15
#define R_X86_64_PC64		24

#define elf_check_arch(x)	((x)->e_machine == EM_X86_64)

#define ELF_CLASS	ELFCLASS64
#define ELF_DATA	ELFDATA2LSB
#define ELF_ARCH	EM_X86_64
#define ELF_PLATFORM	"x86_64"

#define CORE_DUMP_USE_REGSET
#define ELF_EXEC_PAGESIZE	4096
#define ELF_ET_DYN_BASE		(TASK_SIZE / 3 * 2)

typedef unsigned long elf_greg_t;
#define ELF_NGREG (sizeof(struct user_regs_struct) / sizeof(elf_greg_t))
typedef elf_greg_t elf_gregset_t[ELF_NGREG];
typedef struct user_i387_struct elf_fpregset_t;

#define ELF_PLAT_INIT(regs, load_addr) \
	memset((regs)->regs.gp, 0, HOST_IP * sizeof(unsigned long))

/* linux/elfcore.h writes no semicolon behind it. */
#define ELF_CORE_COPY_REGS(dest, r) \
	memcpy(&(dest), (r)->regs.gp, sizeof((r)->regs.gp));

extern unsigned long mk_hwcap;
#define ELF_HWCAP	(mk_hwcap)
/* RDFSBASE and its kin work: the microkernel requires them. */
#define ELF_HWCAP2	HWCAP2_FSGSBASE

#define SET_PERSONALITY(ex)	do { } while (0)

/* Room that a signal frame takes, for AT_MINSIGSTKSZ. */
unsigned long mk_sigframe_size(void);

#ifdef CONFIG_GENERIC_GETTIMEOFDAY
#define ARCH_HAS_SETUP_ADDITIONAL_PAGES 1
struct linux_binprm;
int arch_setup_additional_pages(struct linux_binprm *bprm, int uses_interp);

#define ARCH_DLINFO							\
do {									\
	if (current->mm->context.vdso)					\
		NEW_AUX_ENT(AT_SYSINFO_EHDR, current->mm->context.vdso);	\
	NEW_AUX_ENT(AT_MINSIGSTKSZ, mk_sigframe_size());		\
} while (0)
#else
#define ARCH_DLINFO	NEW_AUX_ENT(AT_MINSIGSTKSZ, mk_sigframe_size())
#endif

#endif
