/* What the formats are made of, one row each; internal to convert/. */
#ifndef ESTARGZ_FORMAT_H
#define ESTARGZ_FORMAT_H

#include "estargz/convert/convert.h"

struct format {
	const char *name;
	enum esgz_compression compression;
	bool lazy;      /* has a TOC */
	bool stargz;    /* ... of stargz-snapshotter's kind: chunks of one size, landmarks */
	bool may_keep;  /* can keep the source's tar as it is, */
	bool must_keep; /* and always does */
};

const struct format *format_of(enum esgz_format f);

#endif
