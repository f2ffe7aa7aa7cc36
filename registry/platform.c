/* Platforms and the choice of an image from an index. */
#include "registry/manifest.h"

static struct str canonical_architecture(struct str a)
{
	if (str_ieq(a, STR("x86_64")) || str_ieq(a, STR("x86-64")))
		return STR("amd64");
	if (str_ieq(a, STR("aarch64")))
		return STR("arm64");
	if (str_ieq(a, STR("armhf")) || str_ieq(a, STR("armv7l")))
		return STR("arm");
	if (str_ieq(a, STR("i386")) || str_ieq(a, STR("i686")))
		return STR("386");
	return a;
}

int reg_platform_parse(struct str text, struct reg_platform *out, struct err *err)
{
	struct str rest = text, part[3] = {STR_NONE, STR_NONE, STR_NONE}, head;
	unsigned n = 0;

	memset(out, 0, sizeof(*out));
	while (str_split(&rest, '/', &head)) {
		if (n == ARRAY_LEN(part) || head.n == 0 || head.n > 64)
			return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not os/architecture[/variant]",
			               STR_ARG(text));
		part[n++] = head;
	}
	if (n < 2)
		return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not os/architecture[/variant]", STR_ARG(text));
	out->os = part[0];
	out->architecture = canonical_architecture(part[1]);
	out->variant = part[2];
	return 0;
}

struct reg_platform reg_platform_host(void)
{
	/* Static text, so that the views outlive the call; every machine this code is built for is in the list. */
#if defined(__x86_64__)
	struct str architecture = STR("amd64");
#elif defined(__aarch64__)
	struct str architecture = STR("arm64");
#else
#error "teach reg_platform_host this architecture"
#endif
	return (struct reg_platform){.os = STR("linux"), .architecture = architecture};
}

/* Variants as levels of which a machine runs its own and all lower ones: "v8" -> 80, "v8.2" -> 82. -1 = unknown. */
static int variant_level(struct str architecture, struct str variant)
{
	uint64_t major, minor = 0;
	ptrdiff_t dot;

	if (variant.n == 0) {
		if (str_eqc(architecture, "arm64"))
			return 80;
		return str_eqc(architecture, "arm") ? 70 : 10;
	}
	if (variant.p[0] == 'v')
		variant = str_sub(variant, 1, SIZE_MAX);
	dot = str_find(variant, '.');
	if (dot >= 0) {
		if (!str_u64(str_sub(variant, (size_t)dot + 1, SIZE_MAX), 10, &minor) || minor > 9)
			return -1;
		variant.n = (size_t)dot;
	}
	if (!str_u64(variant, 10, &major) || major > 99)
		return -1;
	return (int)(major * 10 + minor);
}

int reg_platform_fit(const struct reg_platform *have, const struct reg_platform *want)
{
	struct str architecture = canonical_architecture(want->architecture);
	int have_level, want_level;

	if (!str_ieq(have->os, want->os) || !str_ieq(canonical_architecture(have->architecture), architecture))
		return -1;
	have_level = variant_level(architecture, have->variant);
	want_level = variant_level(architecture, want->variant);
	if (have_level < 0 || want_level < 0) /* e.g. amd64 sub-architectures with names of their own */
		return str_ieq(have->variant, want->variant) ? 0 : -1;
	return have_level <= want_level ? have_level : -1;
}

static bool is_attestation(const struct reg_descriptor *d)
{
	return (d->has_platform && str_eqc(d->platform.os, "unknown") &&
	        str_eqc(d->platform.architecture, "unknown")) ||
	       str_eqc(reg_annotation_get(d->annotations, d->n_annotations, STR("vnd.docker.reference.type")),
	               "attestation-manifest");
}

static bool is_image(const struct reg_descriptor *d)
{
	return (str_eqc(d->media_type, REG_MT_OCI_MANIFEST) || str_eqc(d->media_type, REG_MT_DOCKER_MANIFEST)) &&
	       d->artifact_type.n == 0 && !is_attestation(d);
}

static int no_match(const struct reg_manifest *index, const struct reg_platform *want, struct err *err)
{
	AUTO(buf) struct buf have = BUF_INIT;

	for (size_t i = 0; i < index->n_entries && have.n < 400; i++) {
		const struct reg_descriptor *d = &index->entries[i];
		const struct reg_platform *p = &d->platform;

		if (!d->has_platform || !(is_image(d) || reg_media_is_index(d->media_type)))
			continue;
		buf_addf(&have, "%s" STR_FMT "/" STR_FMT, have.n ? ", " : "", STR_ARG(str_sub(p->os, 0, 32)),
		         STR_ARG(str_sub(p->architecture, 0, 32)));
		if (p->variant.n)
			buf_addf(&have, "/" STR_FMT, STR_ARG(str_sub(p->variant, 0, 32)));
	}
	for (size_t i = 0; i < have.n; i++)
		if ((unsigned char)have.p[i] < 0x20 || (unsigned char)have.p[i] > 0x7e)
			have.p[i] = '?';
	return err_set(err, ERR_NOT_FOUND, "no image for " STR_FMT "/" STR_FMT "%s" STR_FMT " (there is: %s)",
	               STR_ARG(want->os), STR_ARG(want->architecture), want->variant.n ? "/" : "",
	               STR_ARG(want->variant), have.n ? buf_cstr(&have) : "none with a platform");
}

int reg_index_choose(const struct reg_manifest *index, const struct reg_platform *want,
                     const struct reg_descriptor **out, struct err *err)
{
	const struct reg_descriptor *best = NULL, *nested = NULL, *anonymous = NULL;
	unsigned n_anonymous = 0;
	int best_fit = -1;

	for (size_t i = 0; i < index->n_entries; i++) {
		const struct reg_descriptor *d = &index->entries[i];
		int fit = d->has_platform ? reg_platform_fit(&d->platform, want) : -1;

		if (reg_media_is_index(d->media_type)) {
			if (!nested && (!d->has_platform || fit >= 0))
				nested = d;
		} else if (!is_image(d)) {
			continue;
		} else if (!d->has_platform) {
			anonymous = d;
			n_anonymous++;
		} else if (fit > best_fit) {
			best_fit = fit;
			best = d;
		}
	}
	*out = best ? best : nested ? nested : n_anonymous == 1 ? anonymous : NULL;
	return *out ? 0 : no_match(index, want, err);
}
