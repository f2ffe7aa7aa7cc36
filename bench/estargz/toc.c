#include "bench/estargz/bench.h"

#include "base/clock.h"
#include "base/json.h"
#include "estargz/toc/toc.h"

#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

/* A TOC in the shape of ctr-remote's, tab-indented: 1 directory and 1 link in 12 entries, 1 file in 25 of two chunks. */
static void make_toc(unsigned entries, struct buf *out)
{
	static const char *const dirs[] = {"usr/lib/python3/dist-packages", "usr/share/doc", "usr/share/man/man3",
	                                   "usr/lib/x86_64-linux-gnu", "usr/include/c++/12/bits"};
	struct json_writer w;
	uint32_t seed = 1;
	char dir[100] = "etc", path[200], digest[2][DIGEST_TEXT_MAX], time[40];
	uint64_t offset = 1000;

	json_writer_init(&w, out, "\t");
	json_w_object_begin(&w);
	json_w_ki64(&w, "version", 1);
	json_w_key(&w, "entries");
	json_w_array_begin(&w);
	for (unsigned i = 0; i < entries; i++) {
		bool two = i % 25 == 7;
		uint64_t size = two ? 300000 : bench_random(&seed) % 20000 + 1;
		struct digest d;

		digest_of(&i, sizeof(i), &d);
		digest_text(&d, digest[0]);
		digest_of(&d, sizeof(d), &d);
		digest_text(&d, digest[1]);
		time_rfc3339((struct timespec){1600000000 + bench_random(&seed) % 100000000, 0}, time);
		json_w_object_begin(&w);
		if (i % 12 == 0)
			snprintf(dir, sizeof(dir), "%s/package-%u", dirs[bench_random(&seed) % 5], i);
		snprintf(path, sizeof(path), "%s%s", dir, i % 12 == 0 ? "/" : "");
		if (i % 12 != 0)
			snprintf(path, sizeof(path), "%s/module_%u.py", dir, bench_random(&seed) % 1000 * 100000 + i);
		json_w_kcstr(&w, "name", path);
		json_w_kcstr(&w, "type", i % 12 == 0 ? "dir" : i % 12 == 1 ? "symlink" : "reg");
		if (i % 12 > 1)
			json_w_ki64(&w, "size", (int64_t)size);
		json_w_kcstr(&w, "modtime", time);
		if (i % 12 == 1)
			json_w_kcstr(&w, "linkName", "../module.py");
		json_w_ki64(&w, "mode", i % 12 == 0 ? 493 : 420);
		if (i % 12 > 1) {
			json_w_ki64(&w, "offset", (int64_t)offset);
			offset += (two ? 262144 : size) / 3 + 100;
			json_w_kcstr(&w, "digest", digest[0]);
			if (two)
				json_w_ki64(&w, "chunkSize", 262144);
			json_w_kcstr(&w, "chunkDigest", digest[two]);
			if (two) {
				json_w_object_end(&w);
				json_w_object_begin(&w);
				json_w_kcstr(&w, "name", path);
				json_w_kcstr(&w, "type", "chunk");
				json_w_ki64(&w, "offset", (int64_t)offset);
				json_w_ki64(&w, "chunkOffset", 262144);
				json_w_kcstr(&w, "chunkDigest", digest[0]);
				offset += 13000;
			}
		}
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	json_w_object_end(&w);
}

/* Reads every value with its type, as any decoder must; keeps nothing. */
static int read_values(struct json_reader *r, struct err *err)
{
	enum json_type type;
	struct str s;
	int64_t n;
	int more;

	TRY(json_peek(r, &type, err));
	switch (type) {
	case JSON_OBJECT:
		TRY(json_object_begin(r, err));
		while ((more = json_object_next(r, &s, err)) > 0)
			TRY(read_values(r, err));
		return more;
	case JSON_ARRAY:
		TRY(json_array_begin(r, err));
		while ((more = json_array_next(r, err)) > 0)
			TRY(read_values(r, err));
		return more;
	case JSON_STRING:
		return json_string(r, &s, err);
	case JSON_NUMBER:
		return json_i64(r, &n, err);
	default:
		return json_skip(r, err);
	}
}

/* The same by yajl, whose numbers are parsed and whose strings are checked, too: what another program would need. */
static int yajl_value(void *arg)
{
	++*(uint64_t *)arg;
	return 1;
}

static int yajl_bool(void *arg, int v)
{
	return yajl_value(arg);
}

static int yajl_integer(void *arg, long long v)
{
	return yajl_value(arg);
}

static int yajl_text(void *arg, const unsigned char *p, size_t n)
{
	return yajl_value(arg);
}

static int read_by_yajl(const struct buf *json, struct err *err)
{
	static const yajl_callbacks callbacks = {.yajl_null = yajl_value,
	                                         .yajl_boolean = yajl_bool,
	                                         .yajl_integer = yajl_integer,
	                                         .yajl_string = yajl_text,
	                                         .yajl_start_map = yajl_value,
	                                         .yajl_map_key = yajl_text,
	                                         .yajl_end_map = yajl_value,
	                                         .yajl_start_array = yajl_value,
	                                         .yajl_end_array = yajl_value};
	uint64_t values = 0;
	yajl_handle y = yajl_alloc(&callbacks, NULL, &values);
	bool ok = yajl_parse(y, (const unsigned char *)json->p, json->n) == yajl_status_ok &&
	          yajl_complete_parse(y) == yajl_status_ok;

	yajl_free(y);
	return ok ? 0 : err_set(err, ERR_INTERNAL, "yajl does not read the TOC");
}

static void copy_json(struct buf *dst, const struct buf *json)
{
	buf_reserve(dst, json->n + 256);
	buf_addstr(dst, buf_str(json));
}

int bench_toc(const char *arg, struct err *err)
{
	unsigned entries = arg ? (unsigned)atoi(arg) : 100000;
	const uint64_t blob_bytes = 1ull << 40;
	const struct esgz_footer f = {.kind = ESGZ_FOOTER_ESTARGZ,
	                              .footer_bytes = ESGZ_FOOTER_BYTES,
	                              .toc_offset = blob_bytes - 1000000,
	                              .toc_bytes = 900000};
	double hash = 0, scan = 0, yajl = 0, build = 0, open_ms = 0;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	struct esgz_toc_source src = {.footer = &f, .blob = {{1}}, .blob_bytes = blob_bytes};

	make_toc(entries, &json);
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		AUTO(buf) struct buf copy = BUF_INIT;
		AUTO(buf) struct buf copy2 = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = NULL;
		AUTO(json_reader) struct json_reader *r = NULL;
		struct digest d;
		double t;

		t = bench_cpu_ms();
		digest_of(json.p, json.n, &d);
		bench_keep_best(&hash, bench_cpu_ms() - t);
		t = bench_cpu_ms();
		TRY(read_by_yajl(&json, err));
		bench_keep_best(&yajl, bench_cpu_ms() - t);
		copy_json(&copy, &json);
		copy_json(&copy2, &json);
		r = json_reader_new_take(&copy);
		t = bench_cpu_ms();
		if (read_values(r, err) < 0)
			return -1;
		bench_keep_best(&scan, bench_cpu_ms() - t);
		buf_clear(&index);
		t = bench_cpu_ms();
		src.key = d;
		if (esgz_toc_to_index(&src, &copy2, &index, NULL, err) < 0)
			return -1;
		bench_keep_best(&build, bench_cpu_ms() - t);
		t = bench_cpu_ms();
		if (esgz_index_open(buf_str(&index), &ix, err) < 0)
			return -1;
		bench_keep_best(&open_ms, bench_cpu_ms() - t);
	}
	bench_begin("toc");
	bench_count("entries", entries);
	bench_count("json_bytes", json.n);
	bench_value("sha256_ms", hash);
	bench_value("scan_ms", scan);
	bench_value("yajl_ms", yajl);
	bench_value("index_ms", build);
	bench_value("open_ms", open_ms);
	bench_count("index_bytes", index.n);
	bench_value("index_percent", 100.0 * (double)index.n / (double)json.n);
	bench_value("ratio", (hash + build) / (hash + scan));
	bench_value("ratio_yajl", (hash + build) / (hash + yajl));
	bench_end();
	return 0;
}
