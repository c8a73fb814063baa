/*
 * The script's typist. All scripts become one list of strokes, ordered by the time at which they
 * may begin; a timer of the guest's clock presses and releases them one by one.
 */
#include "host/keys.h"

#include <errno.h>
#include <stdlib.h>

#define STROKE_KEYS 5 /* held at once */
#define SECONDS_MAX 1e6

struct stroke {
    u64 time; /* not before */
    unsigned count;
    u16 key[STROKE_KEYS];
};

struct key_typist {
    struct clock *clock;
    struct timer *timer;
    struct input_sink sink;
    struct stroke *stroke;
    unsigned count, next;
    bool held; /* stroke[next] is down */
};

/* --- from text to strokes --- */

static int stroke_of_char(const char *script, char c, struct stroke *s, struct error *err)
{
    bool shift;
    unsigned key = keymap_char((unsigned char)c, &shift);
    if (!key)
        return error_set(err, EINVAL, "--keys %s: no key of a US keyboard types byte %#x", script,
                         (unsigned char)c);
    if (shift)
        s->key[s->count++] = (u16)keymap_name("shift", 5);
    s->key[s->count++] = (u16)key;
    return 0;
}

/* What is between < and >: names with hyphens between. */
static int stroke_of_names(const char *script, const char *name, size_t len, struct stroke *s,
                           struct error *err)
{
    const char *end = name + len;
    if (len == 2 && memcmp(name, "lt", 2) == 0)
        return stroke_of_char(script, '<', s, err);
    for (;;) {
        const char *hyphen = memchr(name, '-', (size_t)(end - name));
        size_t n = (size_t)((hyphen ? hyphen : end) - name);
        unsigned key = keymap_name(name, n);
        if (!key)
            return error_set(err, EINVAL,
                             "--keys %s: no key is named '%.*s'; names are as in <ret>, <f12>, "
                             "<ctrl-alt-delete>",
                             script, (int)n, name);
        if (s->count == STROKE_KEYS)
            return error_set(err, EINVAL, "--keys %s: at most %d keys at once", script,
                             STROKE_KEYS);
        s->key[s->count++] = (u16)key;
        if (!hyphen)
            return 0;
        name = hyphen + 1;
    }
}

/* The stroke at **text, which moves behind it. */
static int next_stroke(const char *script, const char **text, const char *end, struct stroke *s,
                       struct error *err)
{
    const char *p = *text;
    s->count = 0;
    if (*p != '<') {
        *text = p + 1;
        return stroke_of_char(script, *p, s, err);
    }
    const char *close = memchr(p, '>', (size_t)(end - p));
    if (!close)
        return error_set(err, EINVAL,
                         "--keys %s: '<' begins a key's name, which '>' ends; <lt> "
                         "types '<'",
                         script);
    *text = close + 1;
    return stroke_of_names(script, p + 1, (size_t)(close - p - 1), s, err);
}

int keys_check(const char *script, double *seconds, struct error *err)
{
    const char *at = strrchr(script, '@'), *text = script;
    struct stroke s;
    char *end;
    if (!at || at == script)
        return error_set(err, EINVAL, "--keys %s: takes TEXT@SECONDS, for example 'root<ret>@2.5'",
                         script);
    *seconds = strtod(at + 1, &end);
    if (end == at + 1 || *end || !(*seconds >= 0 && *seconds <= SECONDS_MAX))
        return error_set(err, EINVAL, "--keys %s: '%s' is not a number of seconds, 0 or more",
                         script, at + 1);
    while (text < at) {
        int rc = next_stroke(script, &text, at, &s, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- typing --- */

static void type_stroke(struct key_typist *t)
{
    const struct stroke *s = &t->stroke[t->next];
    for (unsigned i = 0; i < s->count; i++) {
        unsigned n = t->held ? s->count - 1 - i : i;
        t->sink.key(t->sink.ctx, s->key[n], !t->held);
    }
}

static void typist_timer(void *ctx)
{
    struct key_typist *t = ctx;
    u64 next = clock_now(t->clock) + KEYS_PACE_NS;
    type_stroke(t);
    t->held = !t->held;
    if (!t->held && ++t->next == t->count)
        return;
    timer_arm(t->timer, t->held ? next : MAX(next, t->stroke[t->next].time));
}

/* Those of one script, behind the ones with the same time or an earlier one. */
static void insert(struct key_typist *t, const char *script, u64 second_ns)
{
    double seconds;
    const char *at = strrchr(script, '@'), *text = script;
    struct stroke s;
    if (keys_check(script, &seconds, NULL) < 0)
        return;
    s.time = (u64)(seconds * (double)second_ns);
    unsigned place = t->count;
    while (place && t->stroke[place - 1].time > s.time)
        place--;
    while (text < at && next_stroke(script, &text, at, &s, NULL) == 0) {
        memmove(&t->stroke[place + 1], &t->stroke[place], (t->count - place) * sizeof(s));
        t->stroke[place++] = s;
        t->count++;
    }
}

int key_typist_create(struct clock *clock, struct input_sink sink, const char *const *scripts,
                      unsigned count, u64 second_ns, struct key_typist **out, struct error *err)
{
    struct key_typist *t = calloc(1, sizeof(*t));
    size_t length = 1;
    for (unsigned i = 0; i < count; i++)
        length += strlen(scripts[i]);
    if (t) {
        t->stroke = calloc(length, sizeof(*t->stroke));
        t->timer = timer_create_on(clock, typist_timer, t);
    }
    if (!t || !t->stroke || !t->timer) {
        key_typist_destroy(t);
        return error_set(err, ENOMEM, "no memory for --keys");
    }
    t->clock = clock;
    t->sink = sink;
    for (unsigned i = 0; i < count; i++)
        insert(t, scripts[i], second_ns);
    if (t->count)
        timer_arm(t->timer, t->stroke[0].time);
    *out = t;
    return 0;
}

void key_typist_destroy(struct key_typist *t)
{
    if (!t)
        return;
    if (t->timer)
        timer_destroy(t->timer);
    free(t->stroke);
    free(t);
}
