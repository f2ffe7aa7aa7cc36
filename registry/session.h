/*
 * The steps of a push, and an upload under way: what push.c, upload.c and referrers.c are made of. Private to registry/.
 *
 *	HEAD ──► POST, perhaps with a mount ──► PUT with the bytes
 *	                                   └──► PATCH with bytes ... PATCH, PUT without any
 *	                                         └─ broken: GET says how far it came (its Range)
 */
#ifndef REGISTRY_SESSION_H
#define REGISTRY_SESSION_H

#include "registry/internal.h"

/* What the steps of one push have in common. */
struct push {
	struct reg_client *client;
	const struct reg_ref *ref;
	struct reg_account *account;
	struct host *host;
	size_t endpoint;
	char *base, *scope, *what;
	int64_t deadline_ns;
	struct reg_canceller *canceller; /* or NULL */
	int64_t retry_after_ns;          /* that the last answer asked for, if it was a refusal */
};

/* `from`: a repository to mount from, or NULL. `what` is left to the caller; ref and account are borrowed. */
int push_init(struct push *p, struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
              const char *from, int64_t deadline_ns, struct err *err);
void push_fini(struct push *p);
DEFINE_AUTO_FINI(push);

/* One exchange with the server of the push; its answer goes to a waiter. */
struct step {
	struct reg_request base;
	char *content_type;  /* of the body; NULL = none */
	char *content_range; /* of a PATCH; NULL = none */
};

/* An upload Location on another origin gets no Authorization. */
struct step *step_new(const struct push *p, const char *method, TAKE(char *) url, struct waiter *w);
/* Makes bytes the body. An upload does not survive a break as it is: there is one attempt. */
void step_set_body(struct step *s, struct str bytes);
/* From now on whoever cancels finds it. After 0 step_wait must follow. */
int step_submit(const struct push *p, TAKE(struct step *) s, struct err *err);
int step_wait(struct push *p, struct waiter *w, struct err *err);
int step_run(struct push *p, TAKE(struct step *) s, struct waiter *w, struct err *err);

/* Before attempt `attempt` + 1 at what failed for the reason *why: waits, longer each time, and at least as long as the
 * server asked for. That reason when there is no time for it, or the server wants more than PUSH_PAUSE_MAX_NS. */
#define PUSH_PAUSE_MAX_NS (600 * NS_PER_S)
int push_pause(struct push *p, unsigned attempt, const struct err *why, struct err *err);
/* True if it may pass: the line, the server, or too many requests. */
static inline bool push_may_pass(const struct err *why)
{
	return why->code == ERR_UNAVAILABLE || why->code == ERR_EXHAUSTED;
}

/* Is the blob there? */
int push_head(struct push *p, const char *digest, bool *present, struct err *err);

/* An upload under way. */
struct session {
	char *location;      /* of the next step; NULL: not begun */
	uint64_t kept_bytes; /* that the registry has */
	uint64_t piece_min;  /* that all PATCHes but the last must have; 0: any */
};
void session_fini(struct session *u);
/* Starts one, or mounts `digest` from another repository (both may be NULL): mounted leaves it without a location. */
int session_open(struct push *p, const char *digest, const char *from, struct session *u, struct err *err);
/* A PATCH that carries on at kept_bytes: given a body, then run, then reported here. */
struct step *session_patch(const struct push *p, const struct session *u, uint64_t bytes, struct waiter *w);
void session_patched(struct session *u, struct waiter *w, uint64_t bytes);
/* Asks how far a broken one has come, if not beyond `most`. ERR_NOT_FOUND when the registry has dropped it. */
int session_ask(struct push *p, uint64_t most, struct session *u, struct err *err);
/* A PUT that ends it as this blob; a body may be given. */
struct step *session_put(const struct push *p, const struct session *u, const char *digest, struct waiter *w);
/* Tells the registry to forget it. */
int session_drop(struct push *p, struct session *u, struct err *err);

/* push.c: reg_manifest_push; *keeps_referrers says whether the registry does (OCI-Subject); may be NULL. */
int manifest_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str bytes,
                  struct str media_type, int64_t deadline_ns, struct reg_canceller *canceller, bool *keeps_referrers,
                  struct err *err);

#endif
