/* Everything else that a registry, a token server or a credential helper may say. */
#include "registry/auth.h"
#include "registry/http.h"
#include "registry/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Texts for messages are printable and bounded, whatever came in. */
static void check_text(const struct buf *b, size_t max)
{
	if (b->n > max)
		__builtin_trap();
	for (size_t i = 0; i < b->n; i++)
		if ((unsigned char)b->p[i] < 0x20 || b->p[i] == 0x7f)
			__builtin_trap();
}

/* Where a server sends us is an http URL without user information, and resolves to itself. */
static void check_location(const char *base, struct str location)
{
	AUTO(url_origin) struct url_origin o = {0};
	AUTO_FREE char *url = NULL;
	AUTO_FREE char *again = NULL;

	if (url_resolve(base, location, &url, NULL) < 0)
		return;
	if (url_origin_of(url, &o, NULL) < 0 || !url_same_origin(url, url) || strpbrk(url, " #\r\n\t\x7f"))
		__builtin_trap();
	if (memchr(strstr(url, "://") + 3, '@', strcspn(strstr(url, "://") + 3, "/?")))
		__builtin_trap();
	if (url_resolve(NULL, str_of(url), &again, NULL) < 0 || strcmp(url, again) != 0)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(reg_challenges) struct reg_challenges challenges = REG_CHALLENGES_INIT;
	AUTO(reg_credentials) struct reg_credentials a = REG_CREDENTIALS_INIT;
	AUTO(reg_credentials) struct reg_credentials b = REG_CREDENTIALS_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(buf) struct buf url = BUF_INIT;
	AUTO_FREE char *helper = NULL;
	AUTO_FREE char *server = NULL;
	struct str s = str_make(data, n), name, value;
	struct http_content_range range;
	struct http_token token;

	http_content_range_parse(s, &range);
	http_retry_after_s(s, 1000);
	if (http_link_next(s, &value) && (value.p < s.p || value.p + value.n > s.p + s.n))
		__builtin_trap();
	http_header_split(s, &name, &value);
	http_status_parse(s);
	http_bare_type(s);
	http_error_text(s, &text);
	check_text(&text, HTTP_ERROR_TEXT_MAX + 3);
	http_printable_url(s, &url);
	check_text(&url, 400);
	check_location(NULL, s);
	check_location("https://registry.example:5000/v2/some/image/blobs/uploads/", s);
	if (http_token_parse(s, &token, NULL) == 0)
		free(token.value);
	reg_challenges_parse(&challenges, s);
	reg_challenges_parse(&challenges, s);
	reg_challenges_choose(&challenges);
	reg_docker_config_parse(s, STR("docker.io"), &a, &helper, &server, NULL);
	reg_helper_answer_parse(s, &b, NULL);
	return 0;
}
