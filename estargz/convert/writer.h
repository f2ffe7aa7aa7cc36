/* What writers of lazy formats have in common; internal to convert/. */
#ifndef ESTARGZ_WRITER_H
#define ESTARGZ_WRITER_H

#include "estargz/convert/out.h"
#include "estargz/tar/tar.h"

struct writer;

/* Of one format. All but `raw` as in tar.h, with one more call at each end. */
struct writer_ops {
	/* keep: the tar stays as it is; its bytes beside the contents come to `raw`. */
	struct writer *(*new)(struct out *o, bool keep);
	void (*free)(struct writer *w);
	int (*entry)(struct writer *w, const struct esgz_tar_entry *t, struct err *err);
	int (*data)(struct writer *w, struct str bytes, struct err *err);
	int (*end)(struct writer *w, struct err *err);
	int (*raw)(struct writer *w, struct str bytes, struct err *err);
	/* Whatever comes behind the last entry. */
	int (*finish)(struct writer *w, struct esgz_convert_result *r, struct err *err);
};

extern const struct writer_ops WRITER_STARGZ, WRITER_STORAGE;

#endif
