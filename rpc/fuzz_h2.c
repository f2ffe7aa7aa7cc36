/*
 * A gRPC server connection fed from memory: HTTP/2, HPACK as nghttp2 hands it on, gRPC framing, messages, handlers.
 * No threads: handlers run when their request is complete. Input: what a client sends after its connection preface,
 * cut into pieces of the length that its first byte says.
 */
#include "rpc/h2.h"
#include "rpc/testing/echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void output(void *arg) {}

static bool exchange(struct h2_conn *c, struct str in)
{
	AUTO(buf) struct buf out = BUF_INIT;

	return h2_conn_feed(c, in, NULL) >= 0 && h2_conn_pull(c, &out, 1 << 20, NULL) >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct echo echo = {0};
	struct rpc_service svc = echo_service(&echo);
	struct str in = str_make(data, n);
	struct ucred peer = {0};
	struct h2_conn *c = NULL;
	struct h2_env env;
	size_t piece;

	if (!n)
		return 0;
	piece = data[0] ? data[0] : n;
	in = str_sub(in, 1, SIZE_MAX);
	h2_env_init(&env);
	/* Small bounds, so that small inputs reach them. */
	env.max_message_bytes = 4096;
	env.buffer_soft = 4096;
	env.buffer_hard = 16384;
	if (rpc_methods_add(&env.methods, &svc, ~0u, NULL) < 0 ||
	    h2_conn_new(&env, &peer, NULL, output, NULL, &c, NULL) < 0)
		abort();
	if (exchange(c, str_make(preface, sizeof(preface) - 1)))
		while (in.n && exchange(c, str_sub(in, 0, piece)))
			in = str_sub(in, piece, SIZE_MAX);
	h2_conn_stop(c, true);
	exchange(c, STR_NONE);
	h2_conn_free(c);
	h2_env_fini(&env);
	return 0;
}
