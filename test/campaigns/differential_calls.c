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
 * differential_calls.c: makes one call of the provider on both sides and
 * compares what it returns, what it sets, and then the visible state of every
 * segment.
 */

#include "differential.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PROVIDER(side) dso[side]->provider

/* The value of an id or a pointer before a call that may set it. */
#define UNTOUCHED ((ap_slotmem_instance_t *)8)

/* A byte that depends on its position and on a seed. */
static unsigned char byte_of(uint32_t seed, uint32_t i)
{
    uint32_t x = (seed + 1) * 2654435761u + i * 40503u;

    return (unsigned char)(x >> 16 ^ x >> 7);
}

static int64_t digest_of(const unsigned char *bytes, apr_size_t len)
{
    uint64_t digest = 1469598103934665603u;
    apr_size_t i;

    for (i = 0; i < len; i++) {
        digest = (digest ^ bytes[i]) * 1099511628211u;
    }
    return (int64_t)digest;
}

static void add(answer_t *answer, int64_t value)
{
    if (answer->num < VALUES_MAX) {
        answer->value[answer->num++] = value;
    }
    else {
        answer->value[VALUES_MAX - 1] =
            answer->value[VALUES_MAX - 1] * 31 + value;
    }
}

/* ---- handles ---- */

static handle_t *handle_named(int name)
{
    int i;

    for (i = 0; i < life.handles_num; i++) {
        if (life.handles[i].name == name && !is_anonymous(name)) {
            return &life.handles[i];
        }
    }
    return NULL;
}

/* Which of our handles has this pointer; -1: none, -2: the pointer was not set.
 */
static int64_t identity(int side, const ap_slotmem_instance_t *inst)
{
    int i;

    if (inst == UNTOUCHED) {
        return -2;
    }
    for (i = 0; inst && i < life.handles_num; i++) {
        if (life.handles[i].inst[side] == inst) {
            return i;
        }
    }
    return inst ? life.handles_num : -1;
}

static void find_base(handle_t *handle)
{
    int side;

    for (side = 0; side < SIDES; side++) {
        void *mem = NULL;

        if (handle->num
            && PROVIDER(side)->dptr(handle->inst[side], 0, &mem) != 0) {
            differ("dptr of slot 0 of a new segment fails");
        }
        handle->base[side] = mem;
    }
    if (handle->base[OURS] && (uintptr_t)handle->base[OURS] % 16) {
        differ("slot 0 of ours is not aligned");
    }
}

static handle_t *add_handle(ap_slotmem_instance_t *inst[SIDES], const op_t *op)
{
    handle_t *handle = &life.handles[life.handles_num++];

    memset(handle, 0, sizeof(*handle));
    memcpy(handle->inst, inst, sizeof(handle->inst));
    handle->name = canonical(op->name);
    handle->made_as = op->name;
    handle->size = PROVIDER(OURS)->slot_size(inst[OURS]);
    handle->num = PROVIDER(OURS)->num_slots(inst[OURS]);
    handle->type = op->type & 15;
    handle->stale = handle->size * handle->num > AREA_MAX
                    || handle->num > SLOTS_MAX;
    find_base(handle);
    return handle;
}

/* ---- the visible state of a segment ---- */

static apr_status_t note_slot(void *mem, void *data, apr_pool_t *pool)
{
    answer_t *answer = data;

    (void)pool;
    add(answer, (int64_t)(intptr_t)mem);
    return APR_SUCCESS;
}

/* The slots that doall visits, as a digest of their offsets. */
static int64_t visited(int side, const handle_t *handle)
{
    answer_t answer = { .num = 0 };
    int i;

    PROVIDER(side)->doall(handle->inst[side], note_slot, &answer, NULL);
    for (i = 0; i < answer.num && i < VALUES_MAX - 1; i++) {
        answer.value[i] -= (int64_t)(intptr_t)handle->base[side];
    }
    if (answer.num == VALUES_MAX) {
        answer.value[VALUES_MAX - 1] = 0;
    }
    return digest_of((void *)answer.value,
                     (apr_size_t)answer.num * sizeof(*answer.value));
}

static void compare_segment(int at)
{
    const handle_t *handle = &life.handles[at];
    unsigned free_slots[SIDES];
    int side;

    for (side = 0; side < SIDES; side++) {
        shared->side = side;
        free_slots[side] = PROVIDER(side)->num_free_slots(handle->inst[side]);
        if (PROVIDER(side)->num_slots(handle->inst[side]) != handle->num
            || PROVIDER(side)->slot_size(handle->inst[side])
               != handle->size) {
            differ("segment %d, side %d: num_slots, slot_size", at, side);
        }
    }
    if (free_slots[OURS] != free_slots[THEIRS] && !handle->miscounted) {
        differ("segment %d: num_free_slots: %u and %u", at, free_slots[OURS],
               free_slots[THEIRS]);
    }
    if (handle->base[OURS]
        && memcmp(handle->base[OURS], handle->base[THEIRS],
                  handle->size * handle->num) != 0) {
        differ("segment %d: the bytes of its slots", at);
    }
    if ((handle->type & AP_SLOTMEM_TYPE_PREGRAB)
        && visited(OURS, handle) != visited(THEIRS, handle)) {
        differ("segment %d: the slots in use", at);
    }
}

void compare_segments(void)
{
    int i;

    for (i = 0; i < life.handles_num; i++) {
        if (!life.handles[i].stale) {
            compare_segment(i);
        }
    }
}

/* A release tells whether the slot was in use; then the slot is claimed again.
 * This is done for the distributed module only: with ours it would change which
 * process counts as the claimer. */
void note_in_use(void)
{
    const ap_slotmem_provider_t *theirs = PROVIDER(THEIRS);
    unsigned id;
    int i;

    for (i = 0; i < life.handles_num; i++) {
        handle_t *handle = &life.handles[i];

        for (id = 0; !handle->stale && !handle->late && id < handle->num;
             id++) {
            handle->used[id] =
                theirs->release(handle->inst[THEIRS], id) == APR_SUCCESS;
            if (handle->used[id]) {
                theirs->fgrab(handle->inst[THEIRS], id);
            }
        }
    }
}

/* ---- create and attach ---- */

static void ask_create(int side, const op_t *op, exception_t exception,
                       const handle_t *handle,
                       ap_slotmem_instance_t **inst, answer_t *answer)
{
    const char *name = name_of(side, op->name);
    unsigned type = op->type & 15;
    apr_size_t size = op->size;
    unsigned num = op->num;
    apr_size_t their_size;
    unsigned their_num;

    if (side == THEIRS && exception == X_LATE) {
        name = NULL;
    }
    else if (side == THEIRS && exception == X_ALIAS) {
        name = name_of(side, handle->made_as);
    }
    if (op->type & 0x80) {
        size = (apr_size_t)1 << 62;
        num = 8;
    }
    else if (op->type & 0x40) {
        size = (apr_size_t)1 << 46;
        num = 2;
    }
    if (side == THEIRS && exception == X_SIBLING_CREATE) {
        answer->rv = PROVIDER(side)->attach(inst, name, &their_size,
                                            &their_num, dso[side]->pconf);
    }
    else {
        answer->rv = PROVIDER(side)->create(inst, name, size, num, type,
                                            dso[side]->pconf);
    }
    add(answer, identity(side, *inst));
    if (answer->rv == APR_SUCCESS) {
        add(answer, PROVIDER(side)->num_slots(*inst));
        add(answer, (int64_t)PROVIDER(side)->slot_size(*inst));
    }
}

static void ask_attach(int side, const op_t *op, exception_t exception,
                       const handle_t *handle,
                       ap_slotmem_instance_t **inst, answer_t *answer)
{
    int name = side == THEIRS && exception == X_ALIAS ? handle->made_as
                                                      : op->name;
    apr_size_t size = 99;
    unsigned num = 99;

    answer->rv = PROVIDER(side)->attach(inst, name_of(side, name), &size, &num,
                                        dso[side]->pconf);
    add(answer, identity(side, *inst));
    add(answer, (int64_t)size);
    add(answer, num);
}

/* Both sides have returned an instance that is new here. */
static void keep_instance(ap_slotmem_instance_t *inst[SIDES], const op_t *op,
                          exception_t exception)
{
    int name = canonical(op->name);
    handle_t *handle = add_handle(inst, op);

    if (name == NAME_RUNTIME || name == NAME_RUNTIME_2) {
        handle->attached = op->kind == OP_ATTACH
                           || exception == X_SIBLING_CREATE;
        if (!handle->attached) {
            shared->left[name] = 1;
            shared->runtime[name].creator = life.who;
            shared->runtime[name].size = handle->size;
            shared->runtime[name].num = handle->num;
            shared->runtime[name].type = handle->type;
        }
        handle->type = shared->runtime[name].type;
        handle->runtime = shared->runtime[name].creator;
        return;
    }
    if (exception != X_LATE) {
        shared->left[op->name] = 0;
    }
    handle->late = life.phase >= CONFIGURED && !life.who;
    handle->runtime = life.who && is_anonymous(name) ? life.who : 0;
    if (op->kind == OP_CREATE && !life.who) {
        files_restored(handle);
    }
}

/* ---- doall ---- */

typedef struct visit_t {
    int side;
    const op_t *op;
    const handle_t *handle;
    answer_t *answer;
    unsigned num;
} visit_t;

/* op->type selects: end early, write, or call back into the provider. */
static apr_status_t visit(void *mem, void *data, apr_pool_t *pool)
{
    visit_t *visit = data;
    const ap_slotmem_provider_t *provider = PROVIDER(visit->side);
    ap_slotmem_instance_t *inst = visit->handle->inst[visit->side];
    apr_size_t size = visit->handle->size;
    unsigned id = size ? (unsigned)(((unsigned char *)mem
                                     - visit->handle->base[visit->side])
                                    / (apr_ssize_t)size) : visit->num;

    add(visit->answer, id);
    add(visit->answer, pool == (apr_pool_t *)visit->op);
    visit->num++;
    if ((visit->op->type & 1) && size) {
        *(unsigned char *)mem = byte_of(visit->op->b, id);
    }
    if (visit->op->type & 2) {
        add(visit->answer, provider->release(inst, id));
    }
    if (visit->op->type & 4) {
        add(visit->answer, provider->fgrab(inst, visit->op->a));
    }
    if (visit->op->type & 8) {
        add(visit->answer, provider->num_free_slots(inst));
    }
    return visit->num == visit->op->size ? (apr_status_t)visit->op->num
                                         : APR_SUCCESS;
}

static void ask_doall(int side, const op_t *op, const handle_t *handle,
                      answer_t *answer)
{
    visit_t data = { side, op, handle, answer, 0 };

    answer->rv = PROVIDER(side)->doall(handle->inst[side], visit, &data,
                                       (apr_pool_t *)op);
}

/* ---- the other calls ---- */

static unsigned char buffer[AREA_MAX + 64];

static void fill_buffer(uint32_t seed, apr_size_t len)
{
    uint32_t i;

    for (i = 0; i < len; i++) {
        buffer[i] = byte_of(seed, i);
    }
}

static void ask_copy(int side, const op_t *op, const handle_t *handle,
                     exception_t exception, answer_t *answer)
{
    apr_size_t len = op->b;
    apr_size_t seen;

    if (exception == X_PAST_END && side == THEIRS) {
        if (!(handle->type & AP_SLOTMEM_TYPE_PREGRAB)) {
            answer->asked = 0;
            return;
        }
        len = 0;
    }
    seen = len < AREA_MAX ? len + 64 : AREA_MAX;
    if (op->kind == OP_PUT) {
        fill_buffer(op->num, seen);
        answer->rv = PROVIDER(side)->put(handle->inst[side], op->a, buffer,
                                         len);
    }
    else {
        memset(buffer, 0x5a, seen);
        answer->rv = PROVIDER(side)->get(handle->inst[side], op->a, buffer,
                                         len);
    }
    add(answer, digest_of(buffer, seen));
}

static void ask_null(int side, const op_t *op, answer_t *answer)
{
    const ap_slotmem_provider_t *provider = PROVIDER(side);
    answer_t visits = { .num = 0 };
    unsigned id = 77;
    void *mem = &id;

    switch (op->a % 10) {
    case 0: answer->rv = provider->doall(NULL, note_slot, &visits, NULL); break;
    case 1: answer->rv = provider->dptr(NULL, 0, &mem); break;
    case 2: answer->rv = provider->get(NULL, 0, buffer, 1); break;
    case 3: answer->rv = provider->put(NULL, 0, buffer, 1); break;
    case 4: answer->rv = provider->grab(NULL, &id); break;
    case 5: answer->rv = provider->release(NULL, 0); break;
    case 6: answer->rv = provider->fgrab(NULL, 0); break;
    case 7: answer->rv = (int)provider->num_slots(NULL); break;
    case 8: answer->rv = (int)provider->num_free_slots(NULL); break;
    default: answer->rv = (int)provider->slot_size(NULL); break;
    }
    add(answer, id);
    add(answer, mem == &id);
    add(answer, visits.num);
}

static void ask_dptr(int side, const op_t *op, const handle_t *handle,
                     answer_t *answer)
{
    void *mem = handle->base[side];

    answer->rv = PROVIDER(side)->dptr(handle->inst[side], op->a, &mem);
    add(answer, (unsigned char *)mem - handle->base[side]);
    if (op->kind == OP_WRITE && answer->rv == APR_SUCCESS) {
        apr_size_t i;

        for (i = 0; i < handle->size; i++) {
            ((unsigned char *)mem)[i] = byte_of(op->b, (uint32_t)i);
        }
    }
}

/* One grab and op->size more; the first failure ends the sequence. */
static void ask_grab(int side, const op_t *op, handle_t *handle,
                     answer_t *answer)
{
    unsigned free_slots =
        PROVIDER(side)->num_free_slots(handle->inst[side]);
    uint32_t more = op->size;
    unsigned id;

    do {
        id = op->b;
        answer->rv = PROVIDER(side)->grab(handle->inst[side], &id);
        add(answer, id);
        if (side == OURS && answer->rv == APR_SUCCESS && id < handle->num
            && life.phase != RUNS) {
            handle->config_claims[id] = 1;
        }
        free_slots -= free_slots > 0;
    } while (more-- && answer->rv == APR_SUCCESS && free_slots);
}

static void ask(int side, const op_t *op, handle_t *handle,
                exception_t exception, answer_t *answer)
{
    ap_slotmem_instance_t *inst = handle ? handle->inst[side] : NULL;

    shared->side = side;
    answer->asked = 1;
    switch (op->kind) {
    case OP_DPTR:
    case OP_WRITE: ask_dptr(side, op, handle, answer); break;
    case OP_GET:
    case OP_PUT: ask_copy(side, op, handle, exception, answer); break;
    case OP_GRAB: ask_grab(side, op, handle, answer); break;
    case OP_FGRAB: answer->rv = PROVIDER(side)->fgrab(inst, op->a); break;
    case OP_RELEASE: answer->rv = PROVIDER(side)->release(inst, op->a); break;
    case OP_DOALL: ask_doall(side, op, handle, answer); break;
    case OP_NULL: ask_null(side, op, answer); break;
    default: break;
    }
}

/* ---- claims of the configuration (E2) ---- */

static void note_configured(const op_t *op, handle_t *handle,
                            const answer_t *answer)
{
    if (life.who || life.phase == RUNS) {
        return;
    }
    switch (op->kind) {
    case OP_GET:
    case OP_PUT:
    case OP_FGRAB:
        if (answer->rv == APR_SUCCESS) {
            handle->config_claims[op->a] = 1;
        }
        break;
    case OP_DOALL:
        if ((op->type & 4) && answer->num && op->a < handle->num) {
            handle->config_claims[op->a] = 1;
        }
        break;
    default:
        break;
    }
}

/* ---- cleanups of consumers ---- */

/* A call that is made in a cleanup of pconf. */
typedef struct due_t {
    op_t op;
    int side;
    int handle;
} due_t;

#define DUE_MAX 16
static due_t due_store[SIDES][DUE_MAX];
static answer_t due_answers[SIDES][DUE_MAX];
static int due_num[SIDES];
static int due_made[SIDES];

static apr_status_t run_due(void *data)
{
    static const unsigned char kinds[] = { OP_PUT, OP_GET, OP_FGRAB,
                                           OP_RELEASE, OP_WRITE };
    due_t *due = data;
    handle_t *handle = &life.handles[due->handle];
    answer_t *answer = &due_answers[due->side][due_num[due->side]++];

    due->op.kind = kinds[due->op.type % sizeof(kinds)];
    if (due->op.b > handle->size) {
        due->op.b = (uint32_t)handle->size;
    }
    ask(due->side, &due->op, handle, X_NONE, answer);   /* not configuring */
    return APR_SUCCESS;
}

/* The distributed module stores before the cleanups that were registered before
 * its post_config, ours after all cleanups: so only later ones are compared. */
static void register_due(const op_t *op, const handle_t *handle)
{
    int side;

    if (life.who || life.phase < CONFIGURED
        || due_made[OURS] == DUE_MAX) {
        return;
    }
    for (side = 0; side < SIDES; side++) {
        due_t *due = &due_store[side][due_made[side]++];

        due->op = *op;
        due->side = side;
        due->handle = (int)(handle - life.handles);
        apr_pool_cleanup_register(dso[side]->pconf, due, run_due,
                                  apr_pool_cleanup_null);
    }
}

void forget_cleanups(void)
{
    memset(due_answers, 0, sizeof(due_answers));
    memset(due_num, 0, sizeof(due_num));
    memset(due_made, 0, sizeof(due_made));
}

void compare_cleanups(void)
{
    if (due_num[OURS] != due_num[THEIRS]
        || memcmp(due_answers[OURS], due_answers[THEIRS],
                  sizeof(due_answers[OURS])) != 0) {
        differ("the calls in cleanups of pconf");
    }
}

/* ---- one operation ---- */

static void judge(exception_t exception, const op_t *op,
                  const handle_t *handle, step_t *step)
{
    if (exception != X_NONE) {
        use_exception(exception);
    }
    if (!answers_fit(exception, op, handle, &step->answer[OURS],
                     &step->answer[THEIRS])) {
        differ(exception == X_NONE ? "the answers"
                                   : "ours is not what is documented [%s]",
               exception_line(exception));
    }
}

/* Children create their own names, the parent the others. */
static int name_here(const op_t *op)
{
    int name = op->name;

    if (op->kind != OP_CREATE || is_anonymous(name)
        || handle_named(canonical(name))) {
        return name;
    }
    if (life.who) {
        return NAME_RUNTIME + name % 2;
    }
    return name >= NAME_RUNTIME ? NAME_FIRST_KEPT + name % 5 : name;
}

static void ask_by_name(const op_t *op, exception_t exception,
                        const handle_t *handle,
                        ap_slotmem_instance_t *inst[SIDES], step_t *step)
{
    int ours_alone = !asks_theirs(exception)
                     || (exception == X_OTHER_SIZE
                         && (!handle || handle->attached || handle->late
                             || handle->made_as != op->name));
    int side;

    for (side = 0; side < (ours_alone ? THEIRS : SIDES); side++) {
        host_use(dso[side]);
        shared->side = side;
        step->answer[side].asked = 1;
        if (op->kind == OP_CREATE) {
            ask_create(side, op, exception, handle, &inst[side],
                       &step->answer[side]);
        }
        else {
            ask_attach(side, op, exception, handle, &inst[side],
                       &step->answer[side]);
        }
    }
}

static void call_by_name(const op_t *asked, step_t *step)
{
    ap_slotmem_instance_t *inst[SIDES] = { UNTOUCHED, UNTOUCHED };
    op_t op = *asked;
    exception_t exception;
    handle_t *handle;

    op.name = (unsigned char)name_here(asked);
    handle = handle_named(canonical(op.name));
    if (life.handles_num == HANDLES_MAX || life.outdated
        || (handle && handle->runtime && !shared->lives[handle->runtime])) {
        return;
    }
    exception = documented(&op, handle);
    if (op.kind == OP_CREATE && !handle) {
        files_before_create(&op);
    }
    ask_by_name(&op, exception, handle, inst, step);
    judge(exception, &op, handle, step);
    if (!shared->failed && step->answer[OURS].rv == APR_SUCCESS
        && step->answer[OURS].value[0] == life.handles_num) {
        keep_instance(inst, &op, exception);
    }
}

void call(const op_t *op)
{
    step_t *step = &shared->steps[shared->at];
    exception_t exception;
    handle_t *handle = NULL;
    int side;

    step->done = 1;
    shared->calls++;
    if (op->kind == OP_CREATE || op->kind == OP_ATTACH) {
        call_by_name(op, step);
        return;
    }
    if (op->kind != OP_NULL) {
        if (!life.handles_num) {
            return;
        }
        handle = &life.handles[op->handle % life.handles_num];
        if (handle->stale) {
            return;
        }
    }
    if (op->kind == OP_CLEANUP) {
        register_due(op, handle);
        return;
    }
    exception = documented(op, handle);
    for (side = 0; side < SIDES; side++) {
        if (side == OURS || asks_theirs(exception)) {
            host_use(dso[side]);
            ask(side, op, handle, exception, &step->answer[side]);
        }
    }
    judge(exception, op, handle, step);
    if (handle) {
        note_configured(op, handle, &step->answer[OURS]);
    }
}
