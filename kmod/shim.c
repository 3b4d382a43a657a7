// SPDX-License-Identifier: GPL-2.0-only
/*
 * The few kernel interfaces that are inline functions, macros or take structs
 * by value, and that the kernel's Rust bindings therefore do not offer.
 */
#include <linux/mm.h>
#include <linux/gfp.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/topology.h>
#include <linux/vmalloc.h>
#include <asm/msr.h>

struct folio *tas_shim_huge_folio(gfp_t gfp);
struct folio *tas_shim_huge_folio(gfp_t gfp)
{
	return __folio_alloc_noprof(gfp, HPAGE_PMD_ORDER, numa_mem_id(), NULL);
}

void tas_shim_get_page(struct page *page);
void tas_shim_get_page(struct page *page)
{
	get_page(page);
}

void tas_shim_put_page(struct page *page);
void tas_shim_put_page(struct page *page)
{
	put_page(page);
}

struct page *tas_shim_page_of(struct folio *folio, unsigned long index);
struct page *tas_shim_page_of(struct folio *folio, unsigned long index)
{
	return folio_page(folio, index);
}

void *tas_shim_map_pages(struct page **pages, unsigned int count);
void *tas_shim_map_pages(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

void tas_shim_unmap_pages(const void *address);
void tas_shim_unmap_pages(const void *address)
{
	vunmap(address);
}

unsigned long tas_shim_available_pages(void);
unsigned long tas_shim_available_pages(void)
{
	long pages = si_mem_available();

	return pages > 0 ? pages : 0;
}

u64 tas_shim_tsc(void);
u64 tas_shim_tsc(void)
{
	return rdtsc_ordered();
}

void tas_shim_cond_resched(void);
void tas_shim_cond_resched(void)
{
	cond_resched();
}

int tas_shim_command(char *into, unsigned int bytes);
int tas_shim_command(char *into, unsigned int bytes)
{
	return strscpy_pad(into, current->comm, bytes);
}
