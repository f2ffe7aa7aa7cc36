#include "fusefs/access.h"
#include "fusefs/download.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <sys/stat.h>

#define READ_BYTES (1u << 20)

struct fetch_blob {
	struct ffs_service *s;
	struct rpc_call *call;
	struct reg_ref ref;
	const struct access *access;
	struct digest blob;
	uint64_t blob_bytes, have_bytes;
	struct hasher *hasher;
	int fd;
};

/* What is there already counts; more than the blob can have is not a beginning of it. */
static int take_present(struct fetch_blob *f, struct err *err)
{
	AUTO_FREE uint8_t *bytes = xmalloc(READ_BYTES);
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_errno(err, errno, "stat the blob's file");
	if ((uint64_t)st.st_size > f->blob_bytes) {
		if (ftruncate(f->fd, 0) < 0)
			return err_errno(err, errno, "empty the blob's file");
		st.st_size = 0;
	}
	while (f->have_bytes < (uint64_t)st.st_size) {
		uint64_t left = (uint64_t)st.st_size - f->have_bytes;
		size_t n = left < READ_BYTES ? (size_t)left : READ_BYTES;

		TRY(fd_pread_all(f->fd, bytes, n, (off_t)f->have_bytes, err));
		hasher_add(f->hasher, bytes, n);
		f->have_bytes += n;
		TRY(rpc_cancelled(f->call, err));
	}
	return 0;
}

static int take_block(struct fetch_blob *f, const struct block *b, struct err *err)
{
	TRY_WRAP(fd_pwrite_all(f->fd, str_make(b->bytes, b->n), (off_t)f->have_bytes, err), err, "write the blob");
	hasher_add(f->hasher, b->bytes, b->n);
	f->have_bytes += b->n;
	return 0;
}

static void on_cancel(void *arg)
{
	download_abort(arg);
}

static int take_download(struct fetch_blob *f, struct download *d, struct err *err)
{
	struct block *b = NULL;
	int64_t sent_ns = clock_mono_ns();
	int more;

	while ((more = download_next(d, &b, err)) > 0) {
		int r = take_block(f, b, err);

		free(b);
		TRY(r);
		TRY(send_progress(f->call, &sent_ns, f->have_bytes, f->blob_bytes, err));
	}
	return more;
}

static int fetch_rest(struct fetch_blob *f, struct err *err)
{
	AUTO(download) struct download *d = NULL;
	int r;

	if (f->have_bytes == f->blob_bytes)
		return 0;
	TRY(download_start(f->s->w->client, &f->ref, f->access->account, &f->blob, f->blob_bytes, f->have_bytes,
	                   rpc_deadline_ns(f->call), &d, err));
	rpc_on_cancel(f->call, on_cancel, d);
	r = take_download(f, d, err);
	rpc_off_cancel(f->call, d);
	return r;
}

static int check(struct fetch_blob *f, struct err *err)
{
	char got[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];
	struct digest digest;

	hasher_done(f->hasher, &digest);
	if (f->have_bytes == f->blob_bytes && digest_eq(&digest, &f->blob))
		return 0;
	if (ftruncate(f->fd, 0) < 0)
		log_warn("a blob that is not what it should be cannot be emptied: %s", strerror(errno));
	return err_set(err, ERR_DATA_LOSS, "%llu bytes with digest %s came, should be %llu with %s",
	               (unsigned long long)f->have_bytes, digest_text(&digest, got), (unsigned long long)f->blob_bytes,
	               digest_text(&f->blob, want));
}

static int run(struct fetch_blob *f, struct err *err)
{
	TRY(take_present(f, err));
	TRY(fetch_rest(f, err));
	return check(f, err);
}

int verb_fetch_blob(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(FetchBlobRequest) *req = request;
	PB(FetchBlobResponse) rsp = CONTENTD__CONTENTFS__V1__FETCH_BLOB_RESPONSE__INIT;
	AUTO(hasher) struct hasher *hasher = hasher_new();
	AUTO_FD int fd = ttrpc_call_fd(c, 0);
	AUTO(access) struct access access = {0};
	struct fetch_blob f = {.s = svc, .call = c, .access = &access, .hasher = hasher, .fd = fd};
	int r;

	if (fd < 0)
		return err_set(err, ERR_INVALID, "no descriptor came with the request");
	TRY(reg_ref_parse(str_of(req->reference), &f.ref, err));
	TRY(parse_descriptor(req->blob, "blob", &f.blob, &f.blob_bytes, err));
	TRY(access_take(svc, req->access, &f.ref, &access, err));
	r = run(&f, err);
	TRY(verb_cut_off(svc, c, err));
	TRY_WRAP(r, err, "image %s, blob %s", req->reference, req->blob->digest);
	rsp.bytes = (int64_t)f.have_bytes;
	return rpc_reply(c, &rsp.base, err);
}
