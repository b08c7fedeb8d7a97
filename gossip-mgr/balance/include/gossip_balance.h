/*
 * Diffusion-based repartitioning of a task graph. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Link with -lgossip_balance. Functions keep no state and may be called by several threads at once.
 */
#ifndef GOSSIP_BALANCE_H
#define GOSSIP_BALANCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GOSSIP_BALANCE_OK 0
#define GOSSIP_BALANCE_NULL (-1)    /* a pointer is null */
#define GOSSIP_BALANCE_OFFSETS (-2) /* the offsets do not ascend from 0, or there are over 2^32 tasks */
#define GOSSIP_BALANCE_EDGE (-3)    /* a neighbour or an edge is wrong */
#define GOSSIP_BALANCE_WEIGHT (-4)  /* a task's weight is not a positive number */
#define GOSSIP_BALANCE_OWNER (-5)   /* an owner is not below parts */
#define GOSSIP_BALANCE_OPTION (-6)  /* an option is out of its range */

/* Set all by gossip_balance_defaults, then change what you like. */
struct gossip_balance_options {
	size_t size;                /* of this structure; later versions of the library check it */
	double tolerance;           /* allowed highest load over mean load, minus 1; >= 0; default 0.05 */
	double flow_threshold;      /* pairs rest below this share of the mean load; > 0; default 0.001 */
	double migration_price;     /* edge weight that a task moved by refinement must save for each of its two
	                             * parts once that part has moved a mean part's number of tasks, before less,
	                             * with the third power of what it has moved; >= 0; default 10 */
	uint32_t max_iterations;    /* of the flow calculation; default 2000 */
	uint32_t refinement_passes; /* over all borders; up to twice as many over those of the parts with the
	                             * highest edge-cuts follow; default 2 */
};

struct gossip_balance_summary {
	uint64_t selected;   /* tasks moved for balance */
	uint64_t refined;    /* tasks moved for the edge-cut */
	uint32_t iterations; /* of the flow calculation */
};

void gossip_balance_defaults(struct gossip_balance_options *options);

/*
 * Improves owner[0..tasks), the part of each task, in place. Returns GOSSIP_BALANCE_OK, or one of the
 * others; then owner is unchanged.
 *
 * The neighbours of task t are neighbours[offsets[t] .. offsets[t + 1]), with the weights of the edges
 * to them at the same places. Each edge stands in the lists of both its ends, with the same weight.
 * Weights are positive. options may be null for the defaults, summary if it is not wanted. A part
 * without tasks has no neighbours and stays without.
 */
int32_t gossip_balance(size_t tasks, const size_t *offsets, const uint32_t *neighbours,
                       const float *edge_weights, const float *weights, uint32_t *owner, uint32_t parts,
                       const struct gossip_balance_options *options,
                       struct gossip_balance_summary *summary);

/* What a status means, in a line. Never null, never to be freed. */
const char *gossip_balance_message(int32_t status);

#ifdef __cplusplus
}
#endif
#endif
