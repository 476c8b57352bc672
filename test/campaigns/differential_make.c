/* Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

/*
 * differential_make.c: see differential_make.h.
 */

#include "differential_make.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- chance ---- */

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    uint64_t x;

    state += 0x9e3779b97f4a7c15u;
    x = state;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ x >> 31) >> 16) % below;
}

#define PICK(list) list[chance(sizeof(list) / sizeof(*list))]

/* ---- a sequence ---- */

static op_t *made;
static int made_num;
static int made_most;

/* In a sequence each name has its own geometry, which most creates use. */
static struct {
    uint32_t size;
    uint32_t num;
    unsigned char type;
} usual[NAMES];

static const uint32_t sizes[] = { 0, 1, 3, 4, 8, 8, 16, 24, 37, 64, 200 };
static const uint32_t nums[] = { 0, 1, 2, 3, 4, 5, 8, 8, 10, 63, 64, 65, 130 };

static op_t *push(kind_t kind, unsigned who)
{
    static op_t none;
    op_t *op = made_num < made_most ? &made[made_num++] : &none;

    memset(op, 0, sizeof(*op));
    op->kind = (unsigned char)kind;
    op->who = (unsigned char)who;
    op->handle = (unsigned char)chance(256);
    op->a = chance(1000);
    op->b = chance(1000);
    return op;
}

static void choose_usual(void)
{
    int name;

    for (name = 0; name < NAMES; name++) {
        usual[name].size = PICK(sizes);
        usual[name].num = PICK(nums);
        if (chance(30) == 0) {
            usual[name].size = 1 + chance(4);
            usual[name].num = 1025 + chance(150);
        }
        usual[name].type = (unsigned char)chance(16);
        if (name >= NAME_FIRST_KEPT && chance(3)) {
            usual[name].type |= AP_SLOTMEM_TYPE_PERSIST;
        }
    }
}

static void push_create(unsigned who)
{
    unsigned char name = (unsigned char)(chance(4) ? NAME_FIRST_KEPT
                                                     + chance(6)
                                                   : chance(NAME_NEVER));
    op_t *op = push(OP_CREATE, who);
    int like = name == NAME_ALIAS ? NAME_FIRST_KEPT : name;

    op->name = name;
    op->size = usual[like].size;
    op->num = usual[like].num;
    op->type = usual[like].type;
    switch (chance(14)) {
    case 0: op->size = PICK(sizes); break;
    case 1: op->num = PICK(nums); break;
    case 2: op->type = (unsigned char)chance(16); break;
    case 3: op->num += 1 + chance(3); break;
    default: break;
    }
    if (chance(150) == 0) {
        op->type |= chance(2) ? 0x80 : 0x40;
    }
}

/* A slot: usually one of the first; sometimes the last, or past it. */
static uint32_t some_slot(void)
{
    uint32_t most = PICK(nums);

    switch (chance(8)) {
    case 0: return most;
    case 1: return most ? most - 1 : 0;
    case 2: return chance(140);
    case 3: return chance(40) ? chance(1200) : UINT32_MAX;
    default: return chance(6);
    }
}

/* A length: one slot, several, none, one more or less, or too long. */
static uint32_t some_length(void)
{
    uint32_t size = PICK(sizes);

    switch (chance(8)) {
    case 0: return size ? size - 1 : 0;
    case 1: return size + 1;
    case 2: return size * (1 + chance(8));
    case 3: return 0;
    case 4: return chance(20) ? chance(700) : UINT32_MAX;
    default: return size;
    }
}

static void push_doall(unsigned who)
{
    op_t *op = push(OP_DOALL, who);

    op->type = (unsigned char)(chance(2) ? 0 : chance(16));
    op->a = some_slot();
    op->size = chance(3) ? 0 : 1 + chance(6);
    op->num = chance(4) ? 1 + chance(100) : APR_ENOENT;
}

static void push_call(unsigned who)
{
    static const unsigned char kinds[] = {
        OP_GRAB, OP_GRAB, OP_GRAB, OP_GRAB, OP_FGRAB, OP_FGRAB, OP_RELEASE,
        OP_RELEASE, OP_RELEASE, OP_PUT, OP_PUT, OP_PUT, OP_GET, OP_GET,
        OP_WRITE, OP_WRITE, OP_DPTR, OP_DOALL, OP_DOALL, OP_ATTACH, OP_ATTACH,
        OP_NULL
    };
    kind_t kind = PICK(kinds);
    op_t *op;

    if (kind == OP_DOALL) {
        push_doall(who);
        return;
    }
    op = push(kind, who);
    if (kind == OP_ATTACH) {
        op->name = (unsigned char)chance(NAMES);
    }
    if (kind != OP_NULL) {
        op->a = some_slot();
    }
    if (kind == OP_PUT || kind == OP_GET) {
        op->num = op->b;
        op->b = some_length();
    }
    if (kind == OP_GRAB && chance(5) == 0) {
        op->size = chance(2) ? chance(10) : chance(1200);
    }
}

static void push_cleanup(void)
{
    op_t *op = push(OP_CLEANUP, 0);

    op->type = (unsigned char)chance(5);
    op->a = some_slot();
    op->num = op->b;
    op->b = some_length();
}

/* The operations of consumers during configuration. */
static void push_configuration(uint32_t most)
{
    uint32_t num = 1 + chance(most);

    while (num--) {
        push_create(0);
        while (chance(3)) {
            push_call(0);
        }
    }
}

/* Two children, and names that they create for each other (B8). */
static void push_siblings(void)
{
    uint32_t num = 2 + chance(8);

    push(OP_FORK, 1);
    push(OP_FORK, 2);
    while (num--) {
        unsigned who = chance(10) ? 1 + chance(2) : 0;
        op_t *op;

        if (chance(3) == 0) {
            push_create(who);
            continue;
        }
        if (chance(8) == 0) {
            push(OP_EXIT, who);
            push(OP_FORK, who);
        }
        op = push(OP_ATTACH, who);
        op->name = (unsigned char)(NAME_RUNTIME + chance(2));
    }
}

static void push_run(void)
{
    uint32_t num = 3 + chance(22);

    if (chance(3) == 0) {
        push_siblings();
    }
    while (num--) {
        unsigned who = chance(3);

        switch (chance(16)) {
        case 0:
        case 1:
            push(OP_FORK, 1 + chance(2));
            break;
        case 2:
            push(OP_EXIT, 1 + chance(2));
            break;
        case 3:
            push_create(who);
            break;
        case 4:
            push_cleanup();
            break;
        case 5:
            push(OP_MONITOR, 0);
            break;
        default:
            push_call(who);
            break;
        }
    }
}

static void push_between(void)
{
    static const unsigned char kinds[] = { OP_SWAP, OP_SWAP, OP_SWAP,
                                           OP_DAMAGE, OP_REMOVE };
    uint32_t num = chance(5);

    while (num--) {
        op_t *op = push(PICK(kinds), 0);

        op->name = (unsigned char)chance(8);
        op->type = (unsigned char)chance(8);
    }
}

/* From start to stop: two passes, or a failing one, and restarts. */
static void push_life(void)
{
    if (chance(12) == 0) {
        push_create(0);
    }
    push(OP_PASS, 0);
    if (chance(3) == 0) {
        push_configuration(2);
    }
    if (chance(10)) {
        push(OP_PASS, 0);
    }
    push_configuration(5);
    while (chance(15)) {
        if (chance(4) == 0) {
            push(OP_LATE, 0);
            push_configuration(2);
        }
        push(OP_RUN, 0);
        push_run();
        if (chance(5) < 3) {
            break;
        }
        push(OP_PASS, 0);
        push_configuration(4);
    }
    push(chance(8) ? OP_STOP : OP_KILL, 0);
    push_between();
}

int sequence_make(op_t *ops, uint64_t seed)
{
    state = seed * 0xd1342543de82ef95u + 1;
    made = ops;
    made_num = 0;
    made_most = 6 + (int)chance(OPS_MAX - 6);
    choose_usual();
    while (made_num < made_most) {
        push_life();
    }
    return made_num;
}

/* ---- shortening a sequence ---- */

/* Omits as many operations as possible, in ever smaller pieces. */
static int shorten(op_t *ops, int num)
{
    op_t tried[OPS_MAX];
    int piece = num / 2;

    while (piece > 0) {
        int removed = 0;
        int at;

        for (at = 0; at < num; ) {
            int len = at + piece < num ? piece : num - at;

            memcpy(tried, ops, (size_t)at * sizeof(*ops));
            memcpy(tried + at, ops + at + len,
                   (size_t)(num - at - len) * sizeof(*ops));
            if (num - len > 0 && !sequence_holds(tried, num - len)) {
                num -= len;
                memcpy(ops, tried, (size_t)num * sizeof(*ops));
                removed = 1;
            }
            else {
                at += piece;
            }
        }
        if (piece > 1 || !removed) {
            piece /= 2;
        }
    }
    return num;
}

static const char *const kind_names[KINDS] = {
    "pass", "post_config ends", "run", "stop", "kill", "fork", "exit",
    "monitor", "swap files", "damage files", "remove files", "create",
    "attach", "dptr", "write", "get", "put", "grab", "fgrab", "release",
    "doall", "cleanup", "NULL instance"
};

static void print_answer(const char *side, const answer_t *answer)
{
    int i;

    if (!answer->asked) {
        return;
    }
    printf("  %s: %d", side, answer->rv);
    for (i = 0; i < answer->num && i < 8; i++) {
        printf(" %" PRId64, answer->value[i]);
    }
    if (answer->num > 8) {
        printf(" ...");
    }
}

static void print_op(int at, const op_t *op)
{
    const step_t *step = &shared->steps[at];

    printf("  %2d %s%s", at, op->who ? op->who == 1 ? "child 1: " : "child 2: "
                                     : "", kind_names[op->kind]);
    switch (op->kind) {
    case OP_CREATE:
        printf(" name %d, %u slots of %u, type %x", op->name, op->num,
               op->size, op->type);
        break;
    case OP_ATTACH:
    case OP_SWAP:
    case OP_DAMAGE:
    case OP_REMOVE:
        printf(" name %d, how %u %u %u", op->name, op->type, op->a, op->b);
        break;
    case OP_PASS:
    case OP_STOP:
    case OP_EXIT:
        printf(" how %u %u", op->a % 2, op->b % 4);
        break;
    default:
        if (op->kind > OP_ATTACH) {
            printf(" segment %u, slot %u, length %u, %u %u %u", op->handle,
                   op->a, op->b, op->size, op->num, op->type);
        }
        break;
    }
    if (!step->done) {
        printf(" (not made)");
    }
    print_answer("ours", &step->answer[OURS]);
    print_answer("theirs", &step->answer[THEIRS]);
    if (step->exception) {
        printf("  [%s]", exception_line(step->exception));
    }
    printf("\n");
}

static void print_trace(const op_t *ops, int num)
{
    int i;

    for (i = 0; i < num; i++) {
        print_op(i, &ops[i]);
    }
    fflush(stdout);
}

/* A difference that does not occur again is printed with its whole sequence. */
void sequence_report(op_t *ops, int num, uint64_t seed)
{
    static shared_t first;
    static op_t whole[OPS_MAX];
    int all = num;

    memcpy(&first, shared, sizeof(first));
    memcpy(whole, ops, sizeof(whole));
    num = shorten(ops, num);
    if (sequence_holds(ops, num)) {
        memcpy(shared, &first, sizeof(first));
        printf("seed %" PRIu64 ": a difference that does not recur: at "
               "%d: %s\n", seed, shared->at, shared->what);
        print_trace(whole, all);
        return;
    }
    printf("seed %" PRIu64 ": %d operations of %d; at %d: %s\n", seed, num,
           all, shared->at, shared->what);
    print_trace(ops, num);
}
