/* Streams and transfers, as clients see them: who holds an end, what ends it, and what is refused. */
#include "base/clock.h"
#include "contentd/testing/world.h"
#include "rpc/proto/streaming.pb-c.h"
#include "rpc/proto/transfer.pb-c.h"
#include "rpc/proto/xfer.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct rpc_stream *open_named(struct world *w, const char *id)
{
	Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
	AUTO(pb) Pb__Any *ack = NULL;
	struct rpc_stream *s = NULL;

	init.id = id;
	OK(rpc_stream_open(w->c, &streaming__streaming__descriptor, "Stream", NULL, &s, &w->err));
	OK(rpc_stream_send(s, &pb_any_new(&w->a, &init.base)->base, &w->err));
	if (rpc_stream_recv(s, INT64_MAX, &ack, &w->err) != RPC_MESSAGE) {
		rpc_stream_free(s);
		return NULL;
	}
	assert_string_equal(ack->type_url, "google.protobuf.Empty");
	return s;
}

static void streams(void **state)
{
	struct world *w = *state;
	AUTO(rpc_stream) struct rpc_stream *s = open_named(w, "one");
	Xfer__AuthResponse answer = XFER__AUTH_RESPONSE__INIT, *got;
	AUTO(pb) Pb__Any *any = NULL;
	struct cd_stream *mine = NULL, *again = NULL;

	assert_non_null(s);
	assert_null(open_named(w, "one"));
	assert_int_equal(w->err.code, ERR_EXISTS);
	FAILS(cd_streams_get(w->d->streams, "ns", "none", &mine, NULL), ERR_NOT_FOUND);
	FAILS(cd_streams_get(w->d->streams, "other", "one", &mine, NULL), ERR_NOT_FOUND);
	OK(cd_streams_get(w->d->streams, "ns", "one", &mine, &w->err));
	FAILS(cd_streams_get(w->d->streams, "ns", "one", &again, NULL), ERR_PRECONDITION);
	/* From the server, from the client, and to the end by the server. */
	answer.username = "bob";
	OK(cd_stream_send(mine, &answer.base, &w->err));
	assert_int_equal(rpc_stream_recv(s, INT64_MAX, &any, &w->err), RPC_MESSAGE);
	assert_string_equal(any->type_url, "containerd.types.transfer.AuthResponse");
	FAILS(cd_stream_recv(mine, &xfer__auth_response__descriptor, NULL, clock_mono_ns() + NS_PER_MS, &w->a, &got,
	                     NULL),
	      ERR_DEADLINE);
	OK(rpc_stream_send(s, &any->base, &w->err));
	assert_int_equal(rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + NS_PER_MS, &w->err), 0);
	assert_int_equal(cd_stream_recv(mine, &xfer__auth_response__descriptor, NULL, INT64_MAX, &w->a, &got, &w->err),
	                 1);
	assert_string_equal(got->username, "bob");
	cd_stream_close(mine);
	pb_free(STEAL(any));
	assert_int_equal(rpc_stream_recv(s, INT64_MAX, &any, &w->err), RPC_END);
}

static void a_client_that_leaves_its_stream(void **state)
{
	struct world *w = *state;
	struct rpc_stream *s = open_named(w, "one");
	Xfer__AuthResponse answer = XFER__AUTH_RESPONSE__INIT, *got;
	struct cd_stream *mine = NULL;

	OK(cd_streams_get(w->d->streams, "ns", "one", &mine, &w->err));
	rpc_stream_free(s);
	rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	/* Which is not the end of what it had to say. */
	FAILS(cd_stream_recv(mine, &xfer__auth_response__descriptor, NULL, INT64_MAX, &w->a, &got, &w->err),
	      ERR_UNAVAILABLE);
	FAILS(cd_stream_send(mine, &answer.base, NULL), ERR_UNAVAILABLE);
	cd_stream_close(mine);
}

static void a_client_that_has_said_all(void **state)
{
	struct world *w = *state;
	AUTO(rpc_stream) struct rpc_stream *s = open_named(w, "one");
	Xfer__AuthResponse answer = XFER__AUTH_RESPONSE__INIT, *got;
	struct cd_stream *mine = NULL;

	OK(cd_streams_get(w->d->streams, "ns", "one", &mine, &w->err));
	OK(rpc_stream_send(s, &pb_any_new(&w->a, &answer.base)->base, &w->err));
	OK(rpc_stream_close_send(s, &w->err));
	assert_int_equal(rpc_client_poll(w->c, NULL, 0, clock_mono_ns() + NS_PER_MS, &w->err), 0);
	for (int left = 1; left >= 0; left--)
		assert_int_equal(
		    cd_stream_recv(mine, &xfer__auth_response__descriptor, NULL, INT64_MAX, &w->a, &got, &w->err),
		    left);
	cd_stream_close(mine);
}

/* What nobody takes is bounded also when it has no bytes. */
static void a_flood_of_nothing(void **state)
{
	struct world *w = *state;
	AUTO(rpc_stream) struct rpc_stream *s = open_named(w, "one");
	AUTO(pb) Pb__Any *any = NULL;
	Pb__Any nothing = PB__ANY__INIT;
	int r = RPC_AGAIN;

	for (unsigned i = 0; i < 200000 && r == RPC_AGAIN; i++) {
		if (rpc_stream_send(s, &nothing.base, NULL) < 0)
			break;
		if (i % 1000 == 0)
			r = rpc_stream_try_recv(s, &any, &w->err);
	}
	FAILS(rpc_stream_recv(s, INT64_MAX, &any, &w->err), ERR_EXHAUSTED);
}

static void transfers_that_cannot_be(void **state)
{
	Transfer__TransferRequest req = TRANSFER__TRANSFER_REQUEST__INIT;
	Transfer__TransferOptions options = TRANSFER__TRANSFER_OPTIONS__INIT;
	Xfer__OCIRegistry source = XFER__OCIREGISTRY__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	struct world *w = *state;

	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_INVALID);
	req.source = pb_any_new(&w->a, &source.base);
	req.destination = pb_any_new(&w->a, &source.base);
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_UNIMPLEMENTED);
	req.source = pb_any_new(&w->a, &source.base);
	req.destination = pb_any_new(&w->a, &store.base);
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_INVALID); /* no reference */
	source.reference = "127.0.0.1:1/x";
	store.name = "x";
	req.source = pb_any_new(&w->a, &source.base);
	req.destination = pb_any_new(&w->a, &store.base);
	options.progress_stream = "none";
	req.options = &options;
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL), ERR_NOT_FOUND);
	req.options = NULL;
	FAILS(world_call(w, &transfer__transfer__descriptor, "Transfer", &req, NULL),
	      ERR_UNAVAILABLE); /* no contentfs */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(streams),
	    TEST(a_client_that_leaves_its_stream),
	    TEST(a_client_that_has_said_all),
	    TEST(a_flood_of_nothing),
	    TEST(transfers_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
