/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "shim.h"

unsigned int tas_lcore_id(void)
{
	return rte_lcore_id();
}

int tas_errno(void)
{
	return rte_errno;
}

struct rte_mempool_cache *tas_mempool_cache(struct rte_mempool *mp, unsigned int lcore)
{
	return rte_mempool_default_cache(mp, lcore);
}

int tas_mempool_cache_refill(struct rte_mempool *mp, struct rte_mempool_cache *cache)
{
	uint32_t want;
	int rc;

	if (cache->len >= cache->size)
		return 0;
	want = cache->size - cache->len;
	/* All or nothing: near exhaustion halve until something comes. */
	do {
		rc = rte_mempool_ops_dequeue_bulk(mp, &cache->objs[cache->len], want);
		if (rc == 0) {
			cache->len += want;
			return 0;
		}
		want /= 2;
	} while (want > 0);
	return rc;
}

void tas_mempool_cache_spill(struct rte_mempool *mp, struct rte_mempool_cache *cache)
{
	if (cache->len <= cache->size)
		return;
	rte_mempool_ops_enqueue_bulk(mp, &cache->objs[cache->size], cache->len - cache->size);
	cache->len = cache->size;
}

void tas_pktmbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

struct rte_mbuf *tas_pktmbuf_alloc(struct rte_mempool *mp)
{
	return rte_pktmbuf_alloc(mp);
}

void tas_mbuf_read(const struct rte_mbuf *m, struct tas_mbuf_fields *out)
{
	out->ol_flags = m->ol_flags;
	out->data = rte_pktmbuf_mtod(m, void *);
	out->pool = m->pool;
	out->pkt_len = m->pkt_len;
	out->rss_hash = m->hash.rss;
	out->data_len = m->data_len;
	out->nb_segs = m->nb_segs;
	out->port = m->port;
	out->refcnt = rte_mbuf_refcnt_read(m);
	out->vlan_tci = m->vlan_tci;
	out->buf_len = m->buf_len;
	out->l2_len = m->l2_len;
	out->l3_len = m->l3_len;
	out->l4_len = m->l4_len;
	out->tso_segsz = m->tso_segsz;
}
