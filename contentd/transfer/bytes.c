#include "contentd/transfer/bytes.h"

#include "base/clock.h"
#include "rpc/proto/xfer.pb-c.h"

#define FRAME_BYTES (32u << 10)
#define WINDOW_BYTES (1u << 20) /* granted ahead: frames under way while we are busy with others */
#define WINDOW_STEP (256u << 10)

#define CLIENT_WINDOW_BYTES (64u << 10) /* containerd's clients' */
#define GRANT_PATIENCE (30 * NS_PER_S)

void cd_bytes_in_init(struct cd_bytes_in *b, struct cd_stream *stream, struct rpc_call *call)
{
	*b = (struct cd_bytes_in){.stream = stream, .call = call};
	arena_init(&b->arena, 4u << 20);
}

void cd_bytes_in_fini(struct cd_bytes_in *b)
{
	arena_fini(&b->arena);
}

/* A client that has closed its side needs no more credit, and cannot be told. */
static void grant(struct cd_bytes_in *b)
{
	Xfer__WindowUpdate m = XFER__WINDOW_UPDATE__INIT;

	m.update = (int32_t)(WINDOW_BYTES - b->granted);
	if (m.update < (int32_t)WINDOW_STEP)
		return;
	cd_stream_send(b->stream, &m.base, NULL);
	b->granted += m.update;
}

int cd_bytes_read(struct cd_bytes_in *b, struct str *out, struct err *err)
{
	Xfer__Data *m;
	int r;

	do {
		grant(b);
		arena_clear(&b->arena);
		r = cd_stream_recv(b->stream, &xfer__data__descriptor, b->call, INT64_MAX, &b->arena, &m, err);
		if (r <= 0)
			return r;
		b->granted -= (int64_t)m->data.len;
		if (b->granted < 0)
			return err_set(err, ERR_INVALID, "the client sends more than it was granted");
	} while (!m->data.len);
	*out = str_make(m->data.data, m->data.len);
	return 1;
}

void cd_bytes_out_init(struct cd_bytes_out *b, struct cd_stream *stream, struct rpc_call *call)
{
	*b = (struct cd_bytes_out){.stream = stream, .call = call};
}

/* Until so many bytes may be sent. */
static int wait_for_credit(struct cd_bytes_out *b, int64_t bytes, int64_t deadline_ns, struct err *err)
{
	Xfer__WindowUpdate *m;
	struct arena a;
	int r = 1;

	arena_init(&a, 64u << 10);
	while (b->granted < bytes && r > 0) {
		r = cd_stream_recv(b->stream, &xfer__window_update__descriptor, b->call, deadline_ns, &a, &m, err);
		if (r > 0 && m->update > 0) {
			b->window = b->window ?: m->update;
			b->granted += m->update;
		}
		arena_clear(&a);
	}
	arena_fini(&a);
	return r ? r : err_set(err, ERR_UNAVAILABLE, "the client closed its stream before the end");
}

int cd_bytes_write(struct cd_bytes_out *b, struct str bytes, struct err *err)
{
	while (bytes.n) {
		Xfer__Data m = XFER__DATA__INIT;
		int r;

		if (b->granted <= 0) {
			r = wait_for_credit(b, 1, INT64_MAX, err);
			TRY(r);
		}
		m.data.data = (uint8_t *)bytes.p;
		m.data.len = bytes.n < FRAME_BYTES ? bytes.n : FRAME_BYTES;
		if ((int64_t)m.data.len > b->granted)
			m.data.len = (size_t)b->granted;
		TRY(cd_stream_send(b->stream, &m.base, err));
		b->granted -= (int64_t)m.data.len;
		b->sent += m.data.len;
		bytes = str_sub(bytes, m.data.len, bytes.n);
	}
	return 0;
}

size_t cd_bytes_until_grant(const struct cd_bytes_out *b)
{
	uint64_t over = b->sent % CLIENT_WINDOW_BYTES;

	if (b->window != CLIENT_WINDOW_BYTES)
		return 0;
	return (over ? CLIENT_WINDOW_BYTES - over : 0) + 1;
}

int cd_bytes_await_grant(struct cd_bytes_out *b, struct err *err)
{
	struct err why = ERR_INIT;

	if (b->window != CLIENT_WINDOW_BYTES ||
	    wait_for_credit(b, b->window, clock_mono_ns() + GRANT_PATIENCE, &why) != -ERR_CANCELLED)
		return 0; /* all was sent: what else the client does with it is its own affair */
	*err = why;
	return -ERR_CANCELLED;
}
