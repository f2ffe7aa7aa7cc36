/*
 * A daemon for tests: all services over a table in memory and a real snapshotter in a temporary directory, without
 * contentfs, and a client that talks to it over a socket. Failures of the set-up end the test.
 */
#ifndef CONTENTD_TESTING_WORLD_H
#define CONTENTD_TESTING_WORLD_H

#include "base/kv_mem.h"
#include "contentd/daemon.h"
#include "rpc/client.h"

#define SHA_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct world {
	char dir[64];
	struct kv_mem *kv;
	struct cd_daemon *d;
	struct rpc_client *c;    /* in namespace "ns" */
	const char *snapshotter; /* that testing/snapshots.h asks: "overlayfs" */
	struct arena a;
	struct err err; /* of the last call */
};

/* Of calls that leave their error in w->err: must work, must fail with that code. (With <cmocka.h> before their use.) */
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, w->err.msg);                                                         \
	} while (0)
#define FAILS(call, code) assert_int_equal((call), -(code))
/* Of system calls: must work. (With <errno.h>.) */
#define SYS(call)                                                                                                      \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, strerror(errno));                                                    \
	} while (0)

/* For cmocka_unit_test_setup_teardown. */
int world_set_up(void **state);
int world_tear_down(void **state);

/* The same; or, when the environment has CONTENTD_TEST_ADDRESS, no daemon of its own but a client of the one that serves
 * that socket, in the namespace CONTENTD_TEST_NAMESPACE. w->d is NULL then. */
int world_set_up_or_join(void **state);

/* One call; the answer lives as long as the world. The code, negative on failure, with w->err set. */
int world_call(struct world *w, const ProtobufCServiceDescriptor *svc, const char *method, const void *req, void *rsp);

/* The same for a server-streaming method: all messages, in the arena; *n of them. */
int world_stream(struct world *w, const ProtobufCServiceDescriptor *svc, const char *method, const void *req,
                 const ProtobufCMessageDescriptor *type, void ***out, size_t *n);

/* "k=v k=v" as a list of a message: WORLD_KVS(w, message, labels, "a=1"). */
Kv__Entry **world_kvs(struct world *w, const char *text, size_t *n);
#define WORLD_KVS(w, m, field, text) ((m)->field = world_kvs((w), (text), &(m)->n_##field))

/* The list as that text again, in the arena. */
const char *world_kvs_text(struct world *w, Kv__Entry *const *list, size_t n);

/* What a lease lists, as "type:id type:id ", in the arena; the call must work. */
const char *world_leased(struct world *w, const char *lease);

#endif
