/* The plain tar of an image's layers. */
#include "bench/coldbench/modes/layers.h"

#include "bench/coldbench/images/layout.h"
#include "estargz/inflate/inflate.h"

#include <errno.h>
#include <fcntl.h>

#define PIECE_BYTES (256u << 10)

static int count_plain(void *arg, struct str plain, struct err *err)
{
	*(uint64_t *)arg += plain.n;
	return 0;
}

static int add_layer(const char *path, uint64_t *bytes, struct err *err)
{
	AUTO(esgz_stream) struct esgz_stream *stream = esgz_stream_new();
	AUTO_FREE char *piece = xmalloc(PIECE_BYTES);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, piece, PIECE_BYTES)) > 0)
		TRY_WRAP(esgz_stream_feed(stream, str_make(piece, (size_t)n), count_plain, bytes, err), err, "%s",
		         path);
	if (n < 0)
		return err_errno(err, errno, "read %s", path);
	TRY_WRAP(esgz_stream_finish(stream, err), err, "%s", path);
	return 0;
}

static int inflate_all(const char *layout, uint64_t *out, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *manifest = NULL;

	TRY(layout_read_manifest(layout, &manifest, err));
	*out = 0;
	for (size_t i = 0; i < manifest->n_layers; i++) {
		AUTO_FREE char *path = layout_blob_path(layout, &manifest->layers[i].digest);

		TRY(add_layer(path, out, err));
	}
	return 0;
}

int layers_tar_bytes(const char *layout, uint64_t *out, struct err *err)
{
	static char *last_layout;
	static uint64_t last_bytes;
	uint64_t bytes;

	if (!last_layout || strcmp(last_layout, layout) != 0) {
		TRY(inflate_all(layout, &bytes, err));
		free(last_layout);
		last_layout = xstrdup(layout);
		last_bytes = bytes;
	}
	*out = last_bytes;
	return 0;
}
