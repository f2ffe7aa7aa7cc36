#include "bench/coldbench/net/accuracy.h"

#include "base/clock.h"
#include "bench/coldbench/net/net.h"
#include "bench/coldbench/net/payload.h"
#include "bench/coldbench/stats.h"
#include "bench/coldbench/verb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>

#define TOGETHER 16
#define CONNECTIONS_MAX 8
#define REPETITIONS 5
#define BUFFER_BYTES (256u << 10)
#define TIMEOUT_MS 20000

static const double RTTS_MS[] = {0.5, 1, 10, 50};
static const double RATES_MBIT[] = {100, 1000, 0};
static const unsigned CONNECTIONS[] = {1, CONNECTIONS_MAX};

void accuracy_fini(struct accuracy *a)
{
	vec_fini(&a->delays);
	vec_fini(&a->rates);
}

/* --- a client that costs little --- */

static int dial(unsigned port, int *out, struct err *err)
{
	const struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int one = 1;
	AUTO_FD int fd = -1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)))
		return err_errno(err, errno, "connect to port %u", port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*out = STEAL_FD(fd);
	return 0;
}

/* Requests over one connection, and what comes back. */
struct call {
	int fd;
	struct str head;          /* to send first */
	uint64_t to_send, to_get; /* bytes of the body after it, and of all answers */
};

static const char zeros[BUFFER_BYTES];

static int call_failed(struct err *err)
{
	return errno ? err_errno(err, errno, "a connection through netproxy")
	             : err_set(err, ERR_UNAVAILABLE, "netproxy ended a connection");
}

static int call_send(struct call *c, struct err *err)
{
	bool head = c->head.n > 0;
	struct str out = head ? c->head : str_make(zeros, c->to_send < sizeof(zeros) ? c->to_send : sizeof(zeros));
	ssize_t put = send(c->fd, out.p, out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (put < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : call_failed(err);
	if (head)
		c->head = str_sub(c->head, (size_t)put, SIZE_MAX);
	else
		c->to_send -= (uint64_t)put;
	return 0;
}

static int call_receive(struct call *c, char *buffer, struct err *err)
{
	ssize_t got = recv(c->fd, buffer, c->to_get < BUFFER_BYTES ? c->to_get : BUFFER_BYTES, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		errno = got ? errno : 0;
		return call_failed(err);
	}
	c->to_get -= (uint64_t)got;
	return 0;
}

/* Carries all of them out at once; *ms = how long that took. */
static int calls_run(struct call *calls, unsigned n, double *ms, struct err *err)
{
	AUTO_FREE char *buffer = xmalloc(BUFFER_BYTES);
	struct pollfd polls[CONNECTIONS_MAX];
	int64_t begin = clock_mono_ns();

	for (;;) {
		unsigned left = 0;

		for (unsigned i = 0; i < n; i++) {
			bool sends = calls[i].head.n || calls[i].to_send;

			polls[i] = (struct pollfd){.fd = calls[i].to_get ? calls[i].fd : -1,
			                           .events = (short)(POLLIN | (sends ? POLLOUT : 0))};
			left += calls[i].to_get > 0;
		}
		if (!left)
			break;
		if (poll(polls, n, TIMEOUT_MS) <= 0)
			return err_set(err, ERR_DEADLINE, "netproxy lets nothing pass");
		for (unsigned i = 0; i < n; i++) {
			if (polls[i].revents & POLLOUT)
				TRY(call_send(&calls[i], err));
			if (polls[i].revents & ~POLLOUT)
				TRY(call_receive(&calls[i], buffer, err));
		}
	}
	*ms = (double)(clock_mono_ns() - begin) / NS_PER_MS;
	return 0;
}

/* --- delays --- */

/* `count` GETs of one byte at once. */
static int ping(int fd, unsigned count, double *ms, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct call c = {.fd = fd, .to_get = count * payload_answer_bytes(1)};

	for (unsigned i = 0; i < count; i++)
		buf_adds(&text, "GET /1 HTTP/1.1\r\n\r\n");
	c.head = buf_str(&text);
	return calls_run(&c, 1, ms, err);
}

/* Connects and asks. */
static int open_ping(unsigned port, double *ms, struct err *err)
{
	int64_t begin = clock_mono_ns();
	AUTO_FD int fd = -1;

	TRY(dial(port, &fd, err));
	TRY(ping(fd, 1, ms, err));
	*ms = (double)(clock_mono_ns() - begin) / NS_PER_MS;
	return 0;
}

/* Medians and 95th percentiles of each kind of exchange. */
struct exchange_times {
	double median_ms, p95_ms, open_median_ms, open_p95_ms, together_ms;
};

static void pause_for(double ms)
{
	const struct timespec t = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(fmod(ms, 1e3) * NS_PER_MS)};

	if (ms > 0)
		nanosleep(&t, NULL);
}

/* Exchanges with what listens on the port, a pause before each. */
static int time_exchanges(unsigned port, double pause_ms, unsigned count, int cancel_fd, struct exchange_times *out,
                          struct err *err)
{
	AUTO_FREE double *warm = xcalloc(count, sizeof(*warm));
	AUTO_FREE double *fresh = xcalloc(count, sizeof(*fresh));
	double together[REPETITIONS];
	struct summary s;
	AUTO_FD int fd = -1;

	TRY(dial(port, &fd, err));
	TRY(ping(fd, 1, &warm[0], err)); /* waits for the connection to be set up */
	for (unsigned i = 0; i < count; i++) {
		TRY(verb_check(cancel_fd, err));
		pause_for(pause_ms);
		TRY(ping(fd, 1, &warm[i], err));
	}
	for (unsigned i = 0; i < count; i++) {
		TRY(verb_check(cancel_fd, err));
		pause_for(pause_ms);
		TRY(open_ping(port, &fresh[i], err));
	}
	for (unsigned i = 0; i < REPETITIONS; i++) {
		TRY(verb_check(cancel_fd, err));
		pause_for(pause_ms);
		TRY(ping(fd, TOGETHER, &together[i], err));
	}
	stats_summary(warm, count, 1, &s);
	out->median_ms = s.median;
	out->p95_ms = s.p95;
	stats_summary(fresh, count, 1, &s);
	out->open_median_ms = s.median;
	out->open_p95_ms = s.p95;
	stats_summary(together, REPETITIONS, 1, &s);
	out->together_ms = s.median;
	return 0;
}

static int measure_delay(struct net *n, const struct payload *server, double rtt_ms, double share, int cancel_fd,
                         struct accuracy_delay *out, struct err *err)
{
	unsigned count = (unsigned)ceil(share * (rtt_ms <= 1 ? 200 : rtt_ms <= 10 ? 100 : 40));
	struct exchange_times through, direct;

	TRY(net_set(n, rtt_ms, 0, err));
	TRY(time_exchanges(net_port(n), 0, count, cancel_fd, &through, err));
	/* As long without anything to do as when the network is between. */
	TRY(time_exchanges(payload_port(server), rtt_ms, count, cancel_fd, &direct, err));
	*out = (struct accuracy_delay){
	    .rtt_ms = rtt_ms,
	    .n = count,
	    .direct_ms = direct.median_ms,
	    .open_direct_ms = direct.open_median_ms,
	    .median_ms = through.median_ms - direct.median_ms - rtt_ms,
	    .p95_ms = through.p95_ms - direct.median_ms - rtt_ms,
	    .open_median_ms = through.open_median_ms - direct.open_median_ms - 2 * rtt_ms,
	    .open_p95_ms = through.open_p95_ms - direct.open_median_ms - 2 * rtt_ms,
	    .together_ms = through.together_ms - direct.together_ms - rtt_ms,
	};
	return 0;
}

/* --- bandwidth --- */

#define RATE_RTT_MS 1.0

/* Half a second's bytes; without a limit as many as with the promised rate. */
static uint64_t bytes_for(double mbit, double share)
{
	return (uint64_t)(share * (mbit > 0 ? mbit : ACCURACY_UNLIMITED_MBIT) * 1e6 / 8 / 2);
}

/* Mbit/s of one transfer over all connections together, the round trip of the request taken off. */
static int transfer(const int *fds, const struct accuracy_rate *r, uint64_t each, double rtt_ms, double *mbit,
                    struct err *err)
{
	AUTO_FREE char *head = NULL;
	struct call calls[CONNECTIONS_MAX];
	double ms;

	head = r->upload ? xasprintf("PUT / HTTP/1.1\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)each)
	                 : xasprintf("GET /%llu HTTP/1.1\r\n\r\n", (unsigned long long)each);
	for (unsigned i = 0; i < r->connections; i++)
		calls[i] = (struct call){.fd = fds[i],
		                         .head = str_of(head),
		                         .to_send = r->upload ? each : 0,
		                         .to_get = payload_answer_bytes(r->upload ? 0 : each)};
	TRY(calls_run(calls, r->connections, &ms, err));
	*mbit = (double)each * r->connections * 8e-3 / (ms - rtt_ms);
	return 0;
}

static int measure_rate(struct net *n, double share, int cancel_fd, struct accuracy_rate *r, struct err *err)
{
	uint64_t each = bytes_for(r->mbit, share) / r->connections;
	double rtt_ms = r->mbit > 0 ? RATE_RTT_MS : 0;
	double got[REPETITIONS];
	int fds[CONNECTIONS_MAX];
	struct summary s;
	unsigned opened;
	int ret = net_set(n, rtt_ms, r->mbit, err);

	for (opened = 0; ret >= 0 && opened < r->connections; opened++) {
		double ms;

		ret = dial(net_port(n), &fds[opened], err);
		if (ret < 0)
			break;
		ret = ping(fds[opened], 1, &ms, err);
	}
	for (unsigned i = 0; ret >= 0 && i < REPETITIONS; i++) {
		ret = verb_check(cancel_fd, err);
		if (ret >= 0)
			ret = transfer(fds, r, each, rtt_ms, &got[i], err);
	}
	while (opened)
		close(fds[--opened]);
	TRY(ret);
	stats_summary(got, REPETITIONS, 1, &s);
	r->got_mbit = s.median;
	r->error = r->mbit > 0 ? s.median / r->mbit - 1 : 0;
	return 0;
}

/* --- all --- */

static int measure_rates(struct net *n, double mbit, double share, int cancel_fd, struct accuracy *out, struct err *err)
{
	for (unsigned i = 0; i < 2 * ARRAY_LEN(CONNECTIONS); i++) {
		struct accuracy_rate *r = vec_add(&out->rates);

		*r = (struct accuracy_rate){.mbit = mbit, .connections = CONNECTIONS[i / 2], .upload = i % 2};
		TRY(measure_rate(n, share, cancel_fd, r, err));
	}
	return 0;
}

int accuracy_measure(const char *dir, double share, int cancel_fd, struct accuracy *out, struct err *err)
{
	AUTO(payload) struct payload *server = NULL;
	AUTO(net) struct net *n = NULL;

	TRY(payload_start(&server, err));
	TRY(net_start(payload_address(server), 0, 0, dir, &n, err));
	for (size_t i = 0; i < ARRAY_LEN(RTTS_MS); i++)
		TRY(measure_delay(n, server, RTTS_MS[i], share, cancel_fd, vec_add(&out->delays), err));
	for (size_t i = 0; i < ARRAY_LEN(RATES_MBIT); i++)
		TRY(measure_rates(n, RATES_MBIT[i], share, cancel_fd, out, err));
	return 0;
}
