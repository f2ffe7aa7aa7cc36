/*
 * Writer of layers: any layer in, one of the formats below out.
 *
 *	estargz                gzip members and the table of contents (TOC) inside: stargz-snapshotter docs/estargz.md
 *	estargz-external-toc   the same with the TOC in a blob of its own
 *	zstd:chunked           zstd frames, TOC and tar-split as containers/storage writes them (podman, buildah, CRI-O)
 *	zstd:chunked-stargz    zstd frames, TOC as stargz-snapshotter writes it; readers of the one do not read the other
 *	zstd, gzip             ordinary layers, in frames or members that were compressed side by side
 *
 * The last two and zstd:chunked keep the source's tar byte for byte, and with it the DiffID; so do
 * estargz-external-toc and zstd:chunked-stargz on request. The others write headers of their own: entries keep their
 * order and all that a tar can say of them but user and group names, access times and comments; landmarks and the TOC
 * of an earlier conversion are dropped, and a landmark says what is to be fetched before it is used.
 *
 * The result is a function of source, options and the versions of libdeflate and libzstd: bit for bit the same whatever
 * the number of threads. Memory: of each thread two units, plain and packed (a chunk, which is up to 16 MiB in zstd:chunked,
 * min_chunk_bytes, and 1 MiB; ordinary layers 1 MiB of gzip, 4 MiB of zstd), and the compressor (gzip 1 MiB, above level 9
 * 9 MiB; zstd, of units of 4 MiB, 16 MiB at level 9, 53 MiB at level 19, of smaller ones less); about 500 bytes for each
 * entry and chunk; at the end the TOC and the index that our own reader makes of it; and the contents of the files that
 * `priority` names. One owner; blocking.
 */
#ifndef ESTARGZ_CONVERT_H
#define ESTARGZ_CONVERT_H

#include "estargz/index/index.h"

#define ESGZ_CONVERT_CHUNK_BYTES (256u << 10) /* default chunk size; why: docs/decisions/chunks-of-256-kib.md */
#define ESGZ_PRIORITY_BYTES_MAX (512u << 20)  /* of the files of one layer that a priority list names */
#define ESGZ_CONVERT_THREADS_MAX 256

enum esgz_format {
	ESGZ_F_ESTARGZ,
	ESGZ_F_ESTARGZ_EXTERNAL,
	ESGZ_F_ZSTD_CHUNKED,
	ESGZ_F_ZSTD_STARGZ,
	ESGZ_F_ZSTD,
	ESGZ_F_GZIP,
};

/* The names above; false: none of them. */
bool esgz_format_parse(struct str name, enum esgz_format *out);
const char *esgz_format_name(enum esgz_format f);
/* All of them for a message: "estargz, estargz-external-toc, ...". */
const char *esgz_format_names(void);
enum esgz_compression esgz_format_compression(enum esgz_format f);
/* True if layers of it can be read piece by piece. */
bool esgz_format_is_lazy(enum esgz_format f);

struct esgz_convert_opts {
	enum esgz_format format;
	bool keep_diff_id;    /* where the format leaves a choice */
	uint32_t chunk_bytes; /* 0: 256 KiB; zstd:chunked: cut by content, like containers/storage, at most 16 MiB */
	uint32_t
	    min_chunk_bytes; /* stargz formats: plain bytes of a member before the next chunk begins another one; 0:
	                           * each chunk begins one. Readers older than stargz-snapshotter 0.13 break on others. */
	int level;           /* 0: the format's own; gzip 1-12 (6), zstd 1-19 (9) */
	unsigned threads; /* that compress, up to ESGZ_CONVERT_THREADS_MAX; 0: all CPUs. One more reads and inflates. */
	/* Stargz formats that do not keep the DiffID: paths, as they are used, whose files come first, before the landmark.
	 * Those that the layer has not are passed over. Needs io.rewind. Borrowed. */
	const struct str *priority;
	size_t n_priority;
};

/* ERR_INVALID, saying why, for what cannot be combined or is out of range: what esgz_convert would say first. */
int esgz_convert_check(const struct esgz_convert_opts *opts, struct err *err);

struct esgz_convert_io {
	/* Next bytes of the source layer (any compression); *n = 0 at the end. Called on a thread of the converter's, never
	 * twice at a time, and never after esgz_convert has returned. */
	int (*read)(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err);
	/* The blob, piece by piece, on the caller's thread. */
	int (*write)(void *arg, struct str bytes, struct err *err);
	/* Ends a read that is under way, and lets all later ones fail: the conversion is given up while its source may be slow.
	 * On the caller's thread. NULL: no read takes long. */
	void (*stop)(void *arg);
	/* Whether the conversion still goes on: < 0 and the reason when it does not. Asked about every second, on any thread,
	 * also while nothing is read or written. NULL: it does. */
	int (*go_on)(void *arg, struct err *err);
	/* Begins the source anew, with a priority list only; like read. NULL: the source cannot. */
	int (*rewind)(void *arg, struct err *err);
	/* How far it is, in bytes of the source (of the last time it is read) and of the blob; on the caller's thread,
	 * after each write. May be NULL. */
	void (*progress)(void *arg, uint64_t bytes_in, uint64_t bytes_out);
	void *arg;
};

struct esgz_convert_result {
	struct digest source_blob, source_diff_id; /* of what was read: the caller checks them */
	uint64_t source_bytes;
	struct digest blob, diff_id;
	uint64_t blob_bytes, plain_bytes;
	struct digest toc; /* lazy formats: of the plain JSON */
	uint64_t toc_plain_bytes;
	struct digest toc_packed;                                     /* zstd:chunked, both: of its compressed bytes, */
	uint64_t toc_offset, toc_packed_bytes;                        /* and where they lie */
	uint64_t split_offset, split_packed_bytes, split_plain_bytes; /* zstd:chunked: the tar-split */
	struct buf external_toc;      /* estargz-external-toc: the layer for the TOC image, a gzip'd tar */
	uint32_t n_entries, n_chunks; /* lazy formats */
};

void esgz_convert_result_fini(struct esgz_convert_result *r);
DEFINE_AUTO_FINI(esgz_convert_result);

/* Errors: those of the callbacks; a source that is damaged or cut short, or that is another one when it is read again, is
 * ERR_DATA_LOSS or ERR_INVALID; what the format has no way to say (a name that is not UTF-8, what cannot be kept as it
 * is) ERR_INVALID; so is, of lazy formats, a tree that no reader takes (a file below a file, a hard link to nothing); more
 * entries than the formats here hold, or more listed files or hard links than are kept, ERR_EXHAUSTED. On failure `out`
 * holds nothing. */
int esgz_convert(const struct esgz_convert_opts *opts, const struct esgz_convert_io *io,
                 struct esgz_convert_result *out, struct err *err);

/* The annotations that the layer's descriptor needs so that it is lazy: calls `put` for each. */
void esgz_convert_annotations(enum esgz_format f, const struct esgz_convert_result *r,
                              void (*put)(void *arg, const char *key, const char *value), void *arg);
/* True for the keys of annotations of any lazy format, which are not true any more of a layer that was converted. */
bool esgz_is_layer_annotation(struct str key);

#endif
