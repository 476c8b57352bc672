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
 * differential.h: makes the same calls to two slotmem modules, side by side.
 *
 * differential.c        the run: workers, lives of the server, children
 * differential_make.c   sequences: made from a seed, shortened, printed
 * differential_calls.c  one operation on both sides
 * differential_files.c  the persisted files of both sides
 * differential_image.c  one such file
 * differential_table.c  the documented differences
 *
 * A sequence is a list of operations. Each life of the server in it, from start
 * to stop or kill, is a forked process, and so is each of its children. Their
 * results are in shared memory, and outlive them.
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

/* kinds: phases of the server's life; files; the provider's calls */
typedef enum kind_t {
    OP_PASS, OP_LATE, OP_RUN, OP_STOP, OP_KILL, OP_FORK, OP_EXIT, OP_MONITOR,
    OP_SWAP, OP_DAMAGE, OP_REMOVE,
    OP_CREATE, OP_ATTACH, OP_DPTR, OP_WRITE, OP_GET, OP_PUT, OP_GRAB, OP_FGRAB,
    OP_RELEASE, OP_DOALL, OP_CLEANUP, OP_NULL,
    KINDS
} kind_t;

typedef struct op_t {
    unsigned char kind;
    unsigned char who;          /* 0: the parent; else a child, if alive */
    unsigned char handle;       /* modulo the number of handles */
    unsigned char name;
    unsigned char type;         /* AP_SLOTMEM_TYPE_*, or a variant */
    uint32_t size;
    uint32_t num;
    uint32_t a;                 /* slot, or as the kind defines it */
    uint32_t b;                 /* length, or seed of the bytes */
} op_t;

/* Names by number; those below NAME_FIRST_KEPT are anonymous. */
enum {
    NAME_NULL, NAME_EMPTY, NAME_NONE, NAME_UPPER_NONE,
    NAME_FIRST_KEPT, NAME_SECOND, NAME_THIRD, NAME_ABSOLUTE, NAME_ABSOLUTE_2,
    NAME_ALIAS,                 /* the first one's path as an absolute name */
    NAME_RUNTIME, NAME_RUNTIME_2,
    NAME_NEVER,
    NAMES
};

/* The documented differences; differential_table.c describes them. */
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
    exception_t exception;      /* the last one used */
    answer_t answer[SIDES];
} step_t;

/* One segment as this process knows it. */
typedef struct handle_t {
    ap_slotmem_instance_t *inst[SIDES];
    unsigned char *base[SIDES]; /* slot 0, or NULL: there is none */
    int name;
    int made_as;                /* the name under which it was created */
    apr_size_t size;
    unsigned num;
    unsigned type;
    int late;                   /* created after the distributed module's
                                   post_config: X_LATE */
    int runtime;                /* created by a child: its number, from 1 */
    int attached;               /* at run time, to a sibling's segment */
    int refused;                /* its file was not restored */
    int miscounted;             /* without slots, theirs takes the number of
                                   free ones from a refused file */
    int stale;                  /* no longer compared */
    unsigned char config_claims[SLOTS_MAX];
    unsigned char used[SLOTS_MAX];
} handle_t;

/* Shared by all processes of a sequence. */
typedef struct shared_t {
    int at;                     /* the current operation */
    int side;                   /* the side that it runs on */
    int failed;                 /* 1: operation `at` failed */
    int finished;               /* 1: the life ended as it should */
    char what[400];
    step_t steps[OPS_MAX];
    struct {
        apr_size_t size;
        unsigned num;
        unsigned type;
        int creator;            /* 0: none yet */
    } runtime[NAMES];
    int left[NAMES];            /* the distributed module may have left it in
                                   the system's shared memory */
    int lives[OPS_MAX + 1];     /* the child is alive */
    uint64_t used[EXCEPTIONS];
    uint64_t calls;
    uint64_t stores;
} shared_t;

extern shared_t *shared;
extern host_dso_t *dso[SIDES];
extern char scratch[SIDES][200];    /* a directory per side, for run and abs */

/* The life of the server in this process, the parent or a child. */
typedef struct life_t {
    enum { NO_GENERATION, CONFIGURES, CONFIGURED, RUNS } phase;
    int who;                    /* 0: the parent; else the number of the
                                   operation that forked this child */
    int outdated;               /* the child has outlived its generation */
    int handles_num;
    handle_t handles[HANDLES_MAX];
} life_t;

extern life_t life;

/* Notes the first difference. */
void differ(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Notes that an exception was needed. */
void use_exception(exception_t exception);

const char *name_of(int side, int name);
int canonical(int name);        /* equal for names of the same segment */
int is_anonymous(int name);

/* differential_calls.c */
void call(const op_t *op);
void compare_cleanups(void);
void compare_segments(void);
void forget_cleanups(void);
void note_in_use(void);         /* ask the distributed module which slots are
                                   in use, before it stores */

/* differential_table.c: the documented difference of this call, or X_NONE. */
exception_t documented(const op_t *op, const handle_t *handle);
int asks_theirs(exception_t exception);
/* 1: the answers are as documented */
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
