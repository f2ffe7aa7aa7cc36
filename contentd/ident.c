#include "contentd/ident.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <assert.h>
#include <stdio.h>

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_ident(struct str s)
{
	bool joined = true; /* the last one was a joint, or there is none yet */

	if (s.n == 0 || s.n > CD_IDENT_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		bool joint = s.p[i] == '.' || s.p[i] == '_' || s.p[i] == '-';

		if ((joint && joined) || (!joint && !is_alnum(s.p[i])))
			return false;
		joined = joint;
	}
	return !joined;
}

int cd_ident_check(const char *what, const char *id, struct err *err)
{
	if (is_ident(str_of(id)))
		return 0;
	if (!*id)
		return err_set(err, ERR_INVALID, "%s must not be empty", what);
	return err_set(err, ERR_INVALID,
	               "%s \"%.80s\" is no identifier: at most %d letters and digits, joined by single . _ or -", what,
	               id, CD_IDENT_MAX);
}

int cd_name_check(const char *what, const char *name, struct err *err)
{
	if (!*name)
		return err_set(err, ERR_INVALID, "%s must not be empty", what);
	if (strlen(name) > CD_NAME_MAX)
		return err_set(err, ERR_INVALID, "%s is longer than %d bytes", what, CD_NAME_MAX);
	return 0;
}

int cd_topic_check(const char *topic, struct err *err)
{
	struct str rest = str_of(topic), part;

	if (!str_skip(&rest, STR("/")))
		return err_set(err, ERR_INVALID, "topic \"%.80s\" must begin with /", topic);
	while (str_split(&rest, '/', &part))
		if (!is_ident(part))
			return err_set(err, ERR_INVALID, "topic \"%.80s\" has a component that is no identifier",
			               topic);
	return 0;
}

int cd_digest_check(const char *digest, struct err *err)
{
	static const struct {
		const char *prefix;
		size_t hex;
	} algorithms[] = {{"sha256:", 64}, {"sha384:", 96}, {"sha512:", 128}};

	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
		struct str hex = str_of(digest);

		if (!str_skip(&hex, str_of(algorithms[i].prefix)) || hex.n != algorithms[i].hex)
			continue;
		for (size_t k = 0; k < hex.n; k++)
			if (!((hex.p[k] >= '0' && hex.p[k] <= '9') || (hex.p[k] >= 'a' && hex.p[k] <= 'f')))
				return err_set(err, ERR_INVALID, "digest \"%.140s\" is not lower-case hex", digest);
		return 0;
	}
	return err_set(err, ERR_INVALID, "\"%.140s\" is no digest of a known algorithm", digest);
}

void cd_chain_id(const char *below, const struct digest *diff_id, char out[static DIGEST_TEXT_MAX])
{
	char text[2 * DIGEST_TEXT_MAX], diff[DIGEST_TEXT_MAX];
	struct digest chain;
	int n;

	digest_text(diff_id, out);
	if (!below || !*below)
		return;
	n = snprintf(text, sizeof(text), "%s %s", below, digest_text(diff_id, diff));
	assert(n < (int)sizeof(text));
	digest_of(text, (size_t)n, &chain);
	digest_text(&chain, out);
}
