/*
 * Reading an image archive: a tar of blobs and documents, plain or compressed with gzip or zstd, pushed in as bytes.
 * Every regular file becomes a blob; directories and unknown entries are passed over, symbolic links are remembered
 * (docker's archives have them for shared layers). Nothing is unpacked, so no path leads anywhere. Bounds: entries, size
 * of documents, and how much may come out of a compressed archive. One owner.
 */
#ifndef CONTENTD_TRANSFER_READER_H
#define CONTENTD_TRANSFER_READER_H

#include "base/map.h"
#include "contentd/transfer/deposit.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"

struct cd_archive_file {
	struct digest digest;
	int64_t bytes;
};

struct cd_archive_reader {
	struct cd_transfer *t;
	struct esgz_stream *stream;
	struct esgz_tar *tar;
	uint64_t packed_bytes, plain_bytes;

	struct map files; /* clean name -> struct cd_archive_file, heap */
	struct map links; /* clean name -> char *, the clean name it leads to */
	size_t n_entries;
	struct buf layout, images; /* oci-layout, manifest.json; empty when absent */
	bool has_layout, has_images;

	/* the current entry */
	struct cd_deposit deposit;
	struct buf name;
	struct buf *document; /* it is one of those above */
	bool skipped;
};

void cd_archive_reader_init(struct cd_archive_reader *r, struct cd_transfer *t);
void cd_archive_reader_fini(struct cd_archive_reader *r);
DEFINE_AUTO_FINI(cd_archive_reader);

int cd_archive_reader_feed(struct cd_archive_reader *r, struct str bytes, struct err *err);
int cd_archive_reader_finish(struct cd_archive_reader *r, struct err *err);

/* The blob of an entry, links followed; NULL when there is none. */
const struct cd_archive_file *cd_archive_reader_find(const struct cd_archive_reader *r, struct str name);

#endif
