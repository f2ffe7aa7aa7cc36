#include "fusefs/access.h"

void access_fini(struct access *a)
{
	reg_account_unref(a->account);
	a->account = NULL;
}

static int credentials_of(const PB(Access) * from, struct reg_credentials *out, struct err *err)
{
	if (!*from->username && !*from->secret)
		return 0;
	return reg_credentials_set(out, from->identity_token ? STR_NONE : str_of(from->username), str_of(from->secret),
	                           err);
}

int access_take(struct ffs_service *s, const PB(Access) * from, const struct reg_ref *ref, struct access *out,
                struct err *err)
{
	AUTO(reg_account) struct reg_account *before = NULL;
	AUTO(reg_credentials) struct reg_credentials given = REG_CREDENTIALS_INIT;
	char repository[REG_REF_TEXT_MAX];

	*out = (struct access){.owner = ""};
	if (!from)
		return 0;
	if (strlen(from->owner) > FFS_OWNER_MAX)
		return err_set(err, ERR_INVALID, "the name of the owner is too long");
	TRY_WRAP(credentials_of(from, &given, err), err, "credentials for %s", ref->host);
	out->owner = from->owner;
	out->remembered = from->remembered;
	before = ffs_secrets_get(s->w->secrets, from->owner, repository_text(ref, repository));
	if (from->remembered || (before && reg_credentials_eq(reg_account_credentials(before), &given)))
		out->account = STEAL(before);
	else
		out->account = reg_account_new(&given);
	return 0;
}

int access_remember(struct ffs_service *s, const struct access *a, const struct reg_ref *ref, struct err *err)
{
	char repository[REG_REF_TEXT_MAX];

	if (a->remembered)
		return 0;
	return ffs_secrets_set(s->w->secrets, a->owner, repository_text(ref, repository), a->account, err);
}
