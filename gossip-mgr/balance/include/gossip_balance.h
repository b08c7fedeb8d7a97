/* Diffusion-based repartitioning of a task graph. SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef GOSSIP_BALANCE_H
#define GOSSIP_BALANCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GOSSIP_BALANCE_OK 0
#define GOSSIP_BALANCE_NULL (-1)    /* a pointer was null */
#define GOSSIP_BALANCE_INVALID (-2) /* graph or owners do not fit; nothing was changed */

/*
 * Improves owner[0..tasks), the part of each task, in place.
 *
 * The neighbours of task t are neighbours[offsets[t] .. offsets[t + 1]), each edge in the lists of
 * both its ends. Weights are positive. tolerance is the allowed imbalance, 0.05 for 5 %.
 */
int32_t gossip_balance(size_t tasks, const size_t *offsets, const uint32_t *neighbours,
                       const float *edge_weights, const float *weights, uint32_t *owner,
                       uint32_t parts, double tolerance);

#ifdef __cplusplus
}
#endif
#endif
