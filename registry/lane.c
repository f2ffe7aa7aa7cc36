/*
 * Lanes: one curl multi each, driven by the client's event loop, with a queue per origin in front of it.
 *
 * curl would queue by itself (CURLMOPT_MAX_HOST_CONNECTIONS), but then a request waiting for a connection cannot be told
 * from one whose server is silent; so no more is handed to curl than it can put on the wire at once.
 */
#include "registry/internal.h"

#define HTTP2_STREAMS 64   /* at once on one connection; servers allow 100 or more (RFC 9113, 6.5.2) */
#define HTTP2_ERRORS_MAX 3 /* then the origin gets HTTP/1.1 for good */
#define ORIGINS_MAX 256    /* beyond it idle ones are forgotten */
#define IDLE_CONNECTION_S 240L
#define DEMAND_BUFFER (64L << 10)
#define BULK_BUFFER (256L << 10)

static void drive(struct lane *l, curl_socket_t fd, int events);

/* One watched socket. */
struct watch {
	struct lane *lane;
	curl_socket_t fd;
	struct loop_io *io;
};

static void on_io(void *arg, uint32_t events)
{
	struct watch *w = arg;
	int bits = 0;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP))
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		bits |= CURL_CSELECT_ERR;
	drive(w->lane, w->fd, bits);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock_arg)
{
	struct lane *l = arg;
	struct watch *w = sock_arg;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

	if (what == CURL_POLL_REMOVE) {
		if (w) {
			loop_io_free(w->io);
			free(w);
			curl_multi_assign(l->multi, fd, NULL);
		}
		return 0;
	}
	if (w) {
		loop_io_set(w->io, events);
		return 0;
	}
	w = xcalloc(1, sizeof(*w));
	*w = (struct watch){.lane = l, .fd = fd};
	if (loop_io_new(l->client->loop, fd, events, on_io, w, &w->io, NULL) < 0) {
		free(w);
		return -1;
	}
	curl_multi_assign(l->multi, fd, w);
	return 0;
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
	struct lane *l = arg;

	loop_timer_set(l->timer, timeout_ms < 0 ? INT64_MAX : clock_mono_ns() + timeout_ms * NS_PER_MS);
	return 0;
}

static void on_timer(void *arg)
{
	drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

int lane_init(struct lane *l, struct reg_client *c, enum reg_lane which, unsigned connections, struct err *err)
{
	l->client = c;
	l->which = which;
	l->connections = connections;
	l->multi = curl_multi_init();
	if (!l->multi)
		return err_set(err, ERR_EXHAUSTED, "out of memory");
	TRY(loop_timer_new(c->loop, on_timer, l, &l->timer, err));
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, 64L);
	return 0;
}

void lane_fini(struct lane *l)
{
	size_t at = 0;
	struct str key;
	void *value;

	if (l->multi)
		curl_multi_cleanup(l->multi); /* closes connections, unwatching their sockets */
	if (l->timer)
		loop_timer_free(l->timer);
	while (map_next(&l->origins, &at, &key, &value)) {
		struct origin *o = value;

		free(o->name);
		free(o);
	}
	map_fini(&l->origins);
}

/* Redirects name as many origins as they like: what is idle is forgotten when there are many. */
static void drop_idle_origins(struct lane *l)
{
	size_t at = 0;
	struct str key;
	void *value;

	while (map_next(&l->origins, &at, &key, &value)) {
		struct origin *o = value;

		if (o->active || o->pins || !link_alone(&o->queue))
			continue;
		map_del(&l->origins, key);
		free(o->name);
		free(o);
	}
}

static struct origin *origin_get(struct lane *l, const char *name)
{
	struct origin *o = map_get(&l->origins, str_of(name));

	if (!o) {
		if (l->origins.n >= ORIGINS_MAX)
			drop_idle_origins(l);
		o = xcalloc(1, sizeof(*o));
		o->name = xstrdup(name);
		link_init(&o->queue);
		map_put(&l->origins, str_of(name), o);
	}
	return o;
}

/* Header lines of the attempt. Authorization is there already, if any. */
static void add_headers(struct reg_request *r)
{
	r->header_list = curl_slist_append(r->header_list, "Accept-Encoding: identity");
	request_endpoint_headers(r, &r->header_list);
	if (r->ops->headers)
		r->ops->headers(r, &r->header_list);
	if (r->upload)
		r->header_list = curl_slist_append(r->header_list, "Expect:"); /* no round trip for 100 Continue */
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->header_list);
}

static void set_method(struct reg_request *r)
{
	CURL *e = r->easy;

	if (!strcmp(r->method, "HEAD")) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	} else if (!strcmp(r->method, "POST")) {
		curl_easy_setopt(e, CURLOPT_POST, 1L);
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, r->form ?: "");
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(r->form ? strlen(r->form) : 0));
	} else if (r->upload) { /* PUT, PATCH */
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		if (!strcmp(r->method, "PATCH"))
			curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "PATCH");
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->upload_size);
		curl_easy_setopt(e, CURLOPT_READFUNCTION, request_on_upload);
		curl_easy_setopt(e, CURLOPT_READDATA, r);
		curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, request_on_seek);
		curl_easy_setopt(e, CURLOPT_SEEKDATA, r);
		curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
	} else {
		curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
		if (!strcmp(r->method, "DELETE"))
			curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE");
	}
}

static void set_connection(struct lane *l, struct reg_request *r, const struct url_origin *where,
                           const struct contact *k)
{
	CURL *e = r->easy;
	bool http2 = where->tls && l->which == REG_DEMAND && !k->http1 && !r->origin->http1_only;

	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_PIPEWAIT, http2 ? 1L : 0L);
	/* With Debian's default CApath set every connection would parse the whole bundle (40 ms); without it curl keeps
	 * the parsed one. */
	curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	if (k->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, k->ca_file);
	if (k->cert_file)
		curl_easy_setopt(e, CURLOPT_SSLCERT, k->cert_file);
	if (k->key_file)
		curl_easy_setopt(e, CURLOPT_SSLKEY, k->key_file);
	if (k->skip_verify) {
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (reg_host_is_loopback(str_of(where->authority)))
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_SHARE, l->client->share);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, l->which == REG_DEMAND ? DEMAND_BUFFER : BULK_BUFFER);
	curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, r->fresh ? 1L : 0L);
	r->fresh = false;
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(l->client->answer_ns / NS_PER_MS));
}

static void set_callbacks(struct reg_request *r)
{
	CURL *e = r->easy;

	curl_easy_setopt(e, CURLOPT_PRIVATE, r);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->curl_error);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, request_on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, request_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
}

static int start(struct lane *l, struct reg_request *r, struct err *err)
{
	AUTO(url_origin) struct url_origin where = {0};
	struct contact k;

	TRY(url_origin_of(r->target, &where, err));
	r->easy = client_easy_take(l->client);
	if (!r->easy)
		return err_set(err, ERR_EXHAUSTED, "out of memory");
	curl_easy_setopt(r->easy, CURLOPT_URL, r->target);
	curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(r->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(r->easy, CURLOPT_USERAGENT, l->client->user_agent);
	request_contact(r, r->foreign, where.authority, &k);
	set_connection(l, r, &where, &k);
	contact_fini(&k);
	set_method(r);
	set_callbacks(r);
	add_headers(r);

	r->curl_error[0] = '\0';
	r->start_ns = r->progress_ns = clock_mono_ns();
	r->answer_ns = 0;
	r->failing_ns = r->attempts ? r->failing_ns : r->start_ns;
	r->state = REQUEST_RUNNING;
	r->origin->active++;
	COUNT(l->client, requests, 1);
	curl_multi_add_handle(l->multi, r->easy);
	return 0;
}

/* What may be on the wire at once. While it is not known whether the server speaks HTTP/2, curl makes the later ones
 * wait for the first connection's answer (PIPEWAIT). */
static unsigned origin_limit(const struct lane *l, const struct origin *o)
{
	return o->http2 && !o->http1_only ? HTTP2_STREAMS : l->connections;
}

static void start_queued(struct lane *l, struct origin *o)
{
	o->pins++;
	while (!link_alone(&o->queue) && o->active < origin_limit(l, o)) {
		struct reg_request *r = CONTAINER_OF(o->queue.next, struct reg_request, queue_link);

		link_remove(&r->queue_link);
		if (start(l, r, &r->last) < 0)
			request_finish(r, -(int)r->last.code);
	}
	o->pins--;
}

int lane_submit(struct reg_request *r, struct err *err)
{
	struct lane *l = &r->client->lanes[r->lane];
	AUTO(url_origin) struct url_origin where = {0};

	TRY(url_origin_of(r->target, &where, err));
	r->origin = origin_get(l, where.origin);
	if (r->origin->active < origin_limit(l, r->origin) && link_alone(&r->origin->queue))
		return start(l, r, err);
	r->state = REQUEST_QUEUED;
	link_append(&r->origin->queue, &r->queue_link);
	return 0;
}

/* All streams of a bad connection fail together: they count once. */
static void count_http2_error(struct lane *l, struct origin *o)
{
	int64_t now = clock_mono_ns();

	if (o->http2_errors && now - o->http2_error_ns < l->client->stall_ns)
		return;
	o->http2_error_ns = now;
	if (++o->http2_errors == HTTP2_ERRORS_MAX)
		o->http1_only = true;
}

/* Learns from a handle that has ended. */
static void learn(struct lane *l, struct reg_request *r, CURLcode code)
{
	long connects = 0, version = 0;
	curl_off_t named = 0, connected = 0;

	curl_easy_getinfo(r->easy, CURLINFO_NUM_CONNECTS, &connects);
	curl_easy_getinfo(r->easy, CURLINFO_HTTP_VERSION, &version);
	if (connects > 0) {
		COUNT(l->client, connections, (uint64_t)connects);
		curl_easy_getinfo(r->easy, CURLINFO_NAMELOOKUP_TIME_T, &named);
		curl_easy_getinfo(r->easy, CURLINFO_CONNECT_TIME_T, &connected);
		if (!r->elsewhere)
			host_sample_rtt(l->client, r->host, (connected - named) * NS_PER_US);
	}
	/* By our own clock: curl's begins after the request was written, too late when many are started in one go, and the
	 * least of the samples is what counts. */
	r->rtt_ns = connects == 0 && r->answer_ns && !r->upload ? r->answer_ns - r->start_ns : 0;
	if (!r->elsewhere)
		host_sample_rtt(l->client, r->host, r->rtt_ns);
	if (version == CURL_HTTP_VERSION_2_0)
		r->origin->http2 = true;
	else if (version == CURL_HTTP_VERSION_1_1 || version == CURL_HTTP_VERSION_1_0)
		r->origin->http2 = false;
	if (code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM)
		count_http2_error(l, r->origin);
}

void lane_drop_headers(struct reg_request *r)
{
	for (struct curl_slist *h = r->header_list; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(r->header_list);
	r->header_list = NULL;
}

/* Takes the handle off the multi and lets the next one of the origin go. */
static void detach(struct lane *l, struct reg_request *r)
{
	curl_multi_remove_handle(l->multi, r->easy);
	client_easy_give(l->client, r->easy);
	r->easy = NULL;
	lane_drop_headers(r);
	r->origin->active--;
}

void lane_remove(struct reg_request *r, bool kill)
{
	struct lane *l = &r->client->lanes[r->lane];

	if (r->state == REQUEST_QUEUED)
		link_remove(&r->queue_link);
	if (r->state != REQUEST_RUNNING)
		return;
	if (kill) {
		curl_easy_setopt(r->easy, CURLOPT_FORBID_REUSE, 1L);
		if (r->origin->http2)
			count_http2_error(l, r->origin);
	}
	learn(l, r, CURLE_OK);
	r->state = REQUEST_NEW;
	detach(l, r);
	start_queued(l, r->origin);
}

/* The transfer of r is over; r may be gone afterwards. */
static void ended(struct lane *l, struct reg_request *r, CURLcode code)
{
	struct origin *o = r->origin;

	learn(l, r, code);
	r->state = REQUEST_NEW;
	o->pins++;
	detach(l, r);
	request_on_end(r, code);
	start_queued(l, o);
	o->pins--;
}

void lane_resume(struct reg_request *r)
{
	struct lane *l = &r->client->lanes[r->lane];
	CURLcode code;

	r->paused = false;
	r->progress_ns = clock_mono_ns();
	code = curl_easy_pause(r->easy, CURLPAUSE_CONT);
	/* It delivers what curl had kept; a callback that stops there ends no transfer, it only shows here. */
	if (code != CURLE_OK)
		ended(l, r, code);
	else
		drive(l, CURL_SOCKET_TIMEOUT, 0);
}

static void drive(struct lane *l, curl_socket_t fd, int events)
{
	int running, left;
	CURLMsg *m;

	curl_multi_socket_action(l->multi, fd, events, &running);
	while ((m = curl_multi_info_read(l->multi, &left))) {
		struct reg_request *r = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &r);
		ended(l, r, m->data.result);
	}
}
