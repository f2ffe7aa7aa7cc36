#include "rpc/h2_peer.h"

#include "rpc/h2.h"

int h2_peer_connect(struct h2_env *env, pid_t pid, struct h2_peer **out, struct err *err)
{
	struct h2_peer *p = env->peers;

	while (p && p->pid != pid)
		p = p->next;
	if (p && p->n_conns >= env->peer_conns_max)
		return err_set(err, ERR_EXHAUSTED, "process %d has %u connections", (int)pid, p->n_conns);
	if (!p) {
		p = xcalloc(1, sizeof(*p));
		p->pid = pid;
		p->next = env->peers;
		env->peers = p;
	}
	p->n_conns++;
	*out = h2_peer_ref(p);
	return 0;
}

void h2_peer_disconnect(struct h2_env *env, struct h2_peer *p)
{
	struct h2_peer **at = &env->peers;

	if (--p->n_conns == 0) {
		while (*at != p)
			at = &(*at)->next;
		*at = p->next;
	}
	h2_peer_unref(p);
}

struct h2_peer *h2_peer_ref(struct h2_peer *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void h2_peer_unref(struct h2_peer *p)
{
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		free(p);
}
