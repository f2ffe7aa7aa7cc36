/*
 * Makes a lazy layer of an ordinary one.
 *
 *	esgzconv IN OUT [CHUNK_BYTES]     prints "BLOB BYTES DIFFID TOC SOURCE_DIFFID"
 */
#include "base/file.h"
#include "estargz/convert/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct files {
	int in, out;
};

static int read_in(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	const struct files *f = arg;
	ssize_t got = read(f->in, dst, dst_bytes);

	if (got < 0)
		return err_errno(err, errno, "read");
	*n = (size_t)got;
	return 0;
}

static int write_out(void *arg, struct str bytes, struct err *err)
{
	const struct files *f = arg;

	return fd_write_all(f->out, bytes, err);
}

static int convert(char **argv, struct err *err)
{
	struct esgz_convert_opts opts = {.chunk_bytes = argv[3] ? (uint32_t)strtoul(argv[3], NULL, 10) : 0};
	struct files f = {.in = open(argv[1], O_RDONLY | O_CLOEXEC),
	                  .out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
	const struct esgz_convert_io io = {.read = read_in, .write = write_out, .arg = &f};
	AUTO(esgz_convert_result) struct esgz_convert_result r = {0};
	char text[4][DIGEST_TEXT_MAX];

	if (f.in < 0 || f.out < 0)
		return err_errno(err, errno, "open %s", f.in < 0 ? argv[1] : argv[2]);
	TRY(esgz_convert(&opts, &io, &r, err));
	printf("%s %" PRIu64 " %s %s %s\n", digest_text(&r.blob, text[0]), r.blob_bytes,
	       digest_text(&r.diff_id, text[1]), digest_text(&r.toc, text[2]), digest_text(&r.source_diff_id, text[3]));
	return 0;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (argc < 3) {
		fputs("usage: esgzconv IN OUT [CHUNK_BYTES]\n", stderr);
		return 2;
	}
	if (convert(argv, &err) < 0) {
		fprintf(stderr, "esgzconv: %s\n", err.msg);
		return 1;
	}
	return 0;
}
