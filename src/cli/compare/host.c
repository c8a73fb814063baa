/*
 * The machine and the versions of what is compared, for the head of the results.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/compare/compare.h"
#include "base/version.h"
#include "engine/engine.h"

bool program_exists(const char *name)
{
    const char *path = getenv("PATH");
    char file[512];
    while (path && *path) {
        size_t len = strcspn(path, ":");
        snprintf(file, sizeof(file), "%.*s/%s", (int)len, path, name);
        if (access(file, X_OK) == 0)
            return true;
        path += len + (path[len] != 0);
    }
    return false;
}

double host_load_average(void)
{
    double load;
    return getloadavg(&load, 1) == 1 ? load : NAN;
}

/* The value of the first "NAME : VALUE" line, or "". */
static void cpuinfo(const char *name, char *value, size_t size)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "r");
    value[0] = 0;
    while (f && !value[0] && fgets(line, sizeof(line), f)) {
        char *colon = strstr(line, ": ");
        if (strncmp(line, name, strlen(name)) == 0 && colon)
            snprintf(value, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    }
    if (f)
        fclose(f);
}

json_t *host_describe(void)
{
    char model[256], flags[8192];
    struct utsname u;
    struct error why = {""};
    uname(&u);
    cpuinfo("model name", model, sizeof(model));
    cpuinfo("flags", flags, sizeof(flags));
    bool kvm = engine_kvm.probe(&why) >= 0;
    return json_pack("{s:s, s:i, s:s, s:b, s:s}", "cpu", model, "cpus",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "kernel", u.release, "virtual",
                     strstr(flags, " hypervisor") != NULL, "kvm", kvm ? "works" : why.text);
}

static void take_first(void *arg, const char *line, double seconds)
{
    (void)seconds;
    char *text = arg;
    if (!text[0])
        snprintf(text, 128, "%.127s", line);
}

/* The first line that a program prints, or "". */
static void first_line(char *const argv[], char text[128])
{
    struct child c = {.argv = argv, .limit = 10, .line = take_first, .arg = text, .signals = -1};
    text[0] = 0;
    child_run(&c, NULL);
}

/* The Debian package that a kernel came with; scripts/fetch leaves a link. */
static void add_kernel(const struct compare_settings *s, json_t *versions, const char *guest)
{
    char link[512], target[512];
    snprintf(link, sizeof(link), "%s/kernel-%s", s->guest_dir, guest);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0)
        return;
    target[n] = 0;
    const char *slash = strrchr(target, '/');
    json_object_set_new(versions, guest, json_string(slash ? slash + 1 : target));
}

json_t *versions_describe(const struct compare_settings *s)
{
    char text[128];
    json_t *versions = json_object();
    first_line((char *[]){(char *)s->ringer, "--version", NULL}, text);
    json_object_set_new(versions, "ringer", json_string(text[0] ? text : RINGER_VERSION));
    if (program_exists("qemu-system-x86_64")) {
        first_line((char *[]){"qemu-system-x86_64", "--version", NULL}, text);
        json_object_set_new(versions, "qemu", json_string(text));
    }
    add_kernel(s, versions, "amd64");
    add_kernel(s, versions, "686");
    return versions;
}
