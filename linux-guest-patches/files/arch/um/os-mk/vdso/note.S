/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's version, for the C library's check of its minimum. */
#include <linux/elfnote.h>
#include <linux/version.h>

ELFNOTE_START(Linux, 0, "a")
	.long LINUX_VERSION_CODE
ELFNOTE_END
