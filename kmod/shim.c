// SPDX-License-Identifier: GPL-2.0-only
/*
 * The few kernel interfaces that are inline functions, macros or take structs
 * by value, and that the kernel's Rust bindings therefore do not offer.
 */
#include <linux/mm.h>
#include <linux/dcache.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/pseudo_fs.h>
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

/* "tas" and a zero byte; not in use in <linux/magic.h>. */
#define TAS_SOCKFS_MAGIC 0x74617300

int tas_shim_init_sockfs(struct fs_context *context, const struct dentry_operations *operations);
int tas_shim_init_sockfs(struct fs_context *context, const struct dentry_operations *operations)
{
	struct pseudo_fs_context *pseudo = init_pseudo(context, TAS_SOCKFS_MAGIC);

	if (!pseudo)
		return -ENOMEM;
	pseudo->dops = operations;
	return 0;
}

char *tas_shim_socket_name(struct dentry *dentry, char *buffer, int bytes);
char *tas_shim_socket_name(struct dentry *dentry, char *buffer, int bytes)
{
	char text[32];
	int used = scnprintf(text, sizeof(text), "socket:[tas:%lu]", (unsigned long)dentry->d_fsdata) + 1;

	if (used > bytes)
		return ERR_PTR(-ENAMETOOLONG);
	/* d_path() wants it at the end of the buffer. */
	return memcpy(buffer + bytes - used, text, used);
}

int tas_shim_command(char *into, unsigned int bytes);
int tas_shim_command(char *into, unsigned int bytes)
{
	return strscpy_pad(into, current->comm, bytes);
}
