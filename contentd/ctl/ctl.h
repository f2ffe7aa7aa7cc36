/*
 * contentctl: what its verbs share. One file per verb or family of verbs; main.c has the table. A verb parses its own
 * arguments with argp, talks to contentd through one blocking client, and returns the exit status. Single-threaded.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include "base/clock.h"
#include "rpc/client.h"
#include "rpc/pb.h"

#include <argp.h>

#define CTL_EXIT_USAGE 64   /* EX_USAGE of sysexits.h */
#define CTL_EXIT_FAILED 125 /* the tool failed, not the program in the container (as docker and podman do) */
#define CTL_SNAPSHOTTER "overlayfs"

struct ctl {
	const char *program; /* "contentctl" */
	const char *address, *ns;
	bool json;
	bool tty;           /* progress may be drawn on stderr */
	int64_t started_ns; /* CLOCK_MONOTONIC */
	struct rpc_client *client;
	struct arena arena; /* messages of the whole run */
};

struct ctl_verb {
	const char *name, *args, *help;
	int (*run)(struct ctl *c, int argc, char **argv); /* argv[0] is "contentctl VERB" */
};

/* Parses a verb's arguments with its own argp and the options that all verbs share; ends the process on mistakes. */
void ctl_parse(struct ctl *c, const struct argp *verb, unsigned flags, int argc, char **argv, void *input);

/* Connects to the daemon, once. */
int ctl_connect(struct ctl *c, struct err *err);

/* Says what failed on stderr and returns CTL_EXIT_FAILED. */
int ctl_fail(const struct ctl *c, const struct err *err);

/* Complains about the command line and returns CTL_EXIT_USAGE. */
int ctl_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The arguments of a verb that takes one name or more. */
struct ctl_names {
	char **v;
	unsigned n;
};

/* What such a verb's parser does with keys that are not its own; `noun`: of what it asks for when there is none. */
error_t ctl_take_names(int key, struct argp_state *state, struct ctl_names *names, const char *noun);

/* Connects and does it to each, goes on after a failure, and says it. The exit status. */
int ctl_each(struct ctl *c, const struct ctl_names *names, int (*fn)(void *arg, const char *name, struct err *err),
             void *arg);

/* Becomes another program of ours, which gets `verb` (may be NULL) and the arguments: the first of `places`, below the
 * directory of this program, that is there; NULL ends them. Returns the exit status when that failed. */
int ctl_hand_over(struct ctl *c, const char *const *places, const char *verb, int argc, char **argv);

int ctl_pull_verb(struct ctl *c, int argc, char **argv);
int ctl_push_verb(struct ctl *c, int argc, char **argv);
int ctl_tag_verb(struct ctl *c, int argc, char **argv);
int ctl_import_verb(struct ctl *c, int argc, char **argv);
int ctl_export_verb(struct ctl *c, int argc, char **argv);
int ctl_usage_verb(struct ctl *c, int argc, char **argv);
int ctl_mount_verb(struct ctl *c, int argc, char **argv);
int ctl_unmount_verb(struct ctl *c, int argc, char **argv);
int ctl_run_verb(struct ctl *c, int argc, char **argv);
int ctl_images_verb(struct ctl *c, int argc, char **argv);
int ctl_rmi_verb(struct ctl *c, int argc, char **argv);
int ctl_ps_verb(struct ctl *c, int argc, char **argv);
int ctl_exec_verb(struct ctl *c, int argc, char **argv);
int ctl_attach_verb(struct ctl *c, int argc, char **argv);
int ctl_kill_verb(struct ctl *c, int argc, char **argv);
int ctl_pause_verb(struct ctl *c, int argc, char **argv);
int ctl_resume_verb(struct ctl *c, int argc, char **argv);
int ctl_stats_verb(struct ctl *c, int argc, char **argv);
int ctl_update_verb(struct ctl *c, int argc, char **argv);
int ctl_rm_verb(struct ctl *c, int argc, char **argv);
int ctl_logs_verb(struct ctl *c, int argc, char **argv);
int ctl_content_verb(struct ctl *c, int argc, char **argv);
int ctl_convert_verb(struct ctl *c, int argc, char **argv);
int ctl_fsck_verb(struct ctl *c, int argc, char **argv);
int ctl_log_level_verb(struct ctl *c, int argc, char **argv);
int ctl_info_verb(struct ctl *c, int argc, char **argv);
int ctl_df_verb(struct ctl *c, int argc, char **argv);
int ctl_gc_verb(struct ctl *c, int argc, char **argv);
int ctl_why_verb(struct ctl *c, int argc, char **argv);
int ctl_version_verb(struct ctl *c, int argc, char **argv);

#endif
