// The bare look-up of DPDK's rte_hash: what a flow table costs without a packet. For each number of
// flows given, it prints that number and the ns per look-up of each round: keys of 16 bytes, random
// flows, rte_hash_lookup_bulk_data in batches of 64, and a line of 64 bytes of each entry touched.

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_prefetch.h>

enum { BATCH = 64, LOOKUPS = 400000, BATCHES = LOOKUPS / BATCH, LINE = 64 };

struct key {
	uint32_t client, service;
	uint16_t client_port, service_port;
	uint32_t protocol;
};

static struct key key_of(uint32_t flow)
{
	struct key k = {0x0a000000 + flow / 50000, 0xc633640a, 1024 + flow % 50000, 80, 6};
	return k;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t state = 88172645463325252;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

// memfd_create fails in this program: then EAL takes anonymous memory, which can have huge pages.
int memfd_create(const char *name, unsigned flags)
{
	(void)name, (void)flags;
	errno = ENOSYS;
	return -1;
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 // Linux 6.1
#endif

// use_huge_pages moves large areas to huge pages, as the pipeline's tables have them.
static void use_huge_pages(void)
{
	const unsigned long huge = 2 << 20;
	unsigned long from, to;
	char line[512], mode[8];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strncmp(mode, "rw", 2) || to - from < 2 * huge)
			continue;
		for (from = (from + huge - 1) & ~(huge - 1); from + huge <= to; from += huge)
			madvise((void *)from, huge, MADV_COLLAPSE); // fails for areas that are not in use
	}
	if (maps)
		fclose(maps);
}

// one_round returns the ns per look-up. The slowest hundredth of the batches is left out, as in the
// benchmark of the pipeline.
static double one_round(struct rte_hash *table, uint32_t flows, uint64_t *sum)
{
	static uint64_t took[BATCHES];
	struct key keys[BATCH];
	const void *at[BATCH];
	void *found[BATCH];
	double total = 0;
	for (int b = 0; b < BATCHES; b++) {
		uint64_t hits = 0;
		for (int i = 0; i < BATCH; i++) {
			keys[i] = key_of((uint32_t)((random64() >> 32) * flows >> 32));
			at[i] = &keys[i];
		}
		uint64_t start = now_ns();
		int n = rte_hash_lookup_bulk_data(table, at, BATCH, &hits, found);
		if (n != BATCH)
			return -1;
		for (int i = 0; i < BATCH; i++)
			rte_prefetch0(found[i]);
		for (int i = 0; i < BATCH; i++)
			*sum += ++*(volatile uint64_t *)found[i];
		took[b] = now_ns() - start;
	}
	qsort(took, BATCHES, sizeof *took, ascending);
	int counted = BATCHES * 99 / 100;
	for (int b = 0; b < counted; b++)
		total += took[b];
	return total / counted / BATCH;
}

static int measure(uint32_t flows, int rounds)
{
	struct rte_hash_parameters p = {
		.name = "flows", .entries = flows + flows / 4, .key_len = sizeof(struct key),
		.hash_func = rte_hash_crc, .socket_id = SOCKET_ID_ANY,
	};
	struct rte_hash *table = rte_hash_create(&p);
	size_t bytes = ((size_t)flows * LINE + (1 << 21) - 1) & ~(size_t)((1 << 21) - 1);
	char *entries = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;
	if (!table || entries == MAP_FAILED) {
		fprintf(stderr, "no memory for %u flows: %s\n", flows, rte_strerror(rte_errno));
		return 1;
	}
	madvise(entries, bytes, MADV_HUGEPAGE);
	for (uint32_t i = 0; i < flows; i++) {
		struct key k = key_of(i);
		if (rte_hash_add_key_data(table, &k, entries + (size_t)i * LINE)) {
			fprintf(stderr, "flow %u does not fit into the table\n", i);
			return 1;
		}
	}
	use_huge_pages();
	printf("%u", flows);
	for (int i = 0; i <= rounds; i++) {
		double ns = one_round(table, flows, &sum);
		if (ns < 0) {
			fprintf(stderr, "a flow is missing\n");
			return 1;
		}
		if (i > 0) // the first fills the caches
			printf(" %.2f", ns);
	}
	printf("\n");
	rte_hash_free(table);
	munmap(entries, bytes);
	return sum == 0;
}

int main(int argc, char **argv)
{
	char *eal[] = {argv[0], "--no-huge", "--no-shconf", "-m", "2048", "--no-pci", "--no-telemetry", "-l", argc > 1 ? argv[1] : "0", "--log-level=critical", NULL};
	if (argc < 4 || rte_eal_init(sizeof eal / sizeof *eal - 1, eal) < 0) {
		fprintf(stderr, "usage: %s CPU ROUNDS FLOWS...; EAL: %s\n", argv[0], rte_strerror(rte_errno));
		return 1;
	}
	for (int i = 3; i < argc; i++)
		if (measure(strtoul(argv[i], NULL, 10), atoi(argv[2])))
			return 1;
	return 0;
}
