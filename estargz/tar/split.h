/*
 * tar-split: a tar without the contents of its files, from which, with them, the exact tar can be made again. Blobs of
 * containers/storage's zstd:chunked carry one, so that the DiffID can be computed from a tree.
 *
 * It is a zstd stream of JSON objects, a line each, which alternate:
 *	{"type":2,"payload":"<base64>","position":n}			segment: these bytes (padding, headers, trailer)
 *	{"type":1,"name":"...","size":n,"payload":"<base64>","position":n}	file: so many bytes of content; its checksum
 * The checksum is CRC-64/GO-ISO, most significant byte first, null for a file without content; a name that is no UTF-8
 * stands in "name_raw" as base64. Every entry of the tar has a file, directories and links too, and one segment of its
 * own before it, which begins with the padding of the file before: containers/storage reads headers by that rule.
 * Source: github.com/vbatts/tar-split, tar/storage/entry.go, tar/asm/{disassemble,iterate}.go.
 *
 * Sans-I/O, bounded. Readers: any thread. Writer: one owner.
 */
#ifndef ESTARGZ_SPLIT_H
#define ESTARGZ_SPLIT_H

#include "base/buf.h"
#include "base/digest.h"

#define ESGZ_SPLIT_BYTES_MAX (150u << 20) /* of JSON; containers/storage has the same bound */

struct esgz_split_file {
	struct str name; /* as the tar has it, not cleaned */
	uint64_t size;
	uint64_t crc64; /* size > 0 */
};

struct esgz_split_sink {
	int (*segment)(void *arg, struct str bytes, struct err *err);
	int (*file)(void *arg, const struct esgz_split_file *f, struct err *err); /* borrowed for the call */
	void *arg;
};

/* Reads one of `plain_bytes` of JSON. ERR_DATA_LOSS: the compressed bytes have another digest, or another size inside,
 * or are damaged. ERR_INVALID: it is none. */
int esgz_split_read(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                    const struct esgz_split_sink *sink, struct err *err);

/* Where esgz_split_assemble takes contents from: `content` calls put(to, ...) with all bytes of the file, in order. */
typedef int (*esgz_put_fn)(void *to, struct str bytes, struct err *err);
struct esgz_split_contents {
	int (*content)(void *arg, const struct esgz_split_file *f, esgz_put_fn put, void *to, struct err *err);
	void *arg;
};

/* Makes the tar again and gives it to put(to, ...) in pieces: to be hashed, to be read. Contents of another size or
 * checksum than the tar-split says are ERR_DATA_LOSS naming the file. */
int esgz_split_assemble(struct str packed, const struct digest *packed_digest, uint64_t plain_bytes,
                        const struct esgz_split_contents *contents, esgz_put_fn put, void *to, struct err *err);

/* CRC-64/GO-ISO, in pieces: begins with 0. */
uint64_t esgz_split_crc64(uint64_t crc, struct str bytes);

/* Writer. What `raw` of tar.h gives goes to _segment, piece by piece; each entry, whatever it is, to _file once its
 * content has passed (size 0 where it has none). Memory: the compressed result, and the bytes since the last file. */
struct esgz_split_writer;
struct esgz_split_writer *esgz_split_writer_new(int zstd_level);
void esgz_split_writer_free(struct esgz_split_writer *w);
DEFINE_AUTO_FREE(esgz_split_writer);
int esgz_split_segment(struct esgz_split_writer *w, struct str bytes, struct err *err);
/* A path for the second time is ERR_INVALID: tar-split cannot say that. */
int esgz_split_file(struct esgz_split_writer *w, struct str name, uint64_t size, uint64_t crc64, struct err *err);
/* Appends the compressed bytes. */
int esgz_split_finish(struct esgz_split_writer *w, struct buf *packed, uint64_t *plain_bytes, struct err *err);

#endif
