#include "estargz/erofs/erofs_format.h"

#include "base/bytes.h"

#include "base/cleanup.h"

/* Numbers of the prefixes on disk. The two of POSIX ACLs are whole names. */
static const struct {
	struct str text;
	uint8_t number;
	bool whole;
} PREFIXES[] = {
    {STR("user."), 1, false},
    {STR("system.posix_acl_access"), 2, true},
    {STR("system.posix_acl_default"), 3, true},
    {STR("trusted."), 4, false},
    {STR("security."), 6, false},
};

bool erofs_xattr_split(struct str name, uint8_t *prefix, struct str *rest)
{
	for (size_t i = 0; i < ARRAY_LEN(PREFIXES); i++) {
		*rest = name;
		if (!str_skip(rest, PREFIXES[i].text) || PREFIXES[i].whole != (rest->n == 0))
			continue;
		*prefix = PREFIXES[i].number;
		return true;
	}
	return false;
}

struct str erofs_xattr_prefix(uint8_t prefix)
{
	for (size_t i = 0; i < ARRAY_LEN(PREFIXES); i++)
		if (PREFIXES[i].number == prefix)
			return PREFIXES[i].text;
	return STR_NONE;
}

bool erofs_xattr_is_overlay(uint8_t prefix, struct str rest)
{
	return (prefix == 1 || prefix == 4) && (str_starts(rest, STR("overlay.")) || str_eq(rest, STR("overlay")));
}

/* XXH32 of the xxHash specification, for names (so without care for long inputs). */
static uint32_t rotl(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

static uint32_t xxh32(struct str s, uint32_t seed)
{
	const uint32_t p1 = 0x9e3779b1, p2 = 0x85ebca77, p3 = 0xc2b2ae3d, p4 = 0x27d4eb2f, p5 = 0x165667b1;
	uint32_t h = seed + p5;
	size_t at = 0;

	if (s.n >= 16) {
		uint32_t lane[4] = {seed + p1 + p2, seed + p2, seed, seed - p1};

		for (; s.n - at >= 16; at += 16)
			for (unsigned i = 0; i < 4; i++)
				lane[i] = rotl(lane[i] + get_le32(s.p + at + 4 * i) * p2, 13) * p1;
		h = rotl(lane[0], 1) + rotl(lane[1], 7) + rotl(lane[2], 12) + rotl(lane[3], 18);
	}
	h += (uint32_t)s.n;
	for (; s.n - at >= 4; at += 4)
		h = rotl(h + get_le32(s.p + at) * p3, 17) * p4;
	for (; at < s.n; at++)
		h = rotl(h + (uint8_t)s.p[at] * p5, 11) * p1;
	h = (h ^ h >> 15) * p2;
	h = (h ^ h >> 13) * p3;
	return h ^ h >> 16;
}

uint32_t erofs_xattr_filter_bit(uint8_t prefix, struct str rest)
{
	return 1u << (xxh32(rest, 0x25bbe08fu + prefix) & 31);
}
