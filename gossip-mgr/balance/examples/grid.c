/*
 * A grid of tasks whose corner has become eight times as heavy, balanced among four parts.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     cargo build --release -p gossip-balance
 *     cc -I gossip-mgr/balance/include gossip-mgr/balance/examples/grid.c -L target/release -lgossip_balance
 *     LD_LIBRARY_PATH=target/release ./a.out
 */
#include <gossip_balance.h>
#include <stdio.h>

enum { SIDE = 32, TASKS = SIDE * SIDE, PARTS = 4 };

static size_t offsets[TASKS + 1];
static uint32_t neighbours[4 * TASKS], owner[TASKS];
static float edge_weights[4 * TASKS], weights[TASKS];

static void join(size_t *edge, int x, int y)
{
	if (x < 0 || y < 0 || x >= SIDE || y >= SIDE)
		return;
	neighbours[*edge] = x + SIDE * y;
	edge_weights[*edge] = 1;
	++*edge;
}

static void print_loads(const char *when)
{
	float loads[PARTS] = {0};

	for (int task = 0; task < TASKS; task++)
		loads[owner[task]] += weights[task];
	printf("%s:", when);
	for (int part = 0; part < PARTS; part++)
		printf(" %g", loads[part]);
	printf("\n");
}

int main(void)
{
	struct gossip_balance_options options;
	struct gossip_balance_summary summary;
	size_t edge = 0;
	int32_t status;

	for (int y = 0; y < SIDE; y++) {
		for (int x = 0; x < SIDE; x++) {
			int task = x + SIDE * y;

			offsets[task] = edge;
			join(&edge, x - 1, y);
			join(&edge, x + 1, y);
			join(&edge, x, y - 1);
			join(&edge, x, y + 1);
			weights[task] = x < 8 && y < 8 ? 8 : 1;
			owner[task] = 2 * (y >= SIDE / 2) + (x >= SIDE / 2);
		}
	}
	offsets[TASKS] = edge;

	print_loads("before");
	gossip_balance_defaults(&options);
	options.tolerance = 0.02;
	status = gossip_balance(TASKS, offsets, neighbours, edge_weights, weights, owner, PARTS, &options,
				&summary);
	if (status != GOSSIP_BALANCE_OK) {
		fprintf(stderr, "gossip_balance: %s\n", gossip_balance_message(status));
		return 1;
	}
	print_loads("after");
	return 0;
}
