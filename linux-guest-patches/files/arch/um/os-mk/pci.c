// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI host bridge: configuration space through ECAM, whose memory is a
 * device Range, and the two windows that hold the devices' BARs. What the
 * firmware assigned stays as it is.
 */
#include <linux/init.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <asm/mk.h>

#define ECAM_BUS_SHIFT	20
#define ECAM_BUSSES	256

/* Each bus is mapped when it is found: most machines use a few of the 256. */
static void __iomem *ecam_bus[ECAM_BUSSES];

static int mk_pci_add_bus(struct pci_bus *bus)
{
	u64 offset = (u64)bus->number << ECAM_BUS_SHIFT;

	if (ecam_bus[bus->number])
		return 0;
	if (offset >= mk_boot->ecam_bytes)
		return -ENODEV;

	ecam_bus[bus->number] = mk_map_device(MK_LINUX_CAP_ECAM, offset,
					      1UL << ECAM_BUS_SHIFT);
	return ecam_bus[bus->number] ? 0 : -ENOMEM;
}

static void mk_pci_remove_bus(struct pci_bus *bus)
{
	if (ecam_bus[bus->number])
		iounmap(ecam_bus[bus->number]);
	ecam_bus[bus->number] = NULL;
}

static void __iomem *mk_pci_map_bus(struct pci_bus *bus, unsigned int devfn,
				    int where)
{
	if (!ecam_bus[bus->number])
		return NULL;
	return ecam_bus[bus->number] + (devfn << 12) + where;
}

static struct pci_ops mk_pci_ops = {
	.add_bus	= mk_pci_add_bus,
	.remove_bus	= mk_pci_remove_bus,
	.map_bus	= mk_pci_map_bus,
	.read		= pci_generic_config_read,
	.write		= pci_generic_config_write,
};

static struct resource bus_window = {
	.name	= "PCI busses",
	.flags	= IORESOURCE_BUS,
};

static struct resource memory_windows[2] = {
	{ .name = "PCI memory", .flags = IORESOURCE_MEM },
	{ .name = "PCI memory above 4 GiB",
	  .flags = IORESOURCE_MEM | IORESOURCE_MEM_64 | IORESOURCE_PREFETCH },
};

static void __init add_window(struct pci_host_bridge *bridge,
			      struct resource *window, u64 address, u64 bytes)
{
	if (!bytes)
		return;

	window->start = MK_DEVICE_PHYS + address;
	window->end = window->start + bytes - 1;
	if (request_resource(&iomem_resource, window))
		pr_warn("window %pR overlaps another\n", window);
	pci_add_resource_offset(&bridge->windows, window, MK_DEVICE_PHYS);
}

/*
 * As pci_host_probe(), which would assign all resources anew here: it keeps
 * the firmware's assignment only where ACPI or a device tree asks for that.
 */
static int __init probe(struct pci_host_bridge *bridge)
{
	struct pci_bus *child;
	int err;

	pci_lock_rescan_remove();
	err = pci_scan_root_bus_bridge(bridge);
	if (err)
		goto out;

	pci_bus_claim_resources(bridge->bus);
	pci_assign_unassigned_root_bus_resources(bridge->bus);
	list_for_each_entry(child, &bridge->bus->children, node)
		pcie_bus_configure_settings(child);
	pci_bus_add_devices(bridge->bus);
out:
	pci_unlock_rescan_remove();
	return err;
}

static int __init mk_pci_init(void)
{
	struct pci_host_bridge *bridge;
	int err;

	if (!mk_boot->ecam_bytes)
		return 0;

	bridge = pci_alloc_host_bridge(0);
	if (!bridge)
		return -ENOMEM;

	bus_window.end = min_t(u64, mk_boot->ecam_bytes >> ECAM_BUS_SHIFT,
			       ECAM_BUSSES) - 1;
	pci_add_resource(&bridge->windows, &bus_window);
	add_window(bridge, &memory_windows[0], mk_boot->mmio_address,
		   mk_boot->mmio_bytes);
	add_window(bridge, &memory_windows[1], mk_boot->mmio64_address,
		   mk_boot->mmio64_bytes);

	bridge->ops = &mk_pci_ops;
	dev_set_msi_domain(&bridge->dev, mk_msi_domain());

	err = probe(bridge);
	if (err)
		pci_free_host_bridge(bridge);
	return err;
}
subsys_initcall(mk_pci_init);
