#include "contentd/testing/upload.h"

#include "base/clock.h"
#include "base/digest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CALL(method, req, rsp) world_call(w, &content__content__descriptor, method, (req), (rsp))
#define OPEN_PATIENCE_NS (10 * NS_PER_S)

const char *sha_of(struct world *w, struct str bytes)
{
	char out[DIGEST_TEXT_MAX];
	struct digest d;

	digest_of(bytes.p, bytes.n, &d);
	return arena_strdup(&w->a, digest_text(&d, out));
}

/* ---- writing ---- */

struct upload upload_begin(struct world *w)
{
	struct upload u = {.w = w};

	w->err = ERR_INIT;
	if (rpc_stream_open(w->c, &content__content__descriptor, "Write", NULL, &u.s, &w->err) < 0)
		fail_msg("%s", w->err.msg);
	return u;
}

void upload_end(struct upload *u)
{
	rpc_stream_free(STEAL(u->s));
}

int upload_say(struct upload *u, const Content__WriteContentRequest *req, Content__WriteContentResponse **rsp)
{
	AUTO(pb) Content__WriteContentResponse *m = NULL;
	AUTO(buf) struct buf wire = BUF_INIT;
	int r;

	r = rpc_stream_send(u->s, &req->base, &u->w->err);
	if (r >= 0)
		r = rpc_stream_recv(u->s, INT64_MAX, &m, &u->w->err);
	if (r == RPC_MESSAGE && rsp) {
		pb_pack(&m->base, &wire);
		r = pb_unpack_in(&u->w->a, &content__write_content_response__descriptor, buf_str(&wire), rsp, NULL);
	}
	return r < 0 ? r : 0;
}

static Content__WriteContentRequest message(Content__WriteAction action, int64_t offset, struct str data)
{
	Content__WriteContentRequest req = CONTENT__WRITE_CONTENT_REQUEST__INIT;

	req.action = action;
	req.offset = offset;
	req.data = (ProtobufCBinaryData){data.n, (uint8_t *)data.p};
	return req;
}

int upload_stat(struct upload *u, const char *ref, int64_t total, const char *expected,
                Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__STAT, 0, STR_NONE);

	req.ref = ref;
	req.total = total;
	req.expected = expected;
	return upload_say(u, &req, rsp);
}

int upload_write(struct upload *u, int64_t offset, struct str data, Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__WRITE, offset, data);

	return upload_say(u, &req, rsp);
}

int upload_commit(struct upload *u, int64_t offset, int64_t total, const char *expected, const char *labels,
                  Content__WriteContentResponse **rsp)
{
	Content__WriteContentRequest req = message(CONTENT__WRITE_ACTION__COMMIT, offset, STR_NONE);

	req.total = total;
	req.expected = expected;
	WORLD_KVS(u->w, &req, labels, labels);
	return upload_say(u, &req, rsp);
}

struct upload upload_open(struct world *w, const char *ref, int64_t total, const char *expected,
                          Content__WriteContentResponse **rsp)
{
	int64_t until = clock_mono_ns() + OPEN_PATIENCE_NS;
	struct upload u = {0};

	do {
		u = upload_begin(w);
		if (upload_stat(&u, ref, total, expected, rsp) >= 0)
			return u;
		upload_end(&u);
	} while (w->err.code == ERR_UNAVAILABLE && clock_mono_ns() < until);
	fail_msg("%s", w->err.msg);
	return u;
}

void upload_blob(struct world *w, const char *ref, struct str bytes, const char *labels)
{
	Content__WriteContentResponse *rsp;
	struct upload u = upload_open(w, ref, 0, "", &rsp);
	AUTO(pb) Content__WriteContentResponse *more = NULL;

	if (upload_write(&u, rsp->offset, bytes, &rsp) < 0 ||
	    upload_commit(&u, rsp->offset, (int64_t)bytes.n, sha_of(w, bytes), labels, &rsp) < 0)
		fail_msg("%s", w->err.msg);
	assert_string_equal(rsp->digest, sha_of(w, bytes));
	assert_int_equal(rpc_stream_recv(u.s, INT64_MAX, &more, &w->err), RPC_END);
	upload_end(&u);
}

/* ---- the other calls ---- */

int content_status(struct world *w, const char *ref, Content__Status **out)
{
	Content__StatusRequest req = CONTENT__STATUS_REQUEST__INIT;
	Content__StatusResponse *rsp;
	int r;

	req.ref = ref;
	r = CALL("Status", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->status;
	return r;
}

int content_info(struct world *w, const char *digest, Content__Info **out)
{
	Content__InfoRequest req = CONTENT__INFO_REQUEST__INIT;
	Content__InfoResponse *rsp;
	int r;

	req.digest = digest;
	r = CALL("Info", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->info;
	return r;
}

int content_read(struct world *w, const char *digest, int64_t offset, int64_t size, struct str *out, size_t *messages)
{
	Content__ReadContentRequest req = CONTENT__READ_CONTENT_REQUEST__INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	int64_t at = 0;
	void **all;
	size_t n;

	req.digest = digest;
	req.offset = offset;
	req.size = size;
	TRY(world_stream(w, &content__content__descriptor, "Read", &req, &content__read_content_response__descriptor,
	                 &all, &n));
	for (size_t i = 0; i < n; i++) {
		const Content__ReadContentResponse *rsp = all[i];

		assert_int_equal(rsp->offset, at);
		buf_add(&b, rsp->data.data, rsp->data.len);
		at += (int64_t)rsp->data.len;
	}
	*out = str_make(arena_str(&w->a, buf_str(&b)), b.n);
	if (messages)
		*messages = n;
	return 0;
}

int content_update(struct world *w, const char *digest, const char *labels, const char *mask, Content__Info **out)
{
	Content__UpdateRequest req = CONTENT__UPDATE_REQUEST__INIT;
	Content__Info i = CONTENT__INFO__INIT;
	Pb__FieldMask m = PB__FIELD_MASK__INIT;
	Content__UpdateResponse *rsp;
	int r;

	i.digest = digest;
	WORLD_KVS(w, &i, labels, labels);
	m.paths = &mask;
	m.n_paths = 1;
	req.info = &i;
	req.update_mask = mask ? &m : NULL;
	r = CALL("Update", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->info;
	return r;
}

int content_delete(struct world *w, const char *digest)
{
	Content__DeleteContentRequest req = CONTENT__DELETE_CONTENT_REQUEST__INIT;

	req.digest = digest;
	return CALL("Delete", &req, NULL);
}
