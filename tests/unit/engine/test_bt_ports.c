/*
 * IN of ports that show what they hold, by translated code: the value is right, nothing else
 * changes, the device is asked if and only if it has to be, and who may not read gets #GP.
 */
#include "bt_pair.h"
#include "mem/portbus.h"

#define SHOWN_PORT   0x64
#define HIDDEN_PORT  0x65
#define COUNTER_PORT 0x608
#define COUNTER_HZ   3579545
#define COUNTER_MASK 0xffffff

struct device {
    unsigned reads;
    struct port_bus *bus;
    struct timebase *time;
};
static struct device device[2];

static u32 device_in(void *ctx, u16 port, unsigned size)
{
    struct device *d = ctx;
    d->reads++;
    if (port == COUNTER_PORT && size == 4)
        return (u32)ns_to_ticks(timebase_ns(d->time), COUNTER_HZ) & COUNTER_MASK;
    return port == SHOWN_PORT ? (u8)port_shown(d->bus)[port] : 0x12345678;
}

/* A write shows the value. */
static void device_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct device *d = ctx;
    (void)size;
    if (port == SHOWN_PORT)
        port_show(d->bus, port, (u8)value);
}

static const struct port_ops ops = {device_in, device_out};

static int setup_ports(void **state)
{
    assert_int_equal(setup(state), 0);
    struct pair *p = *state;
    for (unsigned n = 0; n < 2; n++) {
        struct port_bus *bus = p->tm[n]->m.ports;
        device[n] = (struct device){.bus = bus, .time = &p->tm[n]->time};
        assert_int_equal(portbus_add(bus, SHOWN_PORT, 2, &ops, &device[n], NULL, false, NULL), 0);
        assert_int_equal(portbus_add(bus, COUNTER_PORT, 4, &ops, &device[n], NULL, true, NULL), 0);
        port_show(bus, SHOWN_PORT, 0x5a);
        port_show_counter(bus, COUNTER_PORT, (struct port_counter){COUNTER_HZ, COUNTER_MASK});
    }
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_ports, teardown)

/* Once until it is hot, and then again: how many system instructions C executes in that, and
 * device[] counts its reads. */
static u64 compare_hot(struct pair *p, const u8 *from, const u8 *to)
{
    put(p, from, to);
    compare(p, false);
    device[0].reads = device[1].reads = 0;
    u64 before = stat(&p->rig[0], STAT_BT_CALLOUT_SYSTEM);
    compare(p, false);
    return stat(&p->rig[0], STAT_BT_CALLOUT_SYSTEM) - before;
}

#define COMPARE_HOT(p, name) compare_hot(p, code_##name, code_##name##_end)

/* The flags live across it, and the upper bits of RAX and all of RDX stay. */
CODE(bytes, "    mov rax, 0x1122334455667788\n"
            "    mov rdx, 0xfedcba9876540064\n"
            "    mov ecx, 100\n"
            "1:  cmp cl, 50\n"
            "    in al, 0x64\n"
            "    setb bl\n"
            "    seto bh\n"
            "    mov r8, rax\n"
            "    in al, 0x80\n"
            "    mov r9, rax\n"
            "    stc\n"
            "    in al, dx\n"
            "    adc r10, rdx\n"
            "    add r11, rax\n"
            "    sub ecx, 1\n"
            "    jnz 1b\n"
            "    hlt\n");

static void test_bytes(void **state)
{
    struct pair *p = *state;
    assert_true(COMPARE_HOT(p, bytes) < 2 * RUNS); /* HLT */
    assert_int_equal(device[0].reads, 0);
    assert_int_equal(device[1].reads, RUNS * 200);
    assert_int_equal(p->tm[0]->v->gpr[R8] & 0xff, 0x5a);
    assert_int_equal(p->tm[0]->v->gpr[R9] & 0xff, 0xff);
}

CODE(change, "    mov ecx, 100\n"
             "1:  mov al, cl\n"
             "    out 0x64, al\n"
             "    xor eax, eax\n"
             "    in al, 0x64\n"
             "    add r8, rax\n"
             "    in al, 0x65\n"
             "    add r9, rax\n"
             "    sub ecx, 1\n"
             "    jnz 1b\n"
             "    hlt\n");

static void test_change_and_hidden(void **state)
{
    struct pair *p = *state;
    COMPARE_HOT(p, change);
    assert_int_equal(device[0].reads, RUNS * 100); /* of the hidden one */
    assert_int_equal(p->tm[0]->v->gpr[R8] & 0xffff, 0x1008 + 5050);
}

/* Other sizes go to the device. */
CODE(sizes, "    in ax, 0x64\n"
            "    mov r8, rax\n"
            "    in eax, 0x64\n"
            "    mov r9, rax\n"
            "    mov dx, 0x608\n"
            "    in al, dx\n"
            "    in ax, dx\n"
            "    mov r10, rax\n"
            "    hlt\n");

static void test_sizes(void **state)
{
    struct pair *p = *state;
    COMPARE_HOT(p, sizes);
    assert_int_equal(device[0].reads, RUNS * 6); /* 64h, 65h twice each; 608h twice */
}

CODE(counter, "    mov dx, 0x608\n"
              "    mov ecx, 100\n"
              "1:  mov eax, 0x10\n"
              "    cmp eax, 0x21\n" /* CF, AF, SF */
              "    in eax, dx\n"
              "    mov r8, rax\n"
              "    mov r9, rdx\n"
              "    pushfq\n"
              "    pop r10\n"
              "    dec ecx\n"
              "    jnz 1b\n"
              "    hlt\n");

/* Between two readings by C, whatever the time is. */
static void test_counter(void **state)
{
    struct pair *p = *state;
    const struct vcpu *v = p->tm[0]->v;
    put(p, code_counter, code_counter_end);
    for (unsigned n = 0; n < RUNS; n++) {
        u32 before = device_in(&device[0], COUNTER_PORT, 4);
        device[0].reads = 0;
        run_until_halt(p, 0, false);
        if (n > RUNS / 2)
            assert_int_equal(device[0].reads, 0);
        u32 after = device_in(&device[0], COUNTER_PORT, 4);
        assert_true(((v->gpr[R8] - before) & COUNTER_MASK) <= ((after - before) & COUNTER_MASK));
        assert_int_equal(v->gpr[R8] >> 24, 0);
        assert_int_equal(v->gpr[R9], COUNTER_PORT);
        assert_int_equal(v->gpr[R10] & FLAGS_ARITH, FLAG_CF | FLAG_AF | FLAG_SF);
    }
}

CODE(user, "    mov r8, 1\n"
           "    in al, 0x64\n"
           "    mov r8, 2\n"
           "    int 0x80\n");

static void test_user(void **state)
{
    struct pair *p = *state;
    COMPARE(p, user, true);
    assert_int_equal(p->tm[0]->v->gpr[R8], 2);
    assert_int_equal(device[0].reads, RUNS); /* the TSS's bitmap, all zero, allows it */
    for (unsigned n = 0; n < 2; n++)
        store_le(p->tm[n]->ram + TSS_AT + 0x66, 0xffff, 2);
    COMPARE(p, user, true);
    assert_int_equal(p->tm[0]->v->gpr[R8], 1);
    assert_int_equal(device[0].reads, RUNS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bytes), TEST(test_change_and_hidden), TEST(test_sizes), TEST(test_counter),
        TEST(test_user),
    };
    get_handlers();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
