#include "bench/netproxy/proxy.h"

#include "base/clock.h"
#include "bench/netproxy/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>

#define MARKS_MAX 256
#define EARLY_SHARE 50
#define EARLY_MAX_NS (100 * NS_PER_US)
#define MOMENTS_MAX (1u << 17) /* 5 MB */

int address_parse(const char *text, struct address *out, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
	struct str host = str_of(text);
	ptrdiff_t colon = str_rfind(host, ':');
	AUTO_FREE char *name = NULL;
	struct addrinfo *found = NULL;
	uint64_t port;
	int r;

	if (colon <= 0 || !str_u64(str_sub(host, (size_t)colon + 1, SIZE_MAX), 10, &port) || port > 65535)
		return err_set(err, ERR_INVALID, "'%s' is not HOST:PORT", text);
	host.n = (size_t)colon;
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = str_sub(host, 1, host.n - 2);
	name = xstrndup(host.p, host.n);
	r = getaddrinfo(name, text + colon + 1, &hints, &found);
	if (r)
		return err_set(err, ERR_INVALID, "'%s': %s", text, gai_strerror(r));
	if (found->ai_addrlen > sizeof(out->v6)) {
		freeaddrinfo(found);
		return err_set(err, ERR_INVALID, "'%s': not an internet address", text);
	}
	memcpy(&out->any, found->ai_addr, found->ai_addrlen);
	out->n = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/* Keeps the counters as they are now. */
static void note(struct proxy *p, int64_t now_ns)
{
	history_note(&p->history, &(struct moment){
				      .time_ns = now_ns,
				      .to_server_bytes = p->to_server.bytes,
				      .to_client_bytes = p->to_client.bytes,
				      .connections = p->counters.connections,
				      .requests = p->counters.requests,
				  });
}

static void on_accept(void *arg, uint32_t events)
{
	struct proxy *p = arg;

	for (;;) {
		int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		if (p->down)
			socket_reset(fd);
		else
			conn_start(p, fd);
	}
	note(p, clock_mono_ns());
}

static void on_timer(void *arg)
{
	struct proxy *p = arg;

	while (clock_mono_ns() < p->next_ns)
		;
	proxy_run(p);
}

static int listen_on(struct proxy *p, const struct address *listen_at, struct err *err)
{
	struct address bound = {.n = sizeof(bound.v6)};
	const int one = 1;

	p->listen_fd = socket(listen_at->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->listen_fd < 0)
		return err_errno(err, errno, "socket");
	setsockopt(p->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(p->listen_fd, &listen_at->any, listen_at->n) || listen(p->listen_fd, 1024))
		return err_errno(err, errno, "cannot listen");
	if (getsockname(p->listen_fd, &bound.any, &bound.n))
		return err_errno(err, errno, "getsockname");
	p->port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
	return 0;
}

int proxy_init(struct proxy *p, struct loop *loop, const struct address *listen, const struct address *server,
               struct err *err)
{
	*p = (struct proxy){.loop = loop, .server = *server, .listen_fd = -1, .reset_ns = clock_mono_ns()};
	history_init(&p->history, MOMENTS_MAX, p->reset_ns);
	TRY(listen_on(p, listen, err));
	TRY(loop_io_new(loop, p->listen_fd, EPOLLIN, on_accept, p, &p->listen_io, err));
	TRY(loop_timer_new(loop, on_timer, p, &p->timer, err));
	return 0;
}

static void marks_clear(struct proxy *p)
{
	vec_each(&p->marks, m)
		free(m->name);
	vec_clear(&p->marks);
}

void proxy_fini(struct proxy *p)
{
	conn_reset_all(p);
	loop_io_free(p->listen_io);
	loop_timer_free(p->timer);
	if (p->listen_fd >= 0)
		close(p->listen_fd);
	marks_clear(p);
	vec_fini(&p->marks);
	history_fini(&p->history);
	trips_fini(&p->trips);
	records_fini(&p->records);
	fault_rules_fini(&p->faults);
}

void proxy_set_network(struct proxy *p, int64_t rtt_ns, double mbit)
{
	p->rtt_ns = rtt_ns;
	p->mbit = mbit;
	link_set(&p->to_server, mbit, rtt_ns / 2);
	link_set(&p->to_client, mbit, rtt_ns - rtt_ns / 2);
}

/* A processor that has slept for long wakes late, and finds its caches cold: the longer the wait, the earlier we get up
 * for it, by a fiftieth, and wait for the rest awake. */
static int64_t wake_up_ns(int64_t due_ns, int64_t now_ns)
{
	int64_t early = (due_ns - now_ns) / EARLY_SHARE;

	return due_ns - (early < EARLY_MAX_NS ? early : EARLY_MAX_NS);
}

void proxy_run(struct proxy *p)
{
	int64_t now = clock_mono_ns();
	/* Requests that arrive may be answered by the proxy itself, so their direction goes first. */
	int64_t next = link_run(&p->to_server, now);
	int64_t other = link_run(&p->to_client, now);

	note(p, now);
	p->next_ns = next < other ? next : other;
	loop_timer_set(p->timer, p->next_ns == INT64_MAX ? INT64_MAX : wake_up_ns(p->next_ns, now));
}

void proxy_set_down(struct proxy *p, enum proxy_down how)
{
	p->down = how == PROXY_RESET;
	p->to_server.frozen = p->to_client.frozen = how == PROXY_SILENT;
	if (p->down)
		conn_reset_all(p);
	proxy_run(p);
}

void proxy_reset_counters(struct proxy *p)
{
	p->counters = (struct counters){0};
	p->to_server.bytes = p->to_client.bytes = 0;
	p->reset_ns = clock_mono_ns();
	marks_clear(p);
	history_reset(&p->history, p->reset_ns);
	trips_reset(&p->trips);
	records_clear(&p->records);
	fault_rules_rewind(&p->faults);
}

static struct mark snapshot(const struct proxy *p)
{
	int64_t now = clock_mono_ns();

	return (struct mark){
	    .time_ns = now,
	    .to_server_bytes = p->to_server.bytes,
	    .to_client_bytes = p->to_client.bytes,
	    .round_trips = trips_at(&p->trips, now),
	    .counters = p->counters,
	};
}

int proxy_mark(struct proxy *p, struct str name, struct err *err)
{
	struct mark m = snapshot(p);

	if (p->marks.n >= MARKS_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d marks; 'reset' forgets them", MARKS_MAX);
	m.name = xstrndup(name.p, name.n);
	vec_push(&p->marks, m);
	return 0;
}

static void write_counters(const struct mark *m, struct json_writer *w)
{
	static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

	json_w_ki64(w, "time_ns", m->time_ns);
	json_w_ki64(w, "to_server_bytes", (int64_t)m->to_server_bytes);
	json_w_ki64(w, "to_client_bytes", (int64_t)m->to_client_bytes);
	json_w_ki64(w, "connections", (int64_t)m->counters.connections);
	json_w_ki64(w, "requests", (int64_t)m->counters.requests);
	json_w_ki64(w, "round_trips", (int64_t)m->round_trips);
	json_w_ki64(w, "body_bytes", (int64_t)m->counters.body_bytes);
	json_w_ki64(w, "faults", (int64_t)m->counters.faults);
	json_w_key(w, "responses");
	json_w_object_begin(w);
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		json_w_ki64(w, classes[i], (int64_t)m->counters.status[i]);
	json_w_object_end(w);
}

void proxy_write_stats(const struct proxy *p, struct json_writer *w)
{
	struct mark now = snapshot(p);

	json_w_object_begin(w);
	write_counters(&now, w);
	json_w_ki64(w, "open", (int64_t)p->n_open);
	json_w_key(w, "rtt_ms");
	json_w_double(w, (double)p->rtt_ns / NS_PER_MS);
	json_w_key(w, "mbit");
	json_w_double(w, p->mbit);
	json_w_kcstr(w, "state", p->down ? "reset" : p->to_server.frozen ? "silent" : "up");
	json_w_key(w, "fault_rules");
	fault_rules_write(&p->faults, w);
	json_w_key(w, "marks");
	json_w_array_begin(w);
	vec_each(&p->marks, m) {
		json_w_object_begin(w);
		json_w_kcstr(w, "name", m->name);
		write_counters(m, w);
		json_w_object_end(w);
	}
	json_w_array_end(w);
	json_w_object_end(w);
}

void proxy_write_at(const struct proxy *p, const int64_t *times_ns, size_t count, struct json_writer *w)
{
	json_w_object_begin(w);
	json_w_key(w, "at");
	json_w_array_begin(w);
	for (size_t i = 0; i < count; i++) {
		struct moment m = history_at(&p->history, times_ns[i]);

		json_w_object_begin(w);
		json_w_ki64(w, "time_ns", m.time_ns);
		json_w_ki64(w, "to_server_bytes", (int64_t)m.to_server_bytes);
		json_w_ki64(w, "to_client_bytes", (int64_t)m.to_client_bytes);
		json_w_ki64(w, "connections", (int64_t)m.connections);
		json_w_ki64(w, "requests", (int64_t)m.requests);
		json_w_ki64(w, "round_trips", trips_at(&p->trips, m.time_ns));
		json_w_object_end(w);
	}
	json_w_array_end(w);
	json_w_object_end(w);
}
