/*
 * --screenshot: pictures of the guest's screen at given times of the run, and at its end. One that
 * can't be written does not end the run; it is told when the run has ended.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "vm/machine.h"

u64 screenshots_next(const struct vm *vm)
{
    const struct settings *s = vm->settings;
    if (vm->screenshots_taken >= s->nscreenshots)
        return ~0ULL;
    double at = s->screenshots[vm->screenshots_taken].at_seconds;
    return at == 0 || at > 1e9 ? ~0ULL : (u64)(at * 1e9);
}

static void take(struct vm *vm, const struct screenshot *shot)
{
    struct display_source source = pc_display(vm->pc);
    struct error err = {""};
    char *path = strndup(shot->path, shot->path_len);
    int rc = path ? screenshot_write(&source, path, &err)
                  : error_set(&err, ENOMEM, "no memory for a screenshot");
    if (rc < 0 && !vm->screenshot_error.text[0])
        vm->screenshot_error = err;
    free(path);
}

void screenshots_take(struct vm *vm)
{
    take(vm, &vm->settings->screenshots[vm->screenshots_taken++]);
}

int screenshots_finish(struct vm *vm, struct error *err)
{
    const struct settings *s = vm->settings;
    for (; vm->screenshots_taken < s->nscreenshots; vm->screenshots_taken++) {
        const struct screenshot *shot = &s->screenshots[vm->screenshots_taken];
        if (shot->at_seconds == 0)
            take(vm, shot);
        else
            log_warn("--screenshot %.*s@%g: the run ended before", (int)shot->path_len, shot->path,
                     shot->at_seconds);
    }
    if (!vm->screenshot_error.text[0])
        return 0;
    *err = vm->screenshot_error;
    return -EIO;
}
