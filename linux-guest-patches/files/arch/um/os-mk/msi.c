// SPDX-License-Identifier: GPL-2.0
/*
 * Message-signalled interrupts. The root task gave Linux a number of
 * IrqHandlers, each of them one vector of the first service core. Handler i
 * signals a vCPU with bit i, which one is the interrupt's affinity; the address
 * and the data that a device must write come from the microkernel.
 */
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/msi.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <asm/mk.h>

/* Bits of `pending` that are for devices; the ones above have other uses. */
#define MSI_BITS	MK_PENDING_DOORBELL_BIT

struct msi_vector {
	int signal;		/* slot of the badged vCPU capability, or 0 */
	unsigned int cpu;	/* which vCPU that is */
	struct msi_msg message;
};

static struct msi_vector vectors[MSI_BITS];
static DECLARE_BITMAP(vectors_used, MSI_BITS);
static DEFINE_MUTEX(vectors_lock);
static struct irq_domain *vector_domain;

static void msi_arrived(unsigned int bit)
{
	generic_handle_domain_irq(vector_domain, bit);
}

static void vector_compose(struct irq_data *data, struct msi_msg *msg)
{
	*msg = vectors[data->hwirq].message;
}

/* An edge needs no acknowledgement: the local APIC has had its own already. */
static void vector_ack(struct irq_data *data)
{
}

/* From now on vector @i interrupts @cpu. */
static int vector_bind(unsigned int i, unsigned int cpu)
{
	int slot = mk_slot_alloc(), old = vectors[i].signal, unused = slot;
	long err;

	if (slot < 0)
		return slot;

	err = mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_COPY,
			MK_LINUX_CAP_VCPU + cpu, slot, MK_RIGHT_WRITE, 1ULL << i);
	if (err)
		goto out;

	err = mk_invoke(MK_LINUX_CAP_MSI + i, MK_IRQ_BIND, slot, 0, 0, 0);
	if (!err) {
		vectors[i].signal = slot;
		vectors[i].cpu = cpu;
		unused = old;
	}
	if (unused)
		mk_invoke(MK_LINUX_CAP_CSPACE, MK_CSPACE_DELETE, unused, 0, 0, 0);
out:
	if (unused)
		mk_slot_free(unused);
	return err;
}

/* The message stays the same: the microkernel signals another vCPU. */
static int vector_set_affinity(struct irq_data *data, const struct cpumask *mask,
			       bool force)
{
	unsigned int cpu = cpumask_first_and(mask, cpu_online_mask);
	int err;

	if (cpu >= nr_cpu_ids)
		return -EINVAL;
	if (vectors[data->hwirq].cpu != cpu) {
		err = vector_bind(data->hwirq, cpu);
		if (err)
			return err;
	}
	irq_data_update_effective_affinity(data, cpumask_of(cpu));
	return IRQ_SET_MASK_OK_DONE;
}

static struct irq_chip vector_chip = {
	.name			= "MK-vector",
	.irq_ack		= vector_ack,
	.irq_compose_msi_msg	= vector_compose,
	.irq_set_affinity	= vector_set_affinity,
};

/* Binds a handler the first time it is used; it stays bound. */
static int vector_prepare(unsigned int i)
{
	struct msi_vector *v = &vectors[i];
	u64 address, data;
	int err;

	if (v->signal)
		return 0;

	err = mk_invoke_out(MK_LINUX_CAP_MSI + i, MK_IRQ_MSI, 0, 0, &address,
			    &data);
	if (err)
		return err;

	v->message.address_lo = lower_32_bits(address);
	v->message.address_hi = upper_32_bits(address);
	v->message.data = data;
	mk_bit_handler(i, msi_arrived);
	return vector_bind(i, 0);
}

static int vector_alloc(struct irq_domain *domain, unsigned int virq,
			unsigned int count, void *arg)
{
	unsigned long limit = min_t(u64, mk_boot->msi_count, MSI_BITS);
	unsigned long i;
	int err;

	if (count != 1)
		return -EINVAL;

	mutex_lock(&vectors_lock);
	i = find_first_zero_bit(vectors_used, limit);
	err = i < limit ? vector_prepare(i) : -ENOSPC;
	if (!err)
		__set_bit(i, vectors_used);
	mutex_unlock(&vectors_lock);
	if (err)
		return err;

	irq_domain_set_info(domain, virq, i, &vector_chip, NULL,
			    handle_edge_irq, NULL, NULL);
	return 0;
}

static void vector_free(struct irq_domain *domain, unsigned int virq,
			unsigned int count)
{
	struct irq_data *data = irq_domain_get_irq_data(domain, virq);

	mutex_lock(&vectors_lock);
	__clear_bit(data->hwirq, vectors_used);
	mutex_unlock(&vectors_lock);
	irq_domain_reset_irq_data(data);
}

static const struct irq_domain_ops vector_ops = {
	.alloc	= vector_alloc,
	.free	= vector_free,
};

static struct irq_chip msi_chip = {
	.name		= "MK-PCI-MSI",
	.irq_ack	= irq_chip_ack_parent,
	.irq_mask	= pci_msi_mask_irq,
	.irq_unmask	= pci_msi_unmask_irq,
};

static struct msi_domain_info msi_info = {
	.flags	= MSI_FLAG_USE_DEF_DOM_OPS | MSI_FLAG_USE_DEF_CHIP_OPS |
		  MSI_FLAG_PCI_MSIX,
	.chip	= &msi_chip,
};

/**
 * mk_msi_domain() - the interrupt domain of PCI's MSI and MSI-X
 *
 * Return: the domain, or NULL where the machine has none for Linux.
 */
struct irq_domain * __init mk_msi_domain(void)
{
	struct fwnode_handle *fwnode;
	struct irq_domain *domain;

	if (!mk_boot->msi_count)
		return NULL;

	fwnode = irq_domain_alloc_named_fwnode("mk-msi");
	if (!fwnode)
		return NULL;

	vector_domain = irq_domain_create_linear(fwnode, MSI_BITS, &vector_ops,
						 NULL);
	if (!vector_domain)
		goto out_fwnode;

	domain = pci_msi_create_irq_domain(fwnode, &msi_info, vector_domain);
	if (!domain)
		goto out_domain;
	return domain;

out_domain:
	irq_domain_remove(vector_domain);
	vector_domain = NULL;
out_fwnode:
	irq_domain_free_fwnode(fwnode);
	return NULL;
}
