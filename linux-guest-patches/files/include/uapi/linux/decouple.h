/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/decouple: move threads to compute cores and back.
 *
 * Cores are numbered as the machine numbers them. Structures have the same
 * layout for every caller; reserved fields and flags must be 0.
 */
#ifndef _UAPI_LINUX_DECOUPLE_H
#define _UAPI_LINUX_DECOUPLE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DECOUPLE_ABI		1

/* decouple_attach.core: take the first free core. */
#define DECOUPLE_CORE_ANY	(-1)

/**
 * struct decouple_attach - decouple a thread
 * @pid: process, 0 for the caller's own
 * @tid: thread; 0 for the main thread of @pid, or for the calling thread
 *	where @pid is 0
 * @core: compute core or DECOUPLE_CORE_ANY; on return the one taken
 * @flags: 0
 */
struct decouple_attach {
	__s32 pid;
	__s32 tid;
	__s32 core;
	__u32 flags;
};

/**
 * struct decouple_detach - bring a thread back
 * @pid: as in struct decouple_attach
 * @tid: as in struct decouple_attach
 * @flags: 0
 * @reserved: 0
 */
struct decouple_detach {
	__s32 pid;
	__s32 tid;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct decouple_reserve - reserve or release compute cores
 * @cores: bit c of word c / 64 stands for core c
 * @flags: 0
 * @reserved: 0
 */
struct decouple_reserve {
	__u64 cores[1];
	__u32 flags;
	__u32 reserved;
};

/**
 * struct decouple_version - what this kernel offers
 * @abi: DECOUPLE_ABI
 * @cores: number of compute cores
 */
struct decouple_version {
	__u32 abi;
	__u32 cores;
};

#define DECOUPLE_ATTACH		_IOWR('D', 1, struct decouple_attach)
#define DECOUPLE_DETACH		_IOW('D', 2, struct decouple_detach)
#define DECOUPLE_RESERVE	_IOW('D', 3, struct decouple_reserve)
#define DECOUPLE_RELEASE	_IOW('D', 4, struct decouple_reserve)
#define DECOUPLE_VERSION	_IOR('D', 5, struct decouple_version)

#endif /* _UAPI_LINUX_DECOUPLE_H */
