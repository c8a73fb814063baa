/*
 * Random images: valid ones of each kind with random damage in their headers. Whatever is in them,
 * loading either works or ends in an error with a sentence; under SANITIZE=1 it also touches
 * nothing that it should not. An argument changes the number of images.
 */
#include "fixture.h"

#include <ctype.h>

#define RAM    (4 * MIB)
#define IMAGES 100000

struct random {
    u64 state;
};

static u32 draw(struct random *r)
{
    r->state = r->state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (u32)(r->state >> 33);
}

/* Numbers that break loaders: edges of signed and unsigned types, pages, small ones. */
static u64 nasty(struct random *r)
{
    static const u64 edges[] = {0,        1,          0x7f,       0xff,       0x7fff,
                                0xffff,   0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000,
                                0x100000, 0x9fc00,    0xf0000,    RAM,        RAM - 1,
                                0x300000, ~0ULL,      ~0ULL << 12};
    u32 kind = draw(r) % 4;
    if (kind == 0)
        return (u64)draw(r) << 32 | draw(r);
    if (kind == 1)
        return draw(r) % 64;
    return edges[draw(r) % ARRAY_SIZE(edges)] + (kind == 3 ? draw(r) % 16 : 0);
}

static void damage(struct random *r, u8 *p, size_t len)
{
    for (u32 n = draw(r) % 6; n > 0; n--) {
        unsigned size = 1u << draw(r) % 4;
        store_le(p + draw(r) % (len - 8), nasty(r), size);
    }
}

static size_t make_linux(struct random *r, u8 *image)
{
    bzimage(image);
    damage(r, image + LINUX_HEADER_OFFSET, sizeof(struct linux_setup_header) + 8);
    return BZIMAGE_SIZE;
}

static size_t make_multiboot(struct random *r, u8 *image, bool elf)
{
    u32 flags = elf ? 3 : 0x10003;
    u32 h[8] = {0x1badb002, flags,   -(0x1badb002 + flags), 0x200400, 0x200000, 0x202000,
                0x203000,   0x200400};
    memset(image, 0, BZIMAGE_SIZE);
    if (elf) {
        bool is64 = draw(r) & 1;
        memcpy(image,
               is64 ? "\x7f"
                      "ELF\2\1\1"
                    : "\x7f"
                      "ELF\1\1\1",
               7);
        store_le(image + 16, 2, 2);
        store_le(image + 18, is64 ? 62 : 3, 2);
        store_le(image + 24, 0x200000, is64 ? 8 : 4);
        store_le(image + (is64 ? 32 : 28), 0x40, 4);
        store_le(image + (is64 ? 54 : 42), is64 ? 56 : 32, 2);
        store_le(image + (is64 ? 56 : 44), 1 + draw(r) % 4, 2);
        u32 ph32[8] = {1, 0, 0x200000, 0x200000, 0x1000, 0x2000};
        u64 ph64[7] = {1, 0, 0x200000, 0x200000, 0x1000, 0x2000};
        memcpy(image + 0x40, is64 ? (void *)ph64 : (void *)ph32, is64 ? 56 : 32);
        damage(r, image, 0xc0);
    } else {
        damage(r, (u8 *)(h + 3), 5 * 4);
    }
    memcpy(image + 0x400, h, sizeof(h));
    return 0x2400;
}

static size_t make_image(struct random *r, u8 *image)
{
    size_t len;
    switch (draw(r) % 4) {
    case 0:
        len = 1 + draw(r) % 0x2000;
        for (size_t i = 0; i < len; i++)
            image[i] = (u8)draw(r);
        return len;
    case 1:
        len = make_multiboot(r, image, draw(r) & 1);
        break;
    default:
        len = make_linux(r, image);
    }
    return draw(r) % 8 ? len : 1 + draw(r) % len;
}

static void check_sentence(const struct fixture *f)
{
    size_t len = strlen(f->err.text);
    if (len < 10 || strchr(f->err.text, '\n'))
        fail_msg("not a sentence: '%s'", f->err.text);
}

static unsigned run(struct fixture *f, unsigned images, u64 seed)
{
    static u8 image[BZIMAGE_SIZE + 4096];
    struct random r = {seed};
    unsigned loaded = 0;
    u8 ramdisk[100] = {1};
    file_set(f->fd2, ramdisk, sizeof(ramdisk));
    for (unsigned i = 0; i < images; i++) {
        file_set(f->fd, image, make_image(&r, image));
        f->opt.linux_protocol = (enum linux_protocol)(draw(&r) % 4);
        f->opt.initrd = draw(&r) & 1 ? f->path2 : NULL;
        f->opt.append = draw(&r) & 1 ? "quiet" : NULL;
        if (load(f) == 0)
            loaded++;
        else
            check_sentence(f);
    }
    return loaded;
}

int main(int argc, char **argv)
{
    unsigned images = argc > 1 ? (unsigned)atoi(argv[1]) : IMAGES;
    struct fixture *f = fixture_create(RAM);
    unsigned loaded = run(f, images, argc > 2 ? (u64)atoll(argv[2]) : 1);
    fixture_destroy(f);
    printf("%u random images, %u of them loaded\n", images, loaded);
    /* If all or none load, the damage is of the wrong kind and the test says nothing. */
    bool good = loaded > images / 50 && loaded < images;
    printf("%s %u random images\n", good ? "ok" : "not ok", images);
    return !good;
}
