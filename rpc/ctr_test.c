/*
 * The server against a client that we did not write: the real ctr (grpc-go) with a handful of services that are just
 * enough for its commands. Unary calls, a server stream of 20 MiB, a two-way stream of 20 MiB, errors.
 */
#include "base/buf.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/unix.h"
#include "rpc/pb.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/introspection.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"
#include "rpc/proto/version.pb-c.h"
#include "rpc/server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#define BLOB_BYTES (20u << 20)

struct fixture {
	char dir[64], path[96];
	struct rpc_server *server;
	struct buf blob;
	char digest[DIGEST_TEXT_MAX];
	struct buf written;
	atomic_bool committed;
};

/* ---- services ---- */

static int version(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Version__VersionResponse rsp = VERSION__VERSION_RESPONSE__INIT;

	rsp.version = "1.2.3-test";
	rsp.revision = "abcdef";
	return rpc_reply(c, &rsp.base, err);
}

static int server(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Introspection__ServerResponse rsp = INTROSPECTION__SERVER_RESPONSE__INIT;

	rsp.uuid = "5b2a1f5e-0000-4000-8000-000000000001";
	return rpc_reply(c, &rsp.base, err);
}

static int namespaces_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Namespaces__ListNamespacesResponse rsp = NAMESPACES__LIST_NAMESPACES_RESPONSE__INIT;
	Namespaces__Namespace ns[2] = {NAMESPACES__NAMESPACE__INIT, NAMESPACES__NAMESPACE__INIT};
	Namespaces__Namespace *list[] = {&ns[0], &ns[1]};

	ns[0].name = "default";
	ns[1].name = "k8s.io";
	rsp.namespaces = list;
	rsp.n_namespaces = 2;
	return rpc_reply(c, &rsp.base, err);
}

/* ctr asks for the labels of each. */
static int namespaces_get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__GetNamespaceRequest *req = request;
	Namespaces__GetNamespaceResponse rsp = NAMESPACES__GET_NAMESPACE_RESPONSE__INIT;
	Namespaces__Namespace ns = NAMESPACES__NAMESPACE__INIT;
	Kv__Entry *label = pb_kv_new(rpc_arena(c), "colour", "green");

	ns.name = req->name;
	ns.labels = &label;
	ns.n_labels = strcmp(req->name, "k8s.io") == 0;
	rsp.namespace_ = &ns;
	return rpc_reply(c, &rsp.base, err);
}

static int namespaces_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__CreateNamespaceRequest *req = request;

	return err_set(err, ERR_EXISTS, "namespace \"%s\": 100 %% there \xc3\xa4", req->namespace_->name);
}

static int content_info(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct fixture *f = svc;
	const Content__InfoRequest *req = request;
	Content__InfoResponse rsp = CONTENT__INFO_RESPONSE__INIT;
	Content__Info info = CONTENT__INFO__INIT;

	if (strcmp(rpc_metadata(c, "containerd-namespace") ?: "", "testing") != 0)
		return err_set(err, ERR_PRECONDITION, "namespace is required");
	if (strcmp(req->digest, f->digest) != 0)
		return err_set(err, ERR_NOT_FOUND, "content %s: not found", req->digest);
	info.digest = f->digest;
	info.size = BLOB_BYTES;
	rsp.info = &info;
	return rpc_reply(c, &rsp.base, err);
}

static int content_read(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct fixture *f = svc;
	const Content__ReadContentRequest *req = request;
	struct str rest = str_sub(buf_str(&f->blob), (size_t)req->offset, req->size ? (size_t)req->size : SIZE_MAX);

	while (rest.n) {
		Content__ReadContentResponse rsp = CONTENT__READ_CONTENT_RESPONSE__INIT;
		struct str part = str_sub(rest, 0, 1 << 20);

		rsp.data = (ProtobufCBinaryData){part.n, (uint8_t *)part.p};
		TRY(rpc_send(c, &rsp.base, err));
		rest = str_sub(rest, part.n, SIZE_MAX);
	}
	return 0;
}

static int content_write(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct fixture *f = svc;
	Content__WriteContentRequest *req;
	int r;

	while ((r = rpc_recv(c, &req, err)) > 0) {
		Content__WriteContentResponse rsp = CONTENT__WRITE_CONTENT_RESPONSE__INIT;

		if (req->offset && (size_t)req->offset != f->written.n)
			return err_set(err, ERR_OUT_OF_RANGE, "write at %ld", (long)req->offset);
		buf_add(&f->written, req->data.data, req->data.len);
		rsp.action = req->action;
		rsp.offset = (int64_t)f->written.n;
		rsp.digest = f->digest;
		/* Before the answer, after which ctr ends and the test looks. */
		if (req->action == CONTENT__WRITE_ACTION__COMMIT)
			atomic_store(&f->committed, true);
		TRY(rpc_send(c, &rsp.base, err));
		if (req->action == CONTENT__WRITE_ACTION__COMMIT)
			return 0;
	}
	return r;
}

static const struct rpc_method version_methods[] = {{"Version", RPC_INLINE, version}};
static const struct rpc_method introspection_methods[] = {{"Server", RPC_INLINE, server}};
static const struct rpc_method namespaces_methods[] = {
    {"List", 0, namespaces_list},
    {"Get", 0, namespaces_get},
    {"Create", 0, namespaces_create},
};
static const struct rpc_method content_methods[] = {
    {"Info", 0, content_info},
    {"Read", RPC_SERVER_STREAM, content_read},
    {"Write", RPC_CLIENT_STREAM | RPC_SERVER_STREAM, content_write},
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	const struct rpc_service services[] = {
	    {&version__version__descriptor, version_methods, ARRAY_LEN(version_methods)},
	    {&introspection__introspection__descriptor, introspection_methods, ARRAY_LEN(introspection_methods)},
	    {&namespaces__namespaces__descriptor, namespaces_methods, ARRAY_LEN(namespaces_methods)},
	    {&content__content__descriptor, content_methods, ARRAY_LEN(content_methods), f},
	};
	struct err err = ERR_INIT;
	struct digest d;
	int fd;

	snprintf(f->dir, sizeof(f->dir), "/tmp/rpc_ctr_test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	for (uint32_t i = 0, x = 1; i < BLOB_BYTES / 4; i++, x = x * 1664525 + 1013904223)
		buf_le32(&f->blob, x);
	digest_of(f->blob.p, f->blob.n, &d);
	digest_text(&d, f->digest);

	assert_int_equal(rpc_server_new(NULL, &f->server, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		assert_int_equal(rpc_server_add(f->server, &services[i], &err), 0);
	assert_int_equal(unix_listen(f->path, SOCK_STREAM, 0600, &fd, &err), 0);
	assert_int_equal(rpc_server_listen(f->server, fd, &err), 0);
	assert_int_equal(rpc_server_start(f->server, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *out = xasprintf("%s/out", f->dir);

	rpc_server_free(f->server);
	buf_fini(&f->blob);
	buf_fini(&f->written);
	unlink(f->path);
	unlink(out);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* Runs ctr; its output, both streams, in `out`. Returns the exit status. */
static int ctr(struct fixture *f, int stdin_fd, struct buf *out, const char *const *args)
{
	AUTO_FREE char *out_path = xasprintf("%s/out", f->dir);
	const char *argv[16] = {"ctr", "--address", f->path, "-n", "testing"};
	AUTO_FD int fd = open(out_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err err = ERR_INIT;
	struct spawn s = {.argv = argv, .stdio = {stdin_fd, fd, fd}};
	pid_t pid;
	int status;

	for (size_t i = 0; args[i]; i++)
		argv[5 + i] = args[i];
	assert_true(fd >= 0);
	if (spawn_start(&s, &pid, &err) < 0)
		fail_msg("ctr (package containerd): %s", err.msg);
	assert_int_equal(spawn_wait(pid, &status, &err), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, 2 * BLOB_BYTES, out, &err), 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define CTR(f, in, out, ...) ctr((f), (in), (out), (const char *const[]){__VA_ARGS__, NULL})

static void assert_has(const struct buf *out, const char *text)
{
	if (!strstr(buf_cstr(out), text))
		fail_msg("no \"%s\" in: %s", text, buf_cstr(out));
}

static void ctr_version(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;

	assert_int_equal(CTR(*state, -1, &out, "version"), 0);
	assert_has(&out, "1.2.3-test");
	assert_has(&out, "abcdef");
	assert_has(&out, "5b2a1f5e-0000-4000-8000-000000000001");
}

static void ctr_namespaces(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;

	assert_int_equal(CTR(*state, -1, &out, "namespaces", "ls"), 0);
	assert_has(&out, "default");
	assert_has(&out, "k8s.io");
	assert_has(&out, "colour=green");
}

static void ctr_errors(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;

	assert_int_equal(CTR(*state, -1, &out, "namespaces", "create", "x"), 1);
	assert_has(&out, "namespace \"x\": 100 % there \xc3\xa4");
	buf_clear(&out);
	assert_int_equal(CTR(*state, -1, &out, "images", "ls"), 1);
	assert_has(&out, "unknown service containerd.services.images.v1.Images");
}

static void ctr_content_get(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf out = BUF_INIT;

	assert_int_equal(CTR(f, -1, &out, "content", "get", f->digest), 0);
	assert_int_equal(out.n, BLOB_BYTES);
	assert_memory_equal(out.p, f->blob.p, BLOB_BYTES);
}

static void ctr_content_ingest(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	AUTO_FD int in = -1;

	assert_int_equal(memfd_of("blob", buf_str(&f->blob), &in, &err), 0);
	if (CTR(f, in, &out, "content", "ingest", "--expected-digest", f->digest, "some-ref") != 0)
		fail_msg("%s", buf_cstr(&out));
	assert_true(atomic_load(&f->committed));
	assert_int_equal(f->written.n, BLOB_BYTES);
	assert_memory_equal(f->written.p, f->blob.p, BLOB_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(ctr_version, setup, teardown),
	    cmocka_unit_test_setup_teardown(ctr_namespaces, setup, teardown),
	    cmocka_unit_test_setup_teardown(ctr_errors, setup, teardown),
	    cmocka_unit_test_setup_teardown(ctr_content_get, setup, teardown),
	    cmocka_unit_test_setup_teardown(ctr_content_ingest, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
