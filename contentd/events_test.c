#include "contentd/events.h"

#include "base/clock.h"
#include "rpc/pb.h"
#include "rpc/proto/event.pb-c.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int set_up(void **state)
{
	*state = cd_events_new(0);
	return 0;
}

static int tear_down(void **state)
{
	cd_events_free(*state);
	return 0;
}

static struct cd_subscription *subscribe(struct cd_events *e, const char *filter)
{
	struct cd_subscription *s = NULL;

	assert_int_equal(cd_events_subscribe(e, &filter, filter ? 1 : 0, &s, NULL), 0);
	return s;
}

static void start_task(struct cd_events *e, const char *ns, const char *id)
{
	Event__TaskStart event = EVENT__TASK_START__INIT;

	event.container_id = id;
	cd_events_publish(e, ns, "/tasks/start", &event.base);
}

static void start_kept(struct cd_events *e, const char *ns, const char *id)
{
	Event__TaskStart event = EVENT__TASK_START__INIT;

	event.container_id = id;
	cd_events_publish_kept(e, ns, "/tasks/start", &event.base);
}

/* The next event is a start of that task. */
static void expect_start(struct cd_subscription *s, const char *ns, const char *id)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO(pb) Types__Envelope *m = NULL;
	AUTO(pb) Event__TaskStart *start = NULL;

	assert_int_equal(cd_subscription_next(s, &wire, NULL), 1);
	assert_int_equal(pb_unpack(&types__envelope__descriptor, buf_str(&wire), &m, NULL), 0);
	assert_string_equal(m->namespace_, ns);
	assert_string_equal(m->topic, "/tasks/start");
	assert_string_equal(m->event->type_url, "containerd.events.TaskStart");
	assert_true(m->timestamp->seconds > 0);
	assert_int_equal(pb_unpack(&event__task_start__descriptor, str_make(m->event->value.data, m->event->value.len),
	                           &start, NULL),
	                 0);
	assert_string_equal(start->container_id, id);
}

static void expect_nothing(struct cd_subscription *s)
{
	AUTO(buf) struct buf wire = BUF_INIT;

	cd_subscription_stop(s);
	assert_int_equal(cd_subscription_next(s, &wire, NULL), 0);
}

static void order_and_fan_out(void **state)
{
	AUTO(cd_subscription) struct cd_subscription *late = NULL;
	AUTO(cd_subscription) struct cd_subscription *a = subscribe(*state, NULL);
	AUTO(cd_subscription) struct cd_subscription *b = subscribe(*state, "");

	start_task(*state, "n", "1");
	late = subscribe(*state, NULL);
	start_task(*state, "m", "2");
	expect_start(a, "n", "1");
	expect_start(a, "m", "2");
	expect_start(b, "n", "1");
	expect_start(b, "m", "2");
	expect_start(late, "m", "2");
	expect_nothing(late);
}

/* Once, in their order, before what comes later; what is not to be kept, or no longer, is not. */
static void who_comes_back_hears_what_was_kept(void **state)
{
	AUTO(cd_events) struct cd_events *e = cd_events_new(3600 * NS_PER_S);
	AUTO(cd_subscription) struct cd_subscription *always = subscribe(e, NULL);
	AUTO(cd_subscription) struct cd_subscription *back = NULL;
	AUTO(cd_subscription) struct cd_subscription *other = NULL;
	AUTO(cd_subscription) struct cd_subscription *late = NULL;

	start_kept(e, "moby", "1");
	start_task(e, "moby", "2");
	start_kept(e, "moby", "3");
	back = subscribe(e, "namespace==moby,topic~=|^/tasks/|");
	other = subscribe(e, "namespace==k8s.io");
	start_task(e, "moby", "4");
	expect_start(back, "moby", "1");
	expect_start(back, "moby", "3");
	expect_start(back, "moby", "4");
	expect_nothing(back);
	expect_nothing(other);
	for (int i = 0; i < 4; i++)
		expect_start(always, "moby", (const char *[]){"1", "2", "3", "4"}[i]);
	expect_nothing(always);
	start_kept(*state, "moby", "5"); /* its time to keep is over */
	late = subscribe(*state, NULL);
	expect_nothing(late);
}

static void filters(void **state)
{
	AUTO(cd_subscription) struct cd_subscription *docker = subscribe(*state, "namespace==moby,topic~=|^/tasks/|");
	AUTO(cd_subscription) struct cd_subscription *topic = subscribe(*state, "topic==\"/tasks/exit\"");
	AUTO(cd_subscription) struct cd_subscription *payload = subscribe(*state, "event.container_id==1");
	struct cd_subscription *none = NULL;
	const char *bad = "topic=";

	start_task(*state, "moby", "2");
	start_task(*state, "other", "1");
	expect_start(docker, "moby", "2");
	expect_nothing(docker);
	expect_nothing(topic);
	expect_start(payload, "other", "1");
	expect_nothing(payload);
	assert_int_equal(cd_events_subscribe(*state, &bad, 1, &none, NULL), -ERR_INVALID);
}

static void envelopes_from_outside(void **state)
{
	AUTO(cd_subscription) struct cd_subscription *s = subscribe(*state, "event.id==x");
	Types__Envelope m = TYPES__ENVELOPE__INIT;
	Pb__Timestamp t = PB__TIMESTAMP__INIT;
	Pb__Any any = PB__ANY__INIT;

	assert_int_equal(cd_events_forward(*state, NULL, NULL), -ERR_INVALID);
	m.namespace_ = "n";
	m.topic = "/a";
	assert_int_equal(cd_events_forward(*state, &m, NULL), -ERR_INVALID);
	m.timestamp = &t;
	assert_int_equal(cd_events_forward(*state, &m, NULL), -ERR_INVALID);
	t.nanos = 1;
	assert_int_equal(cd_events_forward(*state, &m, NULL), 0);
	/* A payload that is not what it says, or of a type that nobody knows. */
	m.event = &any;
	any.type_url = "containerd.events.TaskExit";
	any.value = (ProtobufCBinaryData){3, (uint8_t *)"\xff\xff\xff"};
	assert_int_equal(cd_events_forward(*state, &m, NULL), 0);
	any.type_url = "unknown.Type";
	assert_int_equal(cd_events_forward(*state, &m, NULL), 0);
	m.topic = "a";
	assert_int_equal(cd_events_forward(*state, &m, NULL), -ERR_INVALID);
	m.topic = "/a";
	m.namespace_ = "";
	assert_int_equal(cd_events_forward(*state, &m, NULL), -ERR_INVALID);
	expect_nothing(s);
}

static void who_does_not_keep_up_is_dropped(void **state)
{
	AUTO(cd_subscription) struct cd_subscription *slow = subscribe(*state, NULL);
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO_FREE char *id = xcalloc(1 << 20, 1);

	memset(id, 'x', (1 << 20) - 1);
	for (int i = 0; i < 20; i++)
		start_task(*state, "n", id);
	assert_int_equal(cd_subscription_next(slow, &wire, NULL), -ERR_EXHAUSTED);
	assert_int_equal(cd_subscription_next(slow, &wire, NULL), -ERR_EXHAUSTED);
}

static void *publish_many(void *arg)
{
	for (int i = 0; i < 500; i++)
		start_task(arg, "n", "1");
	return NULL;
}

static void a_waiting_subscriber(void **state)
{
	AUTO(cd_subscription) struct cd_subscription *s = subscribe(*state, NULL);
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, publish_many, *state), 0);
	for (int i = 0; i < 1000; i++)
		expect_start(s, "n", "1");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	expect_nothing(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(order_and_fan_out),      TEST(who_comes_back_hears_what_was_kept), TEST(filters),
	    TEST(envelopes_from_outside), TEST(who_does_not_keep_up_is_dropped),    TEST(a_waiting_subscriber)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
