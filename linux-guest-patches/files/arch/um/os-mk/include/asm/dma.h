/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __UM_DMA_H
#define __UM_DMA_H

#include <asm/page.h>

#define MAX_DMA_ADDRESS PAGE_OFFSET

#endif
