/* Integers of a given byte order at any address, aligned or not. The caller has checked that the bytes are there. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_GETTER(name, T, convert)                                                                                 \
	static inline T name(const void *p)                                                                            \
	{                                                                                                              \
		T v;                                                                                                   \
		memcpy(&v, p, sizeof(v));                                                                              \
		return convert(v);                                                                                     \
	}                                                                                                              \
	struct bytes_needs_semicolon_

#define BYTES_SETTER(name, T, convert)                                                                                 \
	static inline void name(void *p, T v)                                                                          \
	{                                                                                                              \
		v = convert(v);                                                                                        \
		memcpy(p, &v, sizeof(v));                                                                              \
	}                                                                                                              \
	struct bytes_needs_semicolon_

BYTES_GETTER(get_le16, uint16_t, le16toh);
BYTES_GETTER(get_le32, uint32_t, le32toh);
BYTES_GETTER(get_le64, uint64_t, le64toh);
BYTES_GETTER(get_be16, uint16_t, be16toh);
BYTES_GETTER(get_be32, uint32_t, be32toh);
BYTES_GETTER(get_be64, uint64_t, be64toh);

BYTES_SETTER(put_le16, uint16_t, htole16);
BYTES_SETTER(put_le32, uint32_t, htole32);
BYTES_SETTER(put_le64, uint64_t, htole64);
BYTES_SETTER(put_be16, uint16_t, htobe16);
BYTES_SETTER(put_be32, uint32_t, htobe32);
BYTES_SETTER(put_be64, uint64_t, htobe64);

#endif
