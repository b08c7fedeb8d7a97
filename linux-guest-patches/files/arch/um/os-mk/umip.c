// SPDX-License-Identifier: GPL-2.0
/*
 * SGDT, SIDT, SLDT, STR and SMSW raise #GP in user mode where the processor has
 * UMIP. Programs get the same dummy values from them as from Linux on x86.
 */

#include <linux/kernel.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>
#include "os-mk.h"

#define GDT_BASE	0xfffffffffffe0000UL
#define IDT_BASE	0xffffffffffff0000UL
#define TSS_SELECTOR	(8 * 8)
#define CR0_VALUE	(X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE |	\
			 X86_CR0_WP | X86_CR0_AM | X86_CR0_PG)

#define MAX_LENGTH	15
#define REX_W		8
#define REX_X		2
#define REX_B		1

/* The register of each number in an instruction, as an index into gp[]. */
static const u8 reg_index[16] = {
	HOST_AX, HOST_CX, HOST_DX, HOST_BX, HOST_SP, HOST_BP, HOST_SI, HOST_DI,
	HOST_R8, HOST_R9, HOST_R10, HOST_R11, HOST_R12, HOST_R13, HOST_R14, HOST_R15,
};

struct instruction {
	u8 code[MAX_LENGTH];
	unsigned int available, length;
	bool short_operand, short_address;
	unsigned long segment;
	u8 rex, opcode, modrm;
};

/* Beyond the end of what could be read: zeros, and length tells. */
static u8 next_byte(struct instruction *insn)
{
	unsigned int at = insn->length++;

	return at < insn->available ? insn->code[at] : 0;
}

static long displacement(struct instruction *insn, unsigned int bytes)
{
	u32 value = 0;
	unsigned int i;

	for (i = 0; i < bytes; i++)
		value |= (u32)next_byte(insn) << (8 * i);
	return bytes == 1 ? (s8)value : (s32)value;
}

/* Up to and with the ModR/M byte. False: not one of the five. */
static bool decode(struct instruction *insn, struct pt_regs *regs)
{
	u8 byte, reg;

	for (;;) {
		byte = next_byte(insn);
		if (insn->length > insn->available)
			return false;
		if (byte == 0x66)
			insn->short_operand = true;
		else if (byte == 0x67)
			insn->short_address = true;
		else if (byte == 0x64)
			insn->segment = PT_REGS_REG(regs, FS_BASE);
		else if (byte == 0x65)
			insn->segment = PT_REGS_REG(regs, GS_BASE);
		else if (byte != 0xf2 && byte != 0xf3 && byte != 0x2e &&
			 byte != 0x36 && byte != 0x3e && byte != 0x26)
			break;
	}
	if ((byte & 0xf0) == 0x40) {
		insn->rex = byte & 0xf;
		byte = next_byte(insn);
	}
	if (byte != 0x0f)
		return false;
	insn->opcode = next_byte(insn);
	insn->modrm = next_byte(insn);
	reg = (insn->modrm >> 3) & 7;
	if (insn->opcode == 0)
		return reg <= 1;
	return insn->opcode == 1 &&
		(reg == 4 || (reg <= 1 && insn->modrm < 0xc0));
}

static unsigned long reg_value(struct pt_regs *regs, u8 number)
{
	return regs->regs.gp[reg_index[number]];
}

/* SDM volume 2, 2.1.5 and 2.2.1. */
static unsigned long operand_address(struct instruction *insn, struct pt_regs *regs)
{
	u8 mod = insn->modrm >> 6, rm = insn->modrm & 7, base = rm, index;
	bool based = true, relative = false;
	unsigned long address = 0;

	if (rm == 4) {
		u8 sib = next_byte(insn);

		base = sib & 7;
		index = ((sib >> 3) & 7) | (insn->rex & REX_X ? 8 : 0);
		if (index != 4)
			address = reg_value(regs, index) << (sib >> 6);
		based = base != 5 || mod;
	} else if (rm == 5 && !mod) {
		based = false;
		relative = true;
	}
	if (based)
		address += reg_value(regs, base | (insn->rex & REX_B ? 8 : 0));
	if (mod == 1)
		address += displacement(insn, 1);
	else if (mod == 2 || !based)
		address += displacement(insn, 4);
	if (relative)
		address += PT_REGS_IP(regs) + insn->length;
	if (insn->short_address)
		address = (u32)address;
	return address + insn->segment;
}

/* What the instruction stores; returns how many bytes. */
static unsigned int result(const struct instruction *insn, u8 *data)
{
	u8 reg = (insn->modrm >> 3) & 7;
	unsigned long value;

	if (insn->opcode == 1 && reg <= 1) {
		value = reg ? IDT_BASE : GDT_BASE;
		memset(data, 0, 2);
		memcpy(data + 2, &value, sizeof(value));
		return 2 + sizeof(value);
	}
	value = insn->opcode == 1 ? CR0_VALUE : reg ? TSS_SELECTOR : 0;
	memcpy(data, &value, sizeof(value));
	if (insn->modrm < 0xc0)
		return 2;
	return insn->rex & REX_W ? 8 : insn->short_operand ? 2 : 4;
}

bool mk_emulate_umip(struct pt_regs *regs)
{
	struct instruction insn = { };
	void __user *address;
	unsigned int size;
	u8 data[10];

	insn.available = sizeof(insn.code) -
		copy_from_user(insn.code, (void __user *)PT_REGS_IP(regs),
			       sizeof(insn.code));
	if (!decode(&insn, regs))
		return false;
	size = result(&insn, data);
	if (insn.modrm >= 0xc0) {
		u8 number = (insn.modrm & 7) | (insn.rex & REX_B ? 8 : 0);

		if (insn.length > insn.available)
			return false;
		memcpy(&regs->regs.gp[reg_index[number]], data, size);
	} else {
		address = (void __user *)operand_address(&insn, regs);
		if (insn.length > insn.available)
			return false;
		if (copy_to_user(address, data, size)) {
			current->thread.trapno = X86_TRAP_PF;
			current->thread.error = 6; /* a write by the user */
			current->thread.address = (unsigned long)address;
			force_sig_fault(SIGSEGV, SEGV_MAPERR, address);
			return true;
		}
	}
	PT_REGS_IP(regs) += insn.length;
	return true;
}
