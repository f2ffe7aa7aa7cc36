/* The value type of secrets. */
#include "registry/auth.h"

static void secret_free(char **s)
{
	if (*s) {
		explicit_bzero(*s, strlen(*s));
		free(*s);
	}
	*s = NULL;
}

void reg_credentials_fini(struct reg_credentials *c)
{
	secret_free(&c->username);
	secret_free(&c->password);
	secret_free(&c->identity_token);
}

void reg_credentials_copy(struct reg_credentials *dst, const struct reg_credentials *src)
{
	dst->username = src->username ? xstrdup(src->username) : NULL;
	dst->password = src->password ? xstrdup(src->password) : NULL;
	dst->identity_token = src->identity_token ? xstrdup(src->identity_token) : NULL;
}

bool reg_credentials_empty(const struct reg_credentials *c)
{
	return !c || (!c->identity_token && !(c->username && c->password));
}

static bool text_eq(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool reg_credentials_eq(const struct reg_credentials *a, const struct reg_credentials *b)
{
	return text_eq(a->username, b->username) && text_eq(a->password, b->password) &&
	       text_eq(a->identity_token, b->identity_token);
}

int reg_credentials_set(struct reg_credentials *dst, struct str username, struct str secret, struct err *err)
{
	if (username.n > REG_SECRET_MAX || secret.n > REG_SECRET_MAX)
		return err_set(err, ERR_INVALID, "user name or secret longer than %d bytes", REG_SECRET_MAX);
	if (str_find(username, '\0') >= 0 || str_find(secret, '\0') >= 0)
		return err_set(err, ERR_INVALID, "user name or secret with a NUL byte");
	if (!secret.n)
		return err_set(err, ERR_INVALID, "empty password");
	if (!username.n || str_eqc(username, "<token>")) {
		dst->identity_token = xstrndup(secret.p, secret.n);
		return 0;
	}
	dst->username = xstrndup(username.p, username.n);
	dst->password = xstrndup(secret.p, secret.n);
	return 0;
}

int reg_credentials_parse(struct str text, struct reg_credentials *dst, struct err *err)
{
	ptrdiff_t colon = str_find(text, ':');

	if (colon < 0)
		return err_set(err, ERR_INVALID, "credentials are written user:password");
	return reg_credentials_set(dst, str_sub(text, 0, (size_t)colon), str_sub(text, (size_t)colon + 1, SIZE_MAX),
	                           err);
}
