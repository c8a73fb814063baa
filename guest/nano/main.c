/*
 * The command line, the tests that it names, and the end of the machine.
 */
#include "nano.h"
#include "tests.h"

#define MULTIBOOT_MAGIC   0x2badb002
#define MULTIBOOT_CMDLINE 4
#define LINE_MAX          1024
#define MB_CMDLINE        4 /* index of the pointer in Multiboot's information */

#ifdef __x86_64__
#define BUILD "64"
#elif defined(NANO_32)
#define BUILD "32"
#else
#define BUILD "pae"
#endif

void kernel_main(u32 magic, const u32 *info);

struct test {
    const char *name, *what;
    void (*fn)(void);
    bool check;
};

static const struct test tests[] = {
#define NANO_BENCH(fn, name, what) {name, what, bench_##fn, false},
#define NANO_CHECK(fn, name, what) {name, what, check_##fn, true},
#include "cli/nano_tests.def"
#undef NANO_BENCH
#undef NANO_CHECK
};

enum verdict { NONE, SKIPPED, TELLS, FAILED };

static struct {
    enum verdict verdict;
    const char *text;
    u32 want, got;
} now; /* of the test that runs */
static u32 results, skips, fails;
static bool wanted[ARRAY_SIZE(tests)];
static enum { END_OFF, END_DEBUG, END_HALT } ending;
static bool only_list;

/* --- verdicts --- */

static void verdict(enum verdict v, const char *text, u32 want, u32 got)
{
    if (now.verdict != NONE)
        return;
    now.verdict = v;
    now.text = text;
    now.want = want;
    now.got = got;
}

void skip(const char *why)
{
    verdict(SKIPPED, why, 0, 0);
}

void fail(const char *what, u32 want, u32 got)
{
    verdict(FAILED, what, want, got);
}

void tells(const char *what, u32 value)
{
    verdict(TELLS, what, 0, value);
}

bool is_virtual(void)
{
    return has_cpuid(1, 2, 31);
}

bool is_hypervisor(const char *signature)
{
    u32 out[4] = {0}, word = 0;
    if (is_virtual())
        cpuid(0x40000000, out);
    for (u32 n = 0; n < 4; n++)
        word |= (u32)(u8)signature[n] << 8 * n;
    return out[1] == word;
}

static void print_skip(const char *name, const char *why)
{
    print("nano skip ");
    print(name);
    print(" ");
    print(why);
    print("\n");
    skips++;
}

static void print_check(const struct test *t)
{
    print("nano check ");
    print(t->name);
    if (now.verdict == FAILED) {
        print(" fail ");
        print(now.text);
        print(": expected ");
        print_number(now.want, 16);
        print(", got ");
        print_number(now.got, 16);
        fails++;
    } else {
        print(now.verdict == TELLS ? " tells " : " ok ");
        print(now.verdict == TELLS ? now.text : t->what);
        if (now.verdict == TELLS && now.got) {
            print(": ");
            print_number(now.got, 10);
        }
    }
    print("\n");
}

static void report(const struct test *t)
{
    if (now.verdict == SKIPPED) {
        print_skip(t->name, now.text);
    } else if (t->check || now.verdict != NONE) {
        print_check(t);
        results += t->check;
    } else if (measure_report(t->name)) {
        results++;
    } else {
        print_skip(t->name, "no time for a sample");
    }
}

/* --- running --- */

static void run(const struct test *t)
{
    struct caught caught;
    now.verdict = NONE;
    measure_begin();
    try_call((const void *)(ulong)t->fn, 0, 0, &caught);
    if (caught.any && caught.frame.vector != VECTOR_EXIT)
        fail("event", 0, (u32)caught.frame.vector);
    machine_reset();
    paging_reset();
    report(t);
}

static void __attribute__((noreturn)) end_machine(void)
{
    if (ending == END_DEBUG)
        outb(0xf4, fails != 0);
    if (ending == END_OFF && is_virtual())
        __asm__ volatile("outw %0, %1" ::"a"((u16)0x2000), "d"((u16)0x604)); /* ACPI, S5 */
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void print_header(void)
{
    union {
        u32 word[12];
        char text[48];
    } brand = {{0}};
    u32 out[4];
    cpuid(0x80000000, out);
    for (u32 n = 0; n < 3 && out[0] >= 0x80000004; n++)
        cpuid(0x80000002 + n, brand.word + 4 * n);
    brand.text[47] = 0;
    char *name = brand.text;
    while (*name == ' ')
        name++;
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c == '"')
            *c = '?';
    print("nano 1 build=" BUILD " tsc_khz=");
    print_number(tsc_khz, 10);
    print(" cpu=\"");
    print(name);
    print("\"\n");
}

/* --- the command line --- */

static bool equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool has_path(const char *word)
{
    for (; *word; word++)
        if (*word == '/' || *word == '.')
            return true;
    return false;
}

static u32 number(const char *text)
{
    u32 n = 0;
    for (; *text >= '0' && *text <= '9' && n < 100000; text++)
        n = n * 10 + (u32)(*text - '0');
    return n;
}

/* Returns whether the word names tests. */
static bool take_word(const char *word)
{
    if (equal(word, "exit=debug"))
        ending = END_DEBUG;
    else if (equal(word, "exit=halt"))
        ending = END_HALT;
    else if (equal(word, "list"))
        only_list = true;
    else if (word[0] == 'm' && word[1] == 's' && word[2] == '=')
        budget_ms = number(word + 3);
    else if (!has_path(word)) { /* else the loader's name of this image */
        bool found = false;
        for (u32 n = 0; n < ARRAY_SIZE(tests); n++)
            if (equal(word, tests[n].name) || equal(word, tests[n].check ? "checks" : "benchmarks"))
                wanted[n] = found = true;
        if (!found)
            print_skip(word, "is not the name of a test");
        return true;
    }
    return false;
}

static void take_line(char *line)
{
    bool any = false;
    while (*line) {
        char *word = line;
        while (*line && *line != ' ')
            line++;
        bool last = !*line;
        *line = 0;
        if (*word)
            any |= take_word(word);
        line += !last;
    }
    for (u32 n = 0; n < ARRAY_SIZE(tests) && !any; n++)
        wanted[n] = true;
}

static void copy_line(char *to, const u32 *info)
{
    const char *from = info[0] & MULTIBOOT_CMDLINE ? (const char *)(ulong)info[MB_CMDLINE] : "";
    u32 n = 0;
    for (; from[n] && n < LINE_MAX - 1; n++)
        to[n] = from[n];
    to[n] = 0;
}

static void list(void)
{
    for (u32 n = 0; n < ARRAY_SIZE(tests); n++) {
        print("nano test ");
        print(tests[n].name);
        print(" ");
        print(tests[n].what);
        print("\n");
    }
}

void kernel_main(u32 magic, const u32 *info)
{
    static char line[LINE_MAX];
    console_init();
    if (magic == MULTIBOOT_MAGIC)
        copy_line(line, info);
    machine_init();
    paging_init();
    apic_init();
    print_header();
    take_line(line);
    if (only_list)
        list();
    for (u32 n = 0; n < ARRAY_SIZE(tests); n++)
        if (wanted[n] && !only_list)
            run(&tests[n]);
    print("nano done results=");
    print_number(results, 10);
    print(" skips=");
    print_number(skips, 10);
    print(" fails=");
    print_number(fails, 10);
    print("\n");
    end_machine();
}
