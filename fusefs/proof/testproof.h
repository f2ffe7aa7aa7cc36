/*
 * For tests of the proof: lazy layers held against their image, in the data plane. They are made of real tars, cut into
 * members as eStargz does. On top of testdata.h; what fails ends the test.
 */
#ifndef FUSEFS_PROOF_TESTPROOF_H
#define FUSEFS_PROOF_TESTPROOF_H

#include "estargz/tar/split.h"
#include "fusefs/testdata.h"

/* ---- layers ---- */

struct made {
	enum esgz_compression compression;
	struct buf tar;
	VEC(size_t) cuts; /* of the tar: where members begin */
	uint64_t offset;  /* of the first of them in the blob */
	struct digest diff_id;
	struct esgz_split_writer *split;
	bool with_split; /* its blob has the tar-split */
	size_t cut;      /* bytes that its blob lacks at the end of the tar */
	struct test_layer l;
};

void made_init(struct made *m, enum esgz_compression compression);
/* An entry of the tar alone. */
void made_add_tar(struct made *m, char type, const char *path, unsigned mode, struct str content);
/* A file of tar and TOC, in chunks of CHUNK, of random bytes; `toc_mode` is what the TOC says. */
void made_add_file(struct made *m, const char *path, unsigned mode, unsigned toc_mode, size_t size, unsigned seed);
/* Files of one chunk, of several, and an empty one, between directories. */
void made_add_sample(struct made *m);
/* The sample's directories for the TOC. */
void made_add_sample_dirs(struct made *m);
/* Makes blob and index, and has the source deliver it. */
void made_ready(struct fixture *f, struct made *m);
/* All of these: a layer that is the sample. */
void made_sample(struct fixture *f, struct made *m, enum esgz_compression compression);
/* The end of a test. */
void made_fini(struct fixture *f, struct made *m);

/* ---- what is done with them ---- */

void fill_all(struct fixture *f, struct made *m);
/* As if the worker had been started anew. */
void reopen(struct fixture *f);
/* Filled, but nobody has promised a DiffID: its gaps are on disk. Their bytes. */
off_t filled_unproven(struct fixture *f, struct made *m);
/* Fills it with its DiffID promised. */
void prove_now(struct fixture *f, struct made *m);

/* ---- looking ---- */

void status_of(struct fixture *f, const struct made *m, struct ffs_layer_status *st);
/* Waits for the verdict; `reason` is a part of what is said. */
void assert_verdict(struct fixture *f, const struct made *m, enum ffs_verdict want, const char *reason);
/* Without the text of the difference. */
struct ffs_facts facts_of(struct fixture *f, const struct made *m);
/* Bytes that the source has delivered. */
uint64_t fetched(struct fixture *f);
/* Opens the file of its gaps, or -1; the caller closes it. */
int gaps_fd(struct fixture *f, const struct made *m, int flags);

#endif
