/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Everything bindgen reads. DPDK keeps its hot functions `static inline` and
 * some state in thread-local variables; neither can be called from Rust, so
 * shim.c gives them a symbol. Constants that DPDK defines with function-like
 * macros, and field offsets of structures whose layout differs between DPDK
 * releases, are evaluated here by the C front end.
 */
#ifndef TAS_DPDK_SHIM_H
#define TAS_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Offsets of the mbuf fields the fast path touches. From DPDK 24.11 on they
 * sit in anonymous groups, which bindgen names after their position. */
enum tas_mbuf_offset {
	TAS_MBUF_OFF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	TAS_MBUF_OFF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	TAS_MBUF_OFF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	TAS_MBUF_OFF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	TAS_MBUF_OFF_PORT = offsetof(struct rte_mbuf, port),
	TAS_MBUF_OFF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	TAS_MBUF_OFF_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
	TAS_MBUF_OFF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	TAS_MBUF_OFF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	TAS_MBUF_OFF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	TAS_MBUF_OFF_HASH_RSS = offsetof(struct rte_mbuf, hash.rss),
	TAS_MBUF_OFF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	TAS_MBUF_OFF_POOL = offsetof(struct rte_mbuf, pool),
	TAS_MBUF_OFF_NEXT = offsetof(struct rte_mbuf, next),
	TAS_MBUF_OFF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	TAS_MBUF_SIZE = sizeof(struct rte_mbuf),
};

/* The per-lcore mempool cache, which Rust pops from and pushes to. */
enum tas_cache_offset {
	TAS_CACHE_OFF_FLUSHTHRESH = offsetof(struct rte_mempool_cache, flushthresh),
	TAS_CACHE_OFF_LEN = offsetof(struct rte_mempool_cache, len),
	TAS_CACHE_OFF_OBJS = offsetof(struct rte_mempool_cache, objs),
};

/* Receive flags. */
static const uint64_t TAS_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t TAS_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t TAS_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t TAS_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t TAS_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t TAS_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t TAS_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t TAS_RX_IP_CKSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t TAS_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t TAS_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;

/* Transmit flags. */
static const uint64_t TAS_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t TAS_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t TAS_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t TAS_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t TAS_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t TAS_TX_VLAN = RTE_MBUF_F_TX_VLAN;

/* Flags of an mbuf whose buffer is not its own. */
static const uint64_t TAS_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t TAS_MBUF_EXTERNAL = RTE_MBUF_F_EXTERNAL;

/* Port capabilities. */
static const uint64_t TAS_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t TAS_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t TAS_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t TAS_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t TAS_TX_OFFLOAD_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t TAS_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t TAS_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t TAS_TX_OFFLOAD_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t TAS_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t TAS_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t TAS_RSS_TCP_IPV4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t TAS_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t TAS_RSS_TCP_IPV6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;

/* Thread-local state of the calling thread. */
unsigned int tas_lcore_id(void);
int tas_errno(void);

/* The cache of `lcore` in `mp`, NULL when the pool has none. */
struct rte_mempool_cache *tas_mempool_cache(struct rte_mempool *mp, unsigned int lcore);

/* Move objects from the pool's ring into an empty or low cache until it holds
 * its nominal size; 0, or a negative errno when the pool is exhausted. */
int tas_mempool_cache_refill(struct rte_mempool *mp, struct rte_mempool_cache *cache);

/* Give everything above the cache's nominal size back to the pool's ring. */
void tas_mempool_cache_spill(struct rte_mempool *mp, struct rte_mempool_cache *cache);

/* Any mbuf: chained, shared, external buffer. */
void tas_pktmbuf_free(struct rte_mbuf *m);
struct rte_mbuf *tas_pktmbuf_alloc(struct rte_mempool *mp);

/* The version of the DPDK these headers belong to: year, month. */
enum tas_version {
	TAS_DPDK_YEAR = RTE_VER_YEAR,
	TAS_DPDK_MONTH = RTE_VER_MONTH,
};

/* Readings the tests compare Rust's own field access with. */
struct tas_mbuf_fields {
	uint64_t ol_flags;
	void *data;
	struct rte_mempool *pool;
	uint32_t pkt_len, rss_hash;
	uint16_t data_len, nb_segs, port, refcnt, vlan_tci, buf_len;
	uint16_t l2_len, l3_len, l4_len, tso_segsz;
};
void tas_mbuf_read(const struct rte_mbuf *m, struct tas_mbuf_fields *out);

#endif
