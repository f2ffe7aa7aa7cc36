#include "contentd/transfer/progress.h"

#include "registry/manifest.h"

void cd_progress_init(struct cd_progress *p, struct cd_stream *stream)
{
	*p = (struct cd_progress){.stream = stream};
	pthread_mutex_init(&p->lock, NULL);
}

void cd_progress_fini(struct cd_progress *p)
{
	pthread_mutex_destroy(&p->lock);
}

void cd_progress_send(struct cd_progress *p, const Xfer__Progress *m)
{
	if (!p || !p->stream)
		return;
	pthread_mutex_lock(&p->lock);
	if (!p->gone && cd_stream_send(p->stream, &m->base, NULL) < 0)
		p->gone = true;
	pthread_mutex_unlock(&p->lock);
}

void cd_progress_headline(struct cd_progress *p, const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	Xfer__Progress m = XFER__PROGRESS__INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	m.event = buf_cstr(&text);
	cd_progress_send(p, &m);
}

void cd_progress_step(struct cd_progress *p, const char *event, const char *name, const char *parent,
                      const Types__Descriptor *of, int64_t done, int64_t total)
{
	Xfer__Progress m = XFER__PROGRESS__INIT;

	m.event = event;
	m.name = name;
	m.parents = &parent;
	m.n_parents = parent ? 1 : 0;
	m.progress = done;
	m.total = total;
	m.desc = (Types__Descriptor *)of;
	cd_progress_send(p, &m);
}

char *cd_progress_name(const char *media_type, const char *digest)
{
	struct str type = str_of(media_type);
	const char *what = "unknown";

	if (reg_media_is_index(type))
		what = "index";
	else if (str_eqc(type, REG_MT_OCI_MANIFEST) || str_eqc(type, REG_MT_DOCKER_MANIFEST))
		what = "manifest";
	else if (str_eqc(type, REG_MT_OCI_CONFIG) || str_eqc(type, REG_MT_DOCKER_CONFIG))
		what = "config";
	else if (reg_layer_format(type) != REG_LAYER_UNKNOWN)
		what = "layer";
	return xasprintf("%s-%s", what, digest);
}
