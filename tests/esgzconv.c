/*
 * One layer into another format.
 *
 *	esgzconv [--format F] [--level N] [--chunk-size BYTES] [--min-chunk-size BYTES] [--threads N] [--keep-diff-id]
 *	         [--priority FILE] [--toc FILE] IN OUT
 *
 * Prints "BLOB BYTES DIFFID TOC SOURCE_DIFFID", then a line "KEY=VALUE" for each annotation that the layer's descriptor
 * needs. --priority: a path a line. --toc: where the layer for the TOC image goes (estargz-external-toc).
 */
#include "base/file.h"
#include "base/vec.h"
#include "estargz/convert/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_BYTES_MAX (16u << 20)

struct files {
	int in, out;
};

struct args {
	struct esgz_convert_opts opts;
	const char *priority, *toc, *in, *out;
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

static int rewind_in(void *arg, struct err *err)
{
	const struct files *f = arg;

	return lseek(f->in, 0, SEEK_SET) < 0 ? err_errno(err, errno, "rewind") : 0;
}

static int write_out(void *arg, struct str bytes, struct err *err)
{
	const struct files *f = arg;

	return fd_write_all(f->out, bytes, err);
}

static void print_annotation(void *arg, const char *key, const char *value)
{
	printf("%s=%s\n", key, value);
}

static int save(const char *path, struct str bytes, struct err *err)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	return fd < 0 ? err_errno(err, errno, "open %s", path) : fd_write_all(fd, bytes, err);
}

static int convert(struct args *a, struct err *err)
{
	AUTO(esgz_convert_result) struct esgz_convert_result r = {0};
	AUTO(buf) struct buf list = BUF_INIT;
	VEC(struct str) paths = VEC_INIT;
	struct files f = {.in = open(a->in, O_RDONLY | O_CLOEXEC),
	                  .out = open(a->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
	const struct esgz_convert_io io = {.read = read_in, .write = write_out, .rewind = rewind_in, .arg = &f};
	char text[4][DIGEST_TEXT_MAX];
	int res;

	if (f.in < 0 || f.out < 0)
		return err_errno(err, errno, "open %s", f.in < 0 ? a->in : a->out);
	if (a->priority) {
		struct str rest, path;

		TRY(file_read(AT_FDCWD, a->priority, LIST_BYTES_MAX, &list, err));
		for (rest = buf_str(&list); str_split(&rest, '\n', &path);)
			if (path.n > 0)
				vec_push(&paths, path);
	}
	a->opts.priority = paths.p;
	a->opts.n_priority = paths.n;
	res = esgz_convert(&a->opts, &io, &r, err);
	vec_fini(&paths);
	TRY(res);
	printf("%s %" PRIu64 " %s %s %s\n", digest_text(&r.blob, text[0]), r.blob_bytes,
	       digest_text(&r.diff_id, text[1]), digest_text(&r.toc, text[2]), digest_text(&r.source_diff_id, text[3]));
	esgz_convert_annotations(a->opts.format, &r, print_annotation, NULL);
	return a->toc ? save(a->toc, buf_str(&r.external_toc), err) : 0;
}

static bool parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
	    {"format", 1, NULL, 'f'},         {"level", 1, NULL, 'l'},   {"chunk-size", 1, NULL, 'c'},
	    {"min-chunk-size", 1, NULL, 'm'}, {"threads", 1, NULL, 't'}, {"keep-diff-id", 0, NULL, 'k'},
	    {"priority", 1, NULL, 'p'},       {"toc", 1, NULL, 'T'},     {0},
	};

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
		uint32_t n = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;

		switch (o) {
		case 'f':
			if (!esgz_format_parse(str_of(optarg), &a->opts.format))
				return false;
			break;
		case 'l':
			a->opts.level = (int)n;
			break;
		case 'c':
			a->opts.chunk_bytes = n;
			break;
		case 'm':
			a->opts.min_chunk_bytes = n;
			break;
		case 't':
			a->opts.threads = n;
			break;
		case 'k':
			a->opts.keep_diff_id = true;
			break;
		case 'p':
			a->priority = optarg;
			break;
		case 'T':
			a->toc = optarg;
			break;
		default:
			return false;
		}
	}
	if (argc - optind != 2)
		return false;
	a->in = argv[optind];
	a->out = argv[optind + 1];
	return true;
}

int main(int argc, char **argv)
{
	struct args a = {0};
	struct err err = ERR_INIT;

	if (!parse(argc, argv, &a)) {
		fprintf(stderr,
		        "usage: esgzconv [--format F] [--level N] [--chunk-size BYTES] [--min-chunk-size BYTES] "
		        "[--threads N]\n\t[--keep-diff-id] [--priority FILE] [--toc FILE] IN OUT\nformats: %s\n",
		        esgz_format_names());
		return 2;
	}
	if (convert(&a, &err) < 0) {
		fprintf(stderr, "esgzconv: %s\n", err.msg);
		return 1;
	}
	return 0;
}
