/*
 * Chaos: containers are started, killed and deleted by clients that reconnect and try again, while the daemon is killed
 * at random moments and started anew, and images are removed and pulled again. Every answer and every event is compared
 * with what must have happened. All that is random comes from one seed, so that a run can be made again as far as the
 * machine's own timing allows.
 */
#ifndef CHAOS_H
#define CHAOS_H

#include "base/clock.h"
#include "contentd/ctl/ctl.h"

#include <pthread.h>
#include <stdatomic.h>

#define PATIENCE_NS (60 * NS_PER_S) /* for anything at all to succeed */

/* ---- randomness: a stream of its own for whoever needs one ---- */

struct dice {
	uint64_t state;
};
struct dice dice_make(uint64_t seed, uint64_t stream);
uint64_t dice_below(struct dice *d, uint64_t n); /* 0 .. n - 1 */
void dice_sleep(struct dice *d, unsigned min_ms, unsigned max_ms);

/* ---- what happens to a container ---- */

enum plot { PLOT_EXIT, PLOT_KILL, PLOT_TERM, PLOT_EXEC, PLOT_PAUSE, PLOT_SHIM, PLOT_UNSTARTED, PLOTS };

#define NO_STATUS UINT32_MAX /* any will do */

struct container {
	char id[24];
	enum plot plot;
	bool started;
	uint32_t status; /* that it must end with; NO_STATUS for one that is never started */
	/* The daemon died in the middle of such a call. Of an earlier try to create it there may be events too. A start that
	 * is cut off is ended by the stock shim together with its connection, at whatever point the runtime is: the
	 * container may run, or have ended, or stay created for good; that of another program may end the shim. */
	atomic_bool create_cut, start_cut, exec_cut;
	uint32_t waited; /* what Wait said; NO_STATUS */
	/* The subscription at its beginning and its end: the same one hears of all of it. 0: there was none. */
	unsigned first_epoch, last_epoch;
	/* The watcher's. */
	unsigned stage, stage_epoch, heard; /* the last of its events, in which subscription; a bit for each */
	uint32_t told;                      /* the last status that was heard of; NO_STATUS */
};

struct chaos {
	const char *address, *ns, *dir, *contentctl;
	char **images, **daemon; /* argv, NULL at the end */
	unsigned n_images, n_containers, n_workers, kill_min_ms, kill_max_ms;
	uint64_t seed;

	struct container *containers;
	atomic_uint next, done, kills, epoch, breaks, failures, removals;
	atomic_bool ending;
	pid_t daemon_pid;
	unsigned max_open; /* descriptors of the daemon, after its warm-up */
};

/* Says what was wrong. The run goes on, unless it has been said too often. */
void chaos_fail(struct chaos *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- the daemon: daemon.c ---- */

int daemon_start(struct chaos *c);
void daemon_end(struct chaos *c, int signal);
/* A thread: kills and restarts it until c->ending. */
void *daemon_killer(void *chaos);
/* Descriptors it has open, and its private memory in KiB. */
void daemon_size(const struct chaos *c, unsigned *fds, unsigned *kib);

/* ---- a client that does not give up: peer.c ---- */

struct peer {
	struct chaos *chaos;
	struct ctl ctl;
	const char *lease;
};
void peer_init(struct peer *p, struct chaos *c);
void peer_fini(struct peer *p);

/* Connects when there is no connection, however long that takes. */
int peer_connect(struct peer *p, struct err *err);
void peer_disconnect(struct peer *p);

/* A call that is repeated as long as the daemon is away. *again (may be NULL): it was, so that an earlier try may have
 * had its effect. */
int peer_call(struct peer *p, const ProtobufCServiceDescriptor *svc, const char *method, const ProtobufCMessage *msg,
              void *rsp, bool *again, struct err *err);
/* The same, each try with a deadline of its own. */
int peer_call_within(struct peer *p, int64_t ns, const ProtobufCServiceDescriptor *svc, const char *method,
                     const ProtobufCMessage *msg, bool *again, struct err *err);
/* The same; `fine` is success too when it was repeated. */
int peer_insist(struct peer *p, const ProtobufCServiceDescriptor *svc, const char *method, const ProtobufCMessage *msg,
                enum err_code fine, struct err *err);

/* ---- images: images.c ---- */

/* Runs contentctl pull until it succeeds. */
int images_pull(struct chaos *c, const char *image);
/* Absent is fine. `collect`: waits for what then is garbage to be gone. */
void images_remove(struct peer *p, const char *image, bool collect);
/* A thread: removes images until c->ending. */
void *images_remover(void *chaos);

/* ---- one container's life: life.c ---- */

void life_plan(struct container *k, struct dice *d);
void life_run(struct chaos *c, struct container *k, struct dice *d);

/* ---- events: watch.c ---- */

/* A thread: follows events until watch_end. */
void *watch_run(void *chaos);
/* Has it hear of all that was published before, and end. */
void watch_end(struct chaos *c);
/* Compares what was heard with the lives. */
void watch_judge(struct chaos *c);

/* ---- at the end: rest.c ---- */

/* Lists of the daemon that must be empty. */
void rest_check(struct chaos *c);

#endif
