#include "registry/url.h"

#include <curl/curl.h>

static inline void curl_url_auto(CURLU **u)
{
	curl_url_cleanup(*u);
}
#define AUTO_CURLU __attribute__((cleanup(curl_url_auto)))
static inline void curl_text_auto(char **s)
{
	curl_free(*s);
}
#define AUTO_CURL_TEXT __attribute__((cleanup(curl_text_auto)))

void url_origin_fini(struct url_origin *o)
{
	free(o->origin);
	free(o->authority);
	*o = (struct url_origin){0};
}

/* Parses and checks what every URL of ours must satisfy. */
static int parse(CURLU *u, const char *base, const char *text, struct err *err)
{
	AUTO_CURL_TEXT char *scheme = NULL;
	AUTO_CURL_TEXT char *user = NULL;
	CURLUcode rc = CURLUE_OK;

	if (base)
		rc = curl_url_set(u, CURLUPART_URL, base, 0);
	if (rc == CURLUE_OK)
		rc = curl_url_set(u, CURLUPART_URL, text, 0);
	if (rc == CURLUE_OK)
		rc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
	if (rc != CURLUE_OK)
		return err_set(err, ERR_INVALID, "not a valid URL: %s", curl_url_strerror(rc));
	if (strcmp(scheme, "http") && strcmp(scheme, "https"))
		return err_set(err, ERR_INVALID, "URL is neither http nor https");
	if (curl_url_get(u, CURLUPART_USER, &user, 0) != CURLUE_NO_USER)
		return err_set(err, ERR_INVALID, "URL with user information");
	return 0;
}

int url_origin_of(const char *url, struct url_origin *out, struct err *err)
{
	AUTO_CURLU CURLU *u = curl_url();
	AUTO_CURL_TEXT char *scheme = NULL;
	AUTO_CURL_TEXT char *host = NULL;
	AUTO_CURL_TEXT char *port = NULL;
	AUTO_CURL_TEXT char *own_port = NULL;

	*out = (struct url_origin){0};
	TRY(parse(u, NULL, url, err));
	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) || curl_url_get(u, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
		return err_set(err, ERR_INVALID, "URL without a host");
	if (curl_url_get(u, CURLUPART_PORT, &own_port, CURLU_NO_DEFAULT_PORT))
		own_port = NULL;
	for (char *c = host; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c |= 0x20;
	out->tls = !strcmp(scheme, "https");
	out->origin = xasprintf("%s://%s:%s", scheme, host, port);
	out->authority = own_port ? xasprintf("%s:%s", host, own_port) : xstrdup(host);
	return 0;
}

bool url_same_origin(const char *a, const char *b)
{
	AUTO(url_origin) struct url_origin x = {0};
	AUTO(url_origin) struct url_origin y = {0};

	return url_origin_of(a, &x, NULL) == 0 && url_origin_of(b, &y, NULL) == 0 && !strcmp(x.origin, y.origin);
}

int url_resolve(const char *base, struct str location, char **out, struct err *err)
{
	AUTO_CURLU CURLU *u = curl_url();
	AUTO_FREE char *text = NULL;
	AUTO_CURL_TEXT char *url = NULL;

	if (!location.n || location.n > URL_BYTES_MAX)
		return err_set(err, ERR_INVALID, "URL of %zu bytes", location.n);
	for (size_t i = 0; i < location.n; i++)
		if ((unsigned char)location.p[i] <= ' ' || location.p[i] == 0x7f)
			return err_set(err, ERR_INVALID, "URL with blanks or control characters");
	text = str_dup(location);
	if (!text)
		return err_set(err, ERR_EXHAUSTED, "out of memory");
	TRY(parse(u, base, text, err));
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_get(u, CURLUPART_URL, &url, 0))
		return err_set(err, ERR_INVALID, "not a valid URL");
	*out = xstrdup(url);
	return 0;
}
