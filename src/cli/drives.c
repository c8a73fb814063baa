/*
 * Parsing of --disk, --cdrom and --floppy. Whether a file is there and can be used shows when vm/
 * opens it.
 */
#include "cli/drives.h"

#include <errno.h>
#include <stdlib.h>

/* What an option takes. */
struct drive_option {
    const char *name;
    const char *takes;    /* the words after the file's name, for the error */
    bool disk, read_only; /* if= and snapshot=; ro */
    const char *plural;
    unsigned max;
};

static const struct drive_option disk_option = {
    .name = "disk",
    .takes = "if=ide, if=virtio, ro, snapshot=on or snapshot=off",
    .disk = true,
    .read_only = true,
    .plural = "disks",
    .max = MAX_DISKS,
};
static const struct drive_option cdrom_option = {
    .name = "cdrom",
    .plural = "CD drives",
    .max = MAX_CDROMS,
};
static const struct drive_option floppy_option = {
    .name = "floppy",
    .takes = "ro",
    .read_only = true,
    .plural = "floppy drives",
    .max = MAX_FLOPPIES,
};

/* Where the name ends: at a comma that is not doubled, or with arg. */
static const char *end_of_name(const char *arg)
{
    while (*arg && (arg[0] != ',' || arg[1] == ','))
        arg += arg[0] == ',' ? 2 : 1;
    return arg;
}

/* The name with its commas single. NULL: no memory. */
static char *copy_name(const char *arg, const char *end)
{
    char *name = malloc((size_t)(end - arg) + 1), *to = name;
    if (!name)
        return NULL;
    while (arg < end) {
        *to++ = *arg;
        arg += arg[0] == ',' ? 2 : 1;
    }
    *to = 0;
    return name;
}

static bool word_is(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}

static bool set_word(const struct drive_option *o, struct disk_settings *d, const char *word,
                     size_t len)
{
    if (o->read_only && word_is(word, len, "ro"))
        d->read_only = true;
    else if (o->disk && word_is(word, len, "if=ide"))
        d->interface = DISK_IDE;
    else if (o->disk && word_is(word, len, "if=virtio"))
        d->interface = DISK_VIRTIO;
    else if (o->disk && word_is(word, len, "snapshot=on"))
        d->snapshot = true;
    else if (o->disk && word_is(word, len, "snapshot=off"))
        d->snapshot = false;
    else
        return false;
    return true;
}

static int parse_words(const struct drive_option *o, struct disk_settings *d, const char *arg,
                       const char *words, struct error *err)
{
    while (*words) {
        const char *word = words + 1;
        size_t len = strcspn(word, ",");
        if (!set_word(o, d, word, len))
            return error_set(err, EINVAL,
                             "--%s %s: '%.*s' is not one of its options%s%s; a comma in the file's "
                             "name is written twice",
                             o->name, arg, (int)len, word,
                             o->takes ? ", which are " : ": it has none", o->takes ? o->takes : "");
        words = word + len;
    }
    return 0;
}

static int add(const struct drive_option *o, struct disk_settings *list, unsigned *n,
               const struct disk_settings *defaults, const char *arg, struct error *err)
{
    struct disk_settings d = *defaults;
    const char *end = end_of_name(arg);
    if (end == arg)
        return error_set(err, EINVAL, "--%s %s: needs the name of a file", o->name, arg);
    if (*n == o->max)
        return error_set(err, EINVAL, "--%s %s: there are at most %u %s", o->name, arg, o->max,
                         o->plural);
    int rc = parse_words(o, &d, arg, end, err);
    if (rc < 0)
        return rc;
    d.path = copy_name(arg, end);
    if (!d.path)
        return error_set(err, ENOMEM, "no memory for the names of files");
    list[(*n)++] = d;
    return 0;
}

int drives_add_disk(struct settings *s, const char *arg, struct error *err)
{
    static const struct disk_settings defaults = {.interface = DISK_IDE};
    return add(&disk_option, s->disks, &s->ndisks, &defaults, arg, err);
}

int drives_add_cdrom(struct settings *s, const char *arg, struct error *err)
{
    static const struct disk_settings defaults = {.interface = DISK_IDE, .read_only = true};
    return add(&cdrom_option, s->cdroms, &s->ncdroms, &defaults, arg, err);
}

int drives_add_floppy(struct settings *s, const char *arg, struct error *err)
{
    static const struct disk_settings defaults = {.path = NULL};
    return add(&floppy_option, s->floppies, &s->nfloppies, &defaults, arg, err);
}

static void free_list(struct disk_settings *list, unsigned *n)
{
    for (unsigned i = 0; i < *n; i++)
        free((void *)list[i].path);
    *n = 0;
}

void drives_free(struct settings *s)
{
    free_list(s->disks, &s->ndisks);
    free_list(s->cdroms, &s->ncdroms);
    free_list(s->floppies, &s->nfloppies);
}
