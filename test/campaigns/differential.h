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
 * differential.h: the same calls made of two slotmem modules, side by side.
 *
 * differential.c        the run: workers, lives of the server, children
 * differential_make.c   sequences: made from a seed, made short, printed
 * differential_calls.c  one operation, made of both sides
 * differential_files.c  the persisted files of both sides
 * differential_image.c  one such file
 * differential_table.c  the documented differences
 *
 * A sequence is a list of operations. Each life of the server in it, from start
 * to stop or kill, is a forked process, and so is each child of it; what they
 * find is in shared memory, and outlives them.
 */

#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#include "host.h"

#include <stdint.h>

enum { OURS, THEIRS, SIDES };

#define OPS_MAX 64
#define HANDLES_MAX 24
#define SLOTS_MAX 1200
#define VALUES_MAX 40
#define CHILDREN 2
#define AREA_MAX 262144

/* what: of the server's life; files; one of the provider's calls */
typedef enum kind_t {
    OP_PASS, OP_LATE, OP_RUN, OP_STOP, OP_KILL, OP_FORK, OP_EXIT, OP_MONITOR,
    OP_SWAP, OP_DAMAGE, OP_REMOVE,
    OP_CREATE, OP_ATTACH, OP_DPTR, OP_WRITE, OP_GET, OP_PUT, OP_GRAB, OP_FGRAB,
    OP_RELEASE, OP_DOALL, OP_CLEANUP, OP_NULL,
    KINDS
} kind_t;

typedef struct op_t {
    unsigned char kind;
    unsigned char who;          /* 0: the parent; else a child, if it lives */
    unsigned char handle;       /* of those that there are, counted round */
    unsigned char name;
    unsigned char type;         /* AP_SLOTMEM_TYPE_*; or how, for others */
    uint32_t size;
    uint32_t num;
    uint32_t a;                 /* slot, or what the kind makes of it */
    uint32_t b;                 /* length or seed of bytes */
} op_t;

/* Names by number; what is below NAME_FIRST_KEPT is anonymous. */
enum {
    NAME_NULL, NAME_EMPTY, NAME_NONE, NAME_UPPER_NONE,
    NAME_FIRST_KEPT, NAME_SECOND, NAME_THIRD, NAME_ABSOLUTE, NAME_ABSOLUTE_2,
    NAME_ALIAS,                 /* the path of the first, as an absolute name */
    NAME_RUNTIME, NAME_RUNTIME_2,
    NAME_NEVER,
    NAMES
};

/* The documented differences; differential_table.c says what they are. */
typedef enum exception_t {
    X_NONE, X_NULL_INSTANCE, X_GRAB_FULL, X_TAKE_OVER, X_PAST_END,
    X_OTHER_SIZE, X_ALIAS, X_OVERFLOW, X_NO_MEMORY, X_SIBLING_CREATE,
    X_SIBLING_TWICE, X_SIBLING_GONE, X_PARENT_ATTACH, X_LEFT, X_LATE,
    X_LATE_NAME, X_NOT_RUN, X_CLAIMS_RESTORED, X_CLAIMS_STORED, X_SET_ASIDE,
    X_REFUSED, X_TAIL, X_GROWN, X_LIVE_CLEARED, X_COUNT, X_NO_DESCRIPTION,
    EXCEPTIONS
} exception_t;

typedef struct answer_t {
    int asked;
    int rv;
    int num;
    int64_t value[VALUES_MAX];
} answer_t;

typedef struct step_t {
    int done;
    exception_t exception;      /* the last that was used */
    answer_t answer[SIDES];
} step_t;

/* One segment, as this process knows it. */
typedef struct handle_t {
    ap_slotmem_instance_t *inst[SIDES];
    unsigned char *base[SIDES]; /* slot 0, or NULL: there is none */
    int name;
    int made_as;                /* the name that it was created by */
    apr_size_t size;
    unsigned num;
    unsigned type;
    int late;                   /* made after the distributed one's own
                                   post_config: X_LATE */
    int runtime;                /* by a child; its creator, 1 and on */
    int attached;               /* at run time, from a sibling */
    int refused;                /* its file was not restored */
    int miscounted;             /* with no slots, theirs counts free ones: as a
                                   refused file says */
    int stale;                  /* no longer compared */
    unsigned char config_claims[SLOTS_MAX];
    unsigned char used[SLOTS_MAX];
} handle_t;

/* Shared by all processes of a sequence. */
typedef struct shared_t {
    int at;                     /* the operation that is being made */
    int side;                   /* and of whom */
    int failed;                 /* 1: at the operation at */
    int finished;               /* 1: the life ended as it should */
    char what[400];
    step_t steps[OPS_MAX];
    struct {
        apr_size_t size;
        unsigned num;
        unsigned type;
        int creator;            /* 0: none yet */
    } runtime[NAMES];
    int left[NAMES];            /* the distributed one may have left it in the
                                   system's shared memory */
    int lives[OPS_MAX + 1];     /* the child is there */
    uint64_t used[EXCEPTIONS];
    uint64_t calls;
    uint64_t stores;
} shared_t;

extern shared_t *shared;
extern host_dso_t *dso[SIDES];
extern char scratch[SIDES][200];    /* a folder each: run and abs are in it */

/* The life of the server, in its process; the parent and its children. */
typedef struct life_t {
    enum { NO_GENERATION, CONFIGURES, CONFIGURED, RUNS } phase;
    int who;                    /* 0: the parent; else a child, numbered by
                                   the operation that made it */
    int outdated;               /* a child that has outlived its generation */
    int handles_num;
    handle_t handles[HANDLES_MAX];
} life_t;

extern life_t life;

/* Notes the first difference. */
void differ(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Notes that an exception was needed. */
void use_exception(exception_t exception);

const char *name_of(int side, int name);
int canonical(int name);        /* the same for names of the same segment */
int is_anonymous(int name);

/* differential_calls.c */
void call(const op_t *op);
void compare_cleanups(void);
void compare_segments(void);
void forget_cleanups(void);
void note_marks(void);          /* ask the distributed one which slots are in
                                   use, before it stores */

/* differential_table.c: what is documented of this call, or X_NONE. */
exception_t documented(const op_t *op, const handle_t *handle);
int asks_theirs(exception_t exception);
/* 1: the answers are those that are documented */
int answers_fit(exception_t exception, const op_t *op, const handle_t *handle,
                const answer_t *ours, const answer_t *theirs);
const char *exception_line(exception_t exception);
const char *exception_text(exception_t exception);

/* differential_files.c */
void files_clear(void);
void files_snapshot(void);      /* before a generation ends */
void files_compare(int stored);
void files_before_create(const op_t *op);
void files_restored(handle_t *handle);
void files_op(const op_t *op);

#endif
