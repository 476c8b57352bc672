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
 * differential_table.c: the documented differences between this module and the
 * distributed one, each with its line of the contract.
 *
 * documented() says before a call that the answers will differ. A call that the
 * distributed module does not survive is made to ours only. answers_fit()
 * checks our answer against the contract, and the other one against its known
 * behaviour. Everything that is not listed here must be the same.
 */

#include "differential.h"

static const struct {
    const char *line;
    int asks_theirs;
    const char *theirs;
} table[EXCEPTIONS] = {
    [X_NONE] = { "", 1, "" },
    [X_NULL_INSTANCE] = { "D", 0,
        "num_slots, num_free_slots, slot_size of NULL: crashes" },
    [X_GRAB_FULL] = { "D6", 1,
        "grab, full: leaves *item_id as it was" },
    [X_TAKE_OVER] = { "E2", 1,
        "grab in configuration, full: takes no run-time claim over" },
    [X_PAST_END] = { "D5", 1,
        "get, put: reads, writes past the end of the slots (asked for a "
        "length of 0 with PREGRAB, else not)" },
    [X_OTHER_SIZE] = { "C4", 1,
        "create of a name again, other item_size: success" },
    [X_ALIAS] = { "C2", 1,
        "a relative name, and its path as an absolute one: two segments that "
        "share a file (the first of the names is asked for instead)" },
    [X_OVERFLOW] = { "D1", 0,
        "create, the product overflows: success, with less memory" },
    [X_NO_MEMORY] = { "D1", 0,
        "create, more than there is: crashes" },
    [X_SIBLING_CREATE] = { "B8", 1,
        "create of a sibling's name: replaces it (attach is asked instead)" },
    [X_SIBLING_TWICE] = { "D2", 1,
        "attach of a sibling's name again: another pointer" },
    [X_SIBLING_GONE] = { "B8", 1,
        "attach, the creator is gone: finds what it left" },
    [X_PARENT_ATTACH] = { "B8", 0,
        "attach in the parent of what a child made: success" },
    [X_LEFT] = { "B7", 1,
        "attach of what an earlier run or generation left: success" },
    [X_LATE] = { "B6", 1,
        "create in the parent after its post_config: crashes at the end "
        "(created with no name instead)" },
    [X_LATE_NAME] = { "B6", 0,
        "create, attach of such a name again: not asked" },
    [X_NOT_RUN] = { "B10", 1,
        "a generation that did not reach the MPM is stored" },
    [X_CLAIMS_RESTORED] = { "E2", 1,
        "run-time claims of CLEARINUSE: not restored" },
    [X_CLAIMS_STORED] = { "E2", 1,
        "run-time claims of CLEARINUSE: not stored" },
    [X_SET_ASIDE] = { "E3", 1,
        "a file that is refused: written over" },
    [X_REFUSED] = { "E3", 1,
        "a file that is refused: its bytes, flags and count stay in the "
        "segment" },
    [X_TAIL] = { "E4", 1,
        "a file that was longer: keeps its length and its end" },
    [X_GROWN] = { "E5", 1,
        "a file with fewer slots: not restored" },
    [X_LIVE_CLEARED] = { "E2", 1,
        "a store of CLEARINUSE: clears the old children's in-use flags too" },
    [X_COUNT] = { "E4", 1,
        "a slot that get or put has claimed, no PREGRAB: not in the count "
        "that is stored" },
    [X_NO_DESCRIPTION] = { "E4", 1,
        "a file that ends after the MD5: not as ours" },
};

const char *exception_line(exception_t exception)
{
    return table[exception].line;
}

const char *exception_text(exception_t exception)
{
    return table[exception].theirs;
}

int asks_theirs(exception_t exception)
{
    return table[exception].asks_theirs;
}

/* The slot that the current grab must take over. */
static int slot_due;

/* The lowest slot of a full segment that the configuration has not claimed, for
 * a call during configuration; -1: none. */
static int slot_to_take_over(const handle_t *handle)
{
    unsigned both = AP_SLOTMEM_TYPE_PERSIST | AP_SLOTMEM_TYPE_CLEARINUSE;
    unsigned i;

    if ((handle->type & both) != both || is_anonymous(handle->name)
        || handle->runtime || life.phase == RUNS) {
        return -1;
    }
    for (i = 0; i < handle->num; i++) {
        if (!handle->config_claims[i]) {
            return (int)i;
        }
    }
    return -1;
}

static exception_t documented_create(const op_t *op, const handle_t *handle)
{
    int name = canonical(op->name);

    if (handle) {
        if (handle->size != op->size || (op->type & 0xc0)) {
            return X_OTHER_SIZE;
        }
        if (handle->late) {
            return X_LATE_NAME;
        }
        if (handle->made_as != op->name) {
            return X_ALIAS;
        }
        return handle->attached ? X_SIBLING_CREATE : X_NONE;
    }
    if (op->type & 0x80) {
        return X_OVERFLOW;
    }
    if (op->type & 0x40) {
        return X_NO_MEMORY;
    }
    if (life.who && !is_anonymous(name) && shared->runtime[name].creator
        && shared->lives[shared->runtime[name].creator]) {
        return shared->runtime[name].size == op->size ? X_SIBLING_CREATE
                                                      : X_OTHER_SIZE;
    }
    if ((life.phase == CONFIGURED || (life.phase == RUNS && !life.who))
        && !is_anonymous(name)) {
        return X_LATE;
    }
    return X_NONE;
}

static exception_t documented_attach(const op_t *op, const handle_t *handle)
{
    int name = canonical(op->name);
    int creator = shared->runtime[name].creator;

    if (handle && handle->late) {
        return X_LATE_NAME;
    }
    if (handle && handle->made_as != op->name) {
        return X_ALIAS;
    }
    if (handle) {
        return handle->attached ? X_SIBLING_TWICE : X_NONE;
    }
    if (is_anonymous(name)) {
        return X_NONE;
    }
    if (!creator) {
        return shared->left[op->name] ? X_LEFT : X_NONE;
    }
    if (!life.who) {
        return X_PARENT_ATTACH;
    }
    return shared->lives[creator] ? X_NONE : X_SIBLING_GONE;
}

static exception_t documented_copy(const op_t *op, const handle_t *handle)
{
    apr_size_t area = handle->size * handle->num;

    if (op->a < handle->num && op->b > area - op->a * handle->size) {
        return X_PAST_END;
    }
    return X_NONE;
}

exception_t documented(const op_t *op, const handle_t *handle)
{
    if (life.phase == NO_GENERATION && op->kind != OP_NULL) {
        return X_NONE;
    }
    switch (op->kind) {
    case OP_CREATE:
        return documented_create(op, handle);
    case OP_ATTACH:
        return documented_attach(op, handle);
    case OP_NULL:
        return op->a % 10 >= 7 ? X_NULL_INSTANCE : X_NONE;
    case OP_GET:
    case OP_PUT:
        return documented_copy(op, handle);
    case OP_GRAB:
        if (dso[OURS]->provider->num_free_slots(handle->inst[OURS])) {
            return X_NONE;
        }
        slot_due = slot_to_take_over(handle);
        return slot_due < 0 ? X_GRAB_FULL : X_TAKE_OVER;
    default:
        return X_NONE;
    }
}

static int same(const answer_t *one, const answer_t *other)
{
    return one->rv == other->rv && one->num == other->num
           && memcmp(one->value, other->value,
                     (size_t)one->num * sizeof(*one->value)) == 0;
}

/* create and attach. value[0]: -2 untouched, -1 NULL, else the instance. */
static int named_fit(exception_t exception, const handle_t *handle,
                     const answer_t *ours, const answer_t *theirs)
{
    switch (exception) {
    case X_OTHER_SIZE:
        return ours->rv == APR_EINVAL && ours->value[0] == -1
               && (!theirs->asked || theirs->rv == APR_SUCCESS);
    case X_OVERFLOW:
        return ours->rv == APR_EINVAL && ours->value[0] == -1;
    case X_NO_MEMORY:
        return ours->rv != APR_SUCCESS && ours->value[0] == -1;
    case X_LEFT:
    case X_SIBLING_GONE:
        return ours->rv == APR_ENOENT && ours->value[0] == -2
               && (same(ours, theirs) || theirs->rv == APR_SUCCESS);
    case X_PARENT_ATTACH:
        return ours->rv == APR_ENOENT && ours->value[0] == -2;
    case X_LATE_NAME:
        return ours->rv == APR_SUCCESS
               && ours->value[0] == handle - life.handles;
    case X_SIBLING_CREATE:
        if (!handle) {
            return same(ours, theirs);
        }
        /* fall through */
    case X_SIBLING_TWICE:
        return ours->rv == APR_SUCCESS && theirs->rv == APR_SUCCESS
               && ours->value[0] == handle - life.handles;
    default:
        return same(ours, theirs);
    }
}

/* value[0] of grab: the id. */
int answers_fit(exception_t exception, const op_t *op, const handle_t *handle,
                const answer_t *ours, const answer_t *theirs)
{
    switch (exception) {
    case X_NULL_INSTANCE:
        return ours->rv == 0;
    case X_GRAB_FULL:
        return ours->rv == APR_EINVAL && ours->value[0] == handle->num
               && theirs->rv == APR_EINVAL && theirs->value[0] == op->b;
    case X_TAKE_OVER:
        return ours->rv == APR_SUCCESS
               && ours->value[0] == slot_due
               && theirs->rv == APR_EINVAL && theirs->value[0] == op->b;
    case X_PAST_END:
        return ours->rv == (theirs->asked && theirs->rv == APR_NOTFOUND
                            ? APR_NOTFOUND : APR_EINVAL);
    default:
        return named_fit(exception, handle, ours, theirs);
    }
}
