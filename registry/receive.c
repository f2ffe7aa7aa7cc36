/*
 * What curl delivers while a request is on the wire: header lines, body, and the bytes of an upload that it asks for.
 * Nothing here ends a request; it leaves behind what request_on_end() decides by.
 */
#include "base/file.h"
#include "registry/internal.h"

#define LOCATION_HEADER_MAX URL_BYTES_MAX

void response_fini(struct response *p)
{
	free(p->location);
	free(p->content_type);
	free(p->next);
	reg_challenges_fini(&p->challenges);
	*p = (struct response){0};
}

static void take_header(struct response *p, struct str name, struct str value)
{
	struct str url;

	if (str_ieq(name, STR("location"))) {
		free(p->location);
		p->location = value.n <= LOCATION_HEADER_MAX ? str_dup(value) : NULL;
	} else if (str_ieq(name, STR("content-type"))) {
		value = http_bare_type(value);
		free(p->content_type);
		p->content_type = value.n <= REG_MEDIA_TYPE_MAX ? str_dup(value) : NULL;
	} else if (str_ieq(name, STR("content-length"))) {
		p->has_length = str_u64(value, 10, &p->length) && p->length <= INT64_MAX;
	} else if (str_ieq(name, STR("content-range"))) {
		p->has_content_range = http_content_range_parse(value, &p->content_range);
	} else if (str_ieq(name, STR("range"))) {
		p->kept_bytes = http_upload_range_parse(value);
	} else if (str_ieq(name, STR("oci-chunk-min-length"))) {
		str_u64(value, 10, &p->piece_min);
	} else if (str_ieq(name, STR("oci-subject"))) {
		p->has_subject = true;
	} else if (str_ieq(name, STR("link")) && http_link_next(value, &url)) {
		free(p->next);
		p->next = url.n <= LOCATION_HEADER_MAX ? str_dup(url) : NULL;
	} else if (str_ieq(name, STR("retry-after"))) {
		p->retry_after_s = http_retry_after_s(value, clock_wall().tv_sec);
	} else if (str_ieq(name, STR("www-authenticate"))) {
		reg_challenges_parse(&p->challenges, value);
	}
}

/* The header of the final response is complete. False aborts the transfer. */
static bool header_complete(struct reg_request *r)
{
	int64_t now = clock_mono_ns();

	r->response.complete = true;
	r->body_start_ns = r->body_end_ns = now;
	r->body_start_bytes = r->host->bytes;
	if (!request_succeeds(r))
		return true;
	buf_clear(&r->body);
	if (!r->ops->body && r->response.has_length && strcmp(r->method, "HEAD") && r->response.length > r->body_max) {
		err_set(&r->last, ERR_EXHAUSTED, "answer of %llu bytes, more than %zu",
		        (unsigned long long)r->response.length, r->body_max);
		r->refused = true;
	} else if (r->ops->accept && r->ops->accept(r, &r->last) < 0) {
		r->refused = true;
	}
	return !r->refused;
}

size_t request_on_header(char *p, size_t one, size_t n, void *arg)
{
	struct reg_request *r = arg;
	struct str line = {p, n}, name, value;
	int status = http_status_parse(line);

	r->progress_ns = clock_mono_ns();
	if (status) {
		if (!r->answer_ns) {
			r->answer_ns = r->progress_ns;
			request_arm(r);
		}
		response_fini(&r->response);
		r->response.status = status;
	} else if (r->response.complete) {
		return n; /* a trailer */
	} else if (str_trim(line).n == 0) {
		if (r->response.status >= 200 && !header_complete(r))
			return 0;
	} else if (http_header_split(line, &name, &value)) {
		take_header(&r->response, name, value);
	}
	return n;
}

/* A document begins anew with each attempt: what came of one is no progress. */
static size_t gather(struct reg_request *r, struct str bytes)
{
	if (r->body.n + bytes.n > r->body_max) {
		err_set(&r->last, ERR_EXHAUSTED, "answer of more than %zu bytes", r->body_max);
		r->refused = true;
		return 0;
	}
	buf_addstr(&r->body, bytes);
	return bytes.n;
}

static size_t deliver(struct reg_request *r, struct str bytes)
{
	struct err err = ERR_INIT;

	switch (r->ops->body(r, bytes, &err)) {
	case REG_FLOW_PAUSE:
		r->paused = r->was_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	case REG_FLOW_STOP:
		if (err.code) {
			r->last = err;
			r->refused = true;
		} else {
			r->stopped = true;
		}
		return 0;
	case REG_FLOW_MORE:
		break;
	}
	r->progressed = true;
	return bytes.n;
}

static void count_body(struct reg_request *r, size_t n)
{
	COUNT(r->client, bytes_in, n);
	if (!r->elsewhere)
		r->host->bytes += n;
	r->body_end_ns = clock_mono_ns();
	r->attempt_bytes += n;
	r->unnoted_bytes += n;
	if (r->unnoted_bytes < REQUEST_SLOW_BYTES)
		return;
	r->unnoted_bytes = 0;
	r->progress_ns = r->body_end_ns;
}

size_t request_on_body(char *p, size_t one, size_t n, void *arg)
{
	struct reg_request *r = arg;
	struct str bytes = {p, n};
	size_t taken = n;

	if (n == 0)
		return 0;
	if (!request_succeeds(r)) {
		size_t room = HTTP_ERROR_BODY_MAX - r->error_body.n;

		/* Enough to say what is wrong; a page beyond that is not worth its transfer. */
		buf_add(&r->error_body, p, n < room ? n : room);
		taken = n <= room ? n : 0;
	} else if (r->ops->body) {
		taken = deliver(r, bytes);
	} else {
		taken = gather(r, bytes);
	}
	if (taken != CURL_WRITEFUNC_PAUSE)
		count_body(r, n);
	return taken;
}

size_t request_on_upload(char *p, size_t one, size_t n, void *arg)
{
	struct reg_request *r = arg;
	uint64_t left = r->upload_size - r->uploaded;
	size_t want = left < n ? (size_t)left : n;

	if (r->upload_fd < 0) {
		memcpy(p, r->upload_bytes.p + r->uploaded, want);
	} else if (want &&
	           fd_pread_all(r->upload_fd, p, want, r->upload_fd_offset + (off_t)r->uploaded, &r->last) < 0) {
		r->refused = true;
		return CURL_READFUNC_ABORT;
	}
	r->uploaded += want;
	r->progress_ns = clock_mono_ns();
	COUNT(r->client, bytes_out, want);
	if (r->upload_progress)
		r->upload_progress(r->upload_arg, r->upload_base + r->uploaded);
	return want;
}

int request_on_seek(void *arg, curl_off_t offset, int origin)
{
	struct reg_request *r = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > r->upload_size)
		return CURL_SEEKFUNC_FAIL;
	r->uploaded = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}
