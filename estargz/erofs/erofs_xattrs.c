#include "estargz/erofs/erofs_xattrs.h"

#include "base/bytes.h"

#define NOT_SHARED UINT64_MAX

void erofs_xattrs_fini(struct erofs_xattrs *x)
{
	vec_fini(&x->items);
	map_fini(&x->numbers);
	buf_fini(&x->key);
}

uint32_t erofs_xattrs_add(struct erofs_xattrs *x, uint8_t prefix, struct str rest, struct str value)
{
	uintptr_t number;

	buf_clear(&x->key);
	buf_addc(&x->key, (char)prefix);
	buf_addc(&x->key, (char)rest.n);
	buf_addstr(&x->key, rest);
	buf_addstr(&x->key, value);
	number = (uintptr_t)map_get(&x->numbers, buf_str(&x->key));
	if (number == 0) {
		vec_push(&x->items, (struct erofs_xattr_item){.rest = rest,
		                                              .value = value,
		                                              .prefix = prefix,
		                                              .filter_bit = erofs_xattr_filter_bit(prefix, rest)});
		number = x->items.n;
		map_put(&x->numbers, buf_str(&x->key), (void *)number);
	}
	x->items.p[number - 1].uses++;
	return (uint32_t)(number - 1);
}

uint32_t erofs_xattr_bytes(struct str rest, struct str value)
{
	return (uint32_t)((sizeof(struct erofs_xattr) + rest.n + value.n + 3) & ~(size_t)3);
}

void erofs_xattrs_place(struct erofs_xattrs *x)
{
	vec_each(&x->items, it) {
		uint32_t bytes = erofs_xattr_bytes(it->rest, it->value);

		it->shared_at = NOT_SHARED;
		if (it->uses < 2 && bytes <= EROFS_XATTR_INLINE_MAX)
			continue;
		it->shared_at = x->shared_bytes;
		x->shared_bytes += bytes;
	}
}

char *erofs_xattr_write(uint8_t prefix, struct str rest, struct str value, char *dst)
{
	struct erofs_xattr head = {
	    .name_bytes = (uint8_t)rest.n, .prefix = prefix, .value_bytes = htole16((uint16_t)value.n)};

	memcpy(dst, &head, sizeof(head));
	if (rest.n)
		memcpy(dst + sizeof(head), rest.p, rest.n);
	if (value.n)
		memcpy(dst + sizeof(head) + rest.n, value.p, value.n);
	return dst + erofs_xattr_bytes(rest, value);
}

void erofs_xattrs_write_shared(const struct erofs_xattrs *x, char *dst)
{
	vec_each(&x->items, it)
		if (it->shared_at != NOT_SHARED)
			dst = erofs_xattr_write(it->prefix, it->rest, it->value, dst);
}

uint64_t erofs_xattrs_bytes(const struct erofs_xattrs *x, const uint32_t *ids, uint32_t n, uint32_t extra)
{
	uint64_t bytes = sizeof(struct erofs_xattr_header) + extra;
	uint32_t n_shared = 0;

	if (n == 0 && extra == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct erofs_xattr_item *it = &x->items.p[ids[i]];

		if (it->shared_at != NOT_SHARED && n_shared < EROFS_XATTRS_SHARED_MAX) {
			n_shared++;
			bytes += sizeof(uint32_t);
		} else {
			bytes += erofs_xattr_bytes(it->rest, it->value);
		}
	}
	return bytes;
}

char *erofs_xattrs_write(const struct erofs_xattrs *x, const uint32_t *ids, uint32_t n, uint32_t extra_bit, char *dst)
{
	struct erofs_xattr_header head = {0};
	uint32_t present = extra_bit;
	char *at = dst + sizeof(head);

	/* The numbers of shared ones first, then those of its own: two walks with the same rule. */
	for (uint32_t i = 0; i < n; i++) {
		const struct erofs_xattr_item *it = &x->items.p[ids[i]];

		present |= it->filter_bit;
		if (it->shared_at != NOT_SHARED && head.n_shared < EROFS_XATTRS_SHARED_MAX) {
			head.n_shared++;
			put_le32(at, (uint32_t)(it->shared_at / 4));
			at += sizeof(uint32_t);
		}
	}
	for (uint32_t i = 0, n_shared = 0; i < n; i++) {
		const struct erofs_xattr_item *it = &x->items.p[ids[i]];

		if (it->shared_at != NOT_SHARED && n_shared < EROFS_XATTRS_SHARED_MAX)
			n_shared++;
		else
			at = erofs_xattr_write(it->prefix, it->rest, it->value, at);
	}
	head.name_filter = htole32(~present);
	memcpy(dst, &head, sizeof(head));
	return at;
}
