/* Licensed under the Apache License, Version 2.0 (the "License"); you may not
 * use this file except in compliance with the License.  You may obtain a copy
 * of the License at
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.  See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/*
 * A consumer of the slotmem provider that the tests control remotely.
 *
 * It knows small commands of the form "op key=value key=value".  A command
 * runs in the phase of the server that the configuration names,
 *
 *     SlotmemTest WHEN op key=value ...
 *
 * or in a request: /slotmem?op+key=value;op+key=value runs one after the
 * other in one process, with the values in URL encoding.  Each command answers
 * with one block of key=value lines, separated by empty lines.  The answers of
 * commands that ran outside a request are kept; the command "results" returns
 * them.
 *
 * WHEN is "config" (when the directive is read), "open_logs" (when the logs are
 * open, before any post_config), "post_config-first", "post_config",
 * "post_config-last", "child_init-first", "child_init", "child_exit" (a cleanup
 * of pchild) or "cleanup" (one of pconf); the answers of the last two go to the
 * log.  The first configuration pass runs only commands with passes=both.
 *
 * Out parameters are preset, so that an answer can say "untouched".  Handles
 * are kept by name (or as=NAME) in a table that children inherit by fork; each
 * child then has its own copy.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"
#include "http_protocol.h"
#include "http_request.h"
#include "ap_mpm.h"
#include "ap_provider.h"
#include "ap_slotmem.h"
#include "apr_atomic.h"
#include "apr_file_io.h"
#include "apr_lib.h"
#include "apr_strings.h"
#include "apr_tables.h"
#include "apr_thread_mutex.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define UNTOUCHED_INST ((ap_slotmem_instance_t *)0x51)
#define UNTOUCHED_MEM ((void *)0x52)
#define UNTOUCHED_NUM 0xdeadbeefu
#define UNTOUCHED_BYTE 0xee
#define NOT_A_POOL ((apr_pool_t *)0x53)
#define SHOWN_BYTES 512

module AP_MODULE_DECLARE_DATA slotmem_test_module;

typedef struct {
    const char *when;
    const char *line;
} command_t;

/* A running command. */
typedef struct {
    const char *op;
    apr_table_t *args;
    apr_array_header_t *answer;  /* of const char *: the finished blocks */
    apr_array_header_t *out;     /* of const char *: lines of this block */
    apr_pool_t *pool;            /* for this request or phase */
    ap_slotmem_instance_t *inst; /* of as= or name=; NULL with null=1 */
    int failed;                  /* the hook shall return an error */
} call_t;

typedef struct {
    const char *op;
    void (*run)(call_t *c);
    int needs_inst;
} op_t;

static struct {
    char name[128];
    ap_slotmem_instance_t *inst;
} handles[1024];
static int handles_used;
static apr_thread_mutex_t *handles_mutex; /* in children */

static const ap_slotmem_provider_t *provider;
static apr_status_t early_status = APR_ENOTIMPL; /* create in register_hooks */
static int early_inst_null;
static apr_array_header_t *commands;
static char journal[1 << 16];
static apr_size_t journal_len;
static pid_t cleanup_pid;
static apr_uint32_t stress_seq;
static void *kept;                        /* from dptr keep=1 */

static void run_command(call_t *parent, const char *line);

/* ---- small helpers ---- */

static const char *status_name(apr_pool_t *p, apr_status_t rv)
{
    static const struct {
        apr_status_t rv;
        const char *name;
    } names[] = {
        {APR_SUCCESS, "APR_SUCCESS"},   {APR_EINVAL, "APR_EINVAL"},
        {APR_NOTFOUND, "APR_NOTFOUND"}, {APR_ENOSHMAVAIL, "APR_ENOSHMAVAIL"},
        {APR_ENOENT, "APR_ENOENT"},     {APR_ENOMEM, "APR_ENOMEM"},
        {APR_ENOTIMPL, "APR_ENOTIMPL"}, {APR_EEXIST, "APR_EEXIST"},
        {APR_ENOSPC, "APR_ENOSPC"},     {APR_EACCES, "APR_EACCES"},
        {APR_TIMEUP, "APR_TIMEUP"},     {EMFILE, "EMFILE"},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].rv == rv) {
            return names[i].name;
        }
    }
    return apr_psprintf(p, "%d", rv);
}

static void say(call_t *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void say(call_t *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    APR_ARRAY_PUSH(c->out, const char *) = apr_pvsprintf(c->pool, fmt, ap);
    va_end(ap);
}

static void say_status(call_t *c, apr_status_t rv)
{
    say(c, "status=%s", status_name(c->pool, rv));
}

/* Shows up to SHOWN_BYTES of memory: printable bytes as they are, the others
 * as %XX, without the zero bytes at the end. */
static void say_data(call_t *c, const void *mem, apr_size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    const unsigned char *s = mem;
    char *text, *t;
    apr_size_t i, end = 0;

    for (i = 0; i < len; i++) {
        end = s[i] ? i + 1 : end;
    }
    say(c, "zero=%d", end == 0);
    if (end > SHOWN_BYTES) {
        end = SHOWN_BYTES;
    }
    text = t = apr_palloc(c->pool, end * 3 + 1);
    for (i = 0; i < end; i++) {
        if (apr_isalnum(s[i]) || s[i] == '-' || s[i] == '.') {
            *t++ = (char)s[i];
        }
        else {
            *t++ = '%';
            *t++ = hex[s[i] >> 4];
            *t++ = hex[s[i] & 15];
        }
    }
    *t = '\0';
    say(c, "data=%s", text);
}

static const char *arg(call_t *c, const char *key)
{
    return apr_table_get(c->args, key);
}

static apr_uint64_t num_arg(call_t *c, const char *key, apr_uint64_t dflt)
{
    const char *v = arg(c, key);

    return v ? (apr_uint64_t)strtoull(v, NULL, 0) : dflt;
}

static unsigned int id_arg(call_t *c)
{
    return (unsigned int)num_arg(c, "id", 0);
}

static int is_there(call_t *c, const char *key)
{
    return arg(c, key) && access(arg(c, key), F_OK) == 0;
}

/* Creates the file at= with the pid in it, to say that the request has got
 * this far. */
static void announce(call_t *c)
{
    apr_file_t *f;

    if (arg(c, "at")
        && apr_file_open(&f, arg(c, "at"), APR_WRITE | APR_CREATE,
                         APR_OS_DEFAULT, c->pool) == APR_SUCCESS) {
        apr_file_printf(f, "%d\n", (int)getpid());
        apr_file_close(f);
    }
}

/* ---- handles ---- */

static void lock_handles(void)
{
    if (handles_mutex) {
        apr_thread_mutex_lock(handles_mutex);
    }
}

static void unlock_handles(void)
{
    if (handles_mutex) {
        apr_thread_mutex_unlock(handles_mutex);
    }
}

static ap_slotmem_instance_t *handle_get(const char *name)
{
    ap_slotmem_instance_t *inst = NULL;
    int i;

    lock_handles();
    for (i = 0; i < handles_used && !inst; i++) {
        if (!strcmp(handles[i].name, name)) {
            inst = handles[i].inst;
        }
    }
    unlock_handles();
    return inst;
}

static void handle_set(const char *name, ap_slotmem_instance_t *inst)
{
    int i = 0;

    lock_handles();
    while (i < handles_used && strcmp(handles[i].name, name)) {
        i++;
    }
    if (i < (int)(sizeof(handles) / sizeof(handles[0]))) {
        apr_cpystrn(handles[i].name, name, sizeof(handles[i].name));
        handles[i].inst = inst;
        handles_used = i < handles_used ? handles_used : i + 1;
    }
    unlock_handles();
}

/* The value of name=, or a null pointer without one. */
static const char *alias(call_t *c)
{
    const char *as = arg(c, "as");

    as = as ? as : arg(c, "name");
    return as ? as : "null";
}

static void say_inst(call_t *c, ap_slotmem_instance_t *inst)
{
    ap_slotmem_instance_t *old = handle_get(alias(c));

    if (inst == UNTOUCHED_INST) {
        say(c, "inst=untouched");
    }
    else {
        say(c, "inst=%s", inst ? "set" : "null");
        say(c, "same=%d", inst && inst == old);
    }
}

/* ---- the provider's calls ---- */

static ap_slotmem_type_t type_arg(call_t *c)
{
    const char *v = arg(c, "type");
    ap_slotmem_type_t type = 0;

    if (v) {
        type |= strstr(v, "persist") ? AP_SLOTMEM_TYPE_PERSIST : 0;
        type |= strstr(v, "pregrab") ? AP_SLOTMEM_TYPE_PREGRAB : 0;
        type |= strstr(v, "clearinuse") ? AP_SLOTMEM_TYPE_CLEARINUSE : 0;
    }
    return type;
}

/* No file may grow, so SIGXFSZ arrives in the middle of create. */
static void signal_in_create(void)
{
    struct rlimit none;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    signal(SIGXFSZ, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    getrlimit(RLIMIT_FSIZE, &none);
    none.rlim_cur = 0;
    setrlimit(RLIMIT_FSIZE, &none);
}

/* The pool that is passed to create is destroyed right after the call.  With
 * emfile=1 the process may open no further file during create.  With die=1 it
 * is killed when create first writes to a new file (which includes named shared
 * memory). */
static void op_create(call_t *c)
{
    ap_slotmem_instance_t *inst = UNTOUCHED_INST;
    apr_pool_t *pool = NULL;
    struct rlimit old, none;
    int emfile = arg(c, "emfile") != NULL;
    apr_status_t rv;

    apr_pool_create(&pool, c->pool);
    if (arg(c, "die")) {
        signal_in_create();
    }
    if (emfile && getrlimit(RLIMIT_NOFILE, &old) == 0) {
        none = old;
        none.rlim_cur = 0;
        setrlimit(RLIMIT_NOFILE, &none);
    }
    rv = provider->create(&inst, arg(c, "name"),
                          (apr_size_t)num_arg(c, "size", 0),
                          (unsigned int)num_arg(c, "num", 0), type_arg(c),
                          pool);
    if (emfile) {
        setrlimit(RLIMIT_NOFILE, &old);
    }
    apr_pool_destroy(pool);
    say_status(c, rv);
    say_inst(c, inst);
    if (rv == APR_SUCCESS) {
        handle_set(alias(c), inst);
        say(c, "num=%u", provider->num_slots(inst));
        say(c, "size=%" APR_SIZE_T_FMT, provider->slot_size(inst));
    }
}

static void op_attach(call_t *c)
{
    ap_slotmem_instance_t *inst = UNTOUCHED_INST;
    apr_size_t size = UNTOUCHED_NUM;
    unsigned int num = UNTOUCHED_NUM;
    apr_status_t rv;

    rv = provider->attach(&inst, arg(c, "name"), &size, &num, c->pool);
    say_status(c, rv);
    say_inst(c, inst);
    if (rv == APR_SUCCESS) {
        handle_set(alias(c), inst);
    }
    say(c, "size=%s", size == UNTOUCHED_NUM
            ? "untouched" : apr_psprintf(c->pool, "%" APR_SIZE_T_FMT, size));
    say(c, "num=%s", num == UNTOUCHED_NUM
            ? "untouched" : apr_psprintf(c->pool, "%u", num));
}

/* The offset of a slot from slot 0, for any instance. */
static apr_int64_t offset_of(call_t *c, const void *mem)
{
    void *base = NULL;

    if (provider->dptr(c->inst, 0, &base) != APR_SUCCESS) {
        return -1;
    }
    return (const char *)mem - (const char *)base;
}

static void op_dptr(call_t *c)
{
    void *mem = UNTOUCHED_MEM;
    apr_status_t rv = provider->dptr(c->inst, id_arg(c), &mem);

    say_status(c, rv);
    if (rv != APR_SUCCESS) {
        say(c, "mem=%s", mem == UNTOUCHED_MEM ? "untouched" : "touched");
        return;
    }
    say(c, "offset=%" APR_INT64_T_FMT, offset_of(c, mem));
    say(c, "align=%d", (int)((apr_uintptr_t)mem % 16));
    say(c, "address=%lx", (unsigned long)(apr_uintptr_t)mem);
    say_data(c, mem, provider->slot_size(c->inst));
    if (arg(c, "keep")) {
        kept = mem;
    }
}

/* The bytes of all slots.  Without an instance only the tested call is made. */
static apr_size_t area_of(call_t *c)
{
    return c->inst ? provider->slot_size(c->inst)
                     * provider->num_slots(c->inst) : 0;
}

/* What to write: data=, or fill= repeated. The length is len=, with zero bytes
 * after data=, or that of data=. The buffer is only a little larger than the
 * slot area: the provider must refuse a greater length anyway. */
static unsigned char *bytes_arg(call_t *c, apr_size_t *len)
{
    const char *data = arg(c, "data") ? arg(c, "data") : "";
    apr_size_t room = area_of(c) + 64;
    unsigned char *bytes = apr_pcalloc(c->pool, room);

    if (arg(c, "fill")) {
        memset(bytes, arg(c, "fill")[0], room);
    }
    memcpy(bytes, data, strlen(data) < room ? strlen(data) : room);
    *len = (apr_size_t)num_arg(c, "len", strlen(data));
    return bytes;
}

/* Writes into a slot through its pointer, as a balancer does; with kept=1
 * through the pointer that an earlier dptr kept. */
static void op_poke(call_t *c)
{
    apr_size_t len;
    unsigned char *bytes = bytes_arg(c, &len);
    void *mem = kept;
    apr_status_t rv = APR_SUCCESS;

    if (!arg(c, "kept")) {
        rv = provider->dptr(c->inst, id_arg(c), &mem);
    }
    say_status(c, rv);
    if (rv == APR_SUCCESS && mem) {
        memcpy(mem, bytes, len);
    }
}

/* Fills all slots of a segment through one pointer. */
static void op_dump(call_t *c)
{
    void *mem = NULL;
    apr_status_t rv = provider->dptr(c->inst, 0, &mem);

    say_status(c, rv);
    if (rv == APR_SUCCESS) {
        say_data(c, mem, provider->slot_size(c->inst)
                         * provider->num_slots(c->inst));
    }
}

/* The buffer is only a little larger than the slot area: the provider must
 * refuse a greater length anyway. */
static void op_get(call_t *c)
{
    apr_size_t size = c->inst ? provider->slot_size(c->inst) : 0, i;
    apr_size_t len = (apr_size_t)num_arg(c, "len", size);
    apr_size_t room = area_of(c) + 64;
    unsigned char *dest = apr_palloc(c->pool, room);
    apr_status_t rv;

    memset(dest, UNTOUCHED_BYTE, room);
    rv = provider->get(c->inst, id_arg(c), dest, len);
    say_status(c, rv);
    for (i = rv == APR_SUCCESS ? len : 0; i < room; i++) {
        if (dest[i] != UNTOUCHED_BYTE) {
            break;
        }
    }
    say(c, "rest=%s", i == room ? "untouched" : "touched");
    if (rv == APR_SUCCESS) {
        say_data(c, dest, len);
    }
}

static void op_put(call_t *c)
{
    apr_size_t len;
    unsigned char *bytes = bytes_arg(c, &len);

    say_status(c, provider->put(c->inst, id_arg(c), bytes, len));
}

static void op_grab(call_t *c)
{
    unsigned int id = UNTOUCHED_NUM;
    apr_status_t rv = provider->grab(c->inst, &id);

    say_status(c, rv);
    say(c, "id=%s", id == UNTOUCHED_NUM
            ? "untouched" : apr_psprintf(c->pool, "%u", id));
}

static void op_fgrab(call_t *c)
{
    say_status(c, provider->fgrab(c->inst, id_arg(c)));
}

static void op_release(call_t *c)
{
    say_status(c, provider->release(c->inst, id_arg(c)));
}

static void op_info(call_t *c)
{
    say(c, "num=%u", provider->num_slots(c->inst));
    say(c, "free=%u", provider->num_free_slots(c->inst));
    say(c, "size=%" APR_SIZE_T_FMT, provider->slot_size(c->inst));
}

typedef struct {
    call_t *c;
    apr_pool_t *pool;
    apr_uint64_t visits;
    const char *ids;
    const char *each;
    int pool_ok;
    jmp_buf leave;
} visit_t;

/* With mark= it writes a digit into each slot; with each=OP,key=value it runs a
 * command in the callback.  It returns code= at visit number stop=, or leaves
 * doall by longjmp at visit number leave=. */
static apr_status_t visit(void *mem, void *data, apr_pool_t *pool)
{
    visit_t *v = data;
    call_t *c = v->c;
    apr_size_t size = provider->slot_size(c->inst);
    unsigned int id = size ? (unsigned int)(offset_of(c, mem)
                                            / (apr_int64_t)size) : 0;

    v->ids = apr_psprintf(c->pool, "%s%s%u", v->ids, *v->ids ? "," : "", id);
    v->pool_ok &= pool == v->pool;
    v->visits++;
    if (arg(c, "mark")) {
        *(char *)mem = arg(c, "mark")[0];
    }
    if (v->each) {
        run_command(c, v->each);
    }
    if (v->visits == num_arg(c, "leave", 0)) {
        longjmp(v->leave, 1);
    }
    if (v->visits == num_arg(c, "stop", 0)) {
        return (apr_status_t)num_arg(c, "code", 1);
    }
    return APR_SUCCESS;
}

static void op_doall(call_t *c)
{
    visit_t v = {.c = c, .pool = c->pool, .ids = "", .pool_ok = 1};
    apr_status_t rv;

    if (setjmp(v.leave)) {
        say(c, "left=1");
        return;
    }
    if (arg(c, "each")) {
        char *each = apr_pstrdup(c->pool, arg(c, "each")), *s;

        for (s = each; *s; s++) {
            *s = *s == ',' ? ' ' : *s;
        }
        v.each = each;
    }
    if (arg(c, "nopool")) {
        v.pool = NOT_A_POOL;
    }
    rv = provider->doall(c->inst, visit, &v, v.pool);
    say_status(c, rv);
    say(c, "visited=%s", v.ids);
    say(c, "visits=%" APR_UINT64_T_FMT, v.visits);
    say(c, "pool=%s", v.pool_ok ? "same" : "other");
}

/* Does what mod_proxy_balancer does for each member: looks for its content in
 * all slots, takes its slot if it is found, and any free slot if not. */
static void op_claim(call_t *c)
{
    const char *data = arg(c, "data") ? arg(c, "data") : "?";
    apr_size_t len = strlen(data) + 1;
    unsigned int id, num = provider->num_slots(c->inst);
    void *mem = NULL;
    apr_status_t rv = APR_NOTFOUND;

    for (id = 0; id < num; id++) {
        if (provider->dptr(c->inst, id, &mem) == APR_SUCCESS
            && !memcmp(mem, data, len)) {
            rv = provider->fgrab(c->inst, id);
            break;
        }
    }
    say(c, "found=%d", id < num);
    if (id == num) {
        rv = provider->grab(c->inst, &id);
        if (rv == APR_SUCCESS
            && (rv = provider->dptr(c->inst, id, &mem)) == APR_SUCCESS) {
            memcpy(mem, data, len);
        }
    }
    say_status(c, rv);
    say(c, "id=%u", id);
}

/* Repeats grab, own, release rounds= times, or until the file until= exists.
 * The first word of a slot names its owner, so two owners at once would see
 * each other there. */
static void op_stress(call_t *c)
{
    apr_uint32_t me = (apr_uint32_t)getpid() << 10
                      | (apr_atomic_inc32(&stress_seq) & 1023);
    apr_uint64_t i, rounds = num_arg(c, "rounds", 1000);
    unsigned int num = provider->num_slots(c->inst);
    unsigned int grants = 0, full = 0, twice = 0, lost = 0, errors = 0, id;
    void *mem;

    announce(c);
    for (i = 0; i < rounds && (i % 1024 || !is_there(c, "until")); i++) {
        apr_uint32_t *owner;

        if (provider->grab(c->inst, &id) != APR_SUCCESS) {
            full++;
            continue;
        }
        grants++;
        if (provider->dptr(c->inst, id, &mem) != APR_SUCCESS) {
            errors++;
            continue;
        }
        owner = mem;
        twice += apr_atomic_cas32(owner, me, 0) != 0;
        errors += provider->num_free_slots(c->inst) >= num;
        lost += apr_atomic_cas32(owner, 0, me) != me;
        errors += provider->release(c->inst, id) != APR_SUCCESS;
    }
    say(c, "grants=%u", grants);
    say(c, "full=%u", full);
    say(c, "twice=%u", twice);
    say(c, "lost=%u", lost);
    say(c, "errors=%u", errors);
}

/* ---- commands that do not concern an instance ---- */

static void op_who(call_t *c)
{
    int generation = -1;

    ap_mpm_query(AP_MPMQ_GENERATION, &generation);
    say(c, "generation=%d", generation);
    say(c, "uid=%d", (int)getuid());
}

/* Only the process pid= runs the rest of the request. */
static void op_only(call_t *c)
{
    c->failed = num_arg(c, "pid", 0) != (apr_uint64_t)getpid();
    say(c, "here=%d", !c->failed);
}

static void op_identity(call_t *c)
{
    const ap_slotmem_provider_t *shared, *shm;
    module *m = ap_find_linked_module("mod_slotmem_shm.c");

    shared = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shared",
                                AP_SLOTMEM_PROVIDER_VERSION);
    shm = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shm",
                             AP_SLOTMEM_PROVIDER_VERSION);
    say(c, "shared=%d", shared != NULL);
    say(c, "shm=%d", shm != NULL);
    say(c, "one=%d", shared == shm);
    say(c, "name=%s", provider->name);
    say(c, "module=%s", m ? m->name : "none");
    say(c, "version=%s", ap_get_server_banner());
    say(c, "functions=%d", provider->doall && provider->create
                           && provider->attach && provider->dptr
                           && provider->get && provider->put
                           && provider->num_slots && provider->num_free_slots
                           && provider->slot_size && provider->grab
                           && provider->release && provider->fgrab);
    say(c, "early=%s", status_name(c->pool, early_status));
    say(c, "early_inst=%s", early_inst_null ? "null" : "other");
}

/* Waits until file= exists, for at most max= seconds. */
static void op_wait(call_t *c)
{
    apr_time_t end = apr_time_now()
                     + apr_time_from_sec((apr_time_t)num_arg(c, "max", 10));

    announce(c);
    while (!is_there(c, "file") && apr_time_now() < end) {
        apr_sleep(5000);
    }
    say_status(c, is_there(c, "file") ? APR_SUCCESS : APR_ENOENT);
}

static void op_results(call_t *c)
{
    say(c, "%s", apr_pstrmemdup(c->pool, journal, journal_len));
}

static void op_fail(call_t *c)
{
    c->failed = 1;
}

static void set_limit(call_t *c, int what, rlim_t value)
{
    struct rlimit limit;

    if (getrlimit(what, &limit) == 0) {
        limit.rlim_cur = value < limit.rlim_max ? value : limit.rlim_max;
        say_status(c, setrlimit(what, &limit) ? errno : APR_SUCCESS);
    }
}

/* The bytes of address space that the process uses now. */
static rlim_t address_space(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (statm) {
        if (fscanf(statm, "%lu", &pages) != 1) {
            pages = 0;
        }
        fclose(statm);
    }
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Sets limits: spare= more files may be opened; no file, and no named shared
 * memory, may grow beyond file= bytes; the user may have processes= processes;
 * memory= more bytes may be allocated (-1: no limit). */
static void op_limit(call_t *c)
{
    if (arg(c, "spare")) {
        int next = open("/dev/null", O_RDONLY);

        close(next);
        set_limit(c, RLIMIT_NOFILE, (rlim_t)next + num_arg(c, "spare", 0));
    }
    if (arg(c, "file")) {
        signal(SIGXFSZ, SIG_IGN);
        set_limit(c, RLIMIT_FSIZE, (rlim_t)num_arg(c, "file", 0));
    }
    if (arg(c, "processes")) {
        set_limit(c, RLIMIT_NPROC, (rlim_t)num_arg(c, "processes", 0));
    }
    if (arg(c, "memory")) {
        set_limit(c, RLIMIT_AS, strcmp(arg(c, "memory"), "-1") == 0
                                ? RLIM_INFINITY
                                : address_space()
                                  + (rlim_t)num_arg(c, "memory", 0));
    }
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void set_alarm(suseconds_t usec)
{
    struct itimerval timer = {{0, usec}, {0, usec}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static apr_status_t end_hurry(void *dummy)
{
    set_alarm(0);
    signal(SIGALRM, SIG_IGN);
    return APR_SUCCESS;
}

/* In post_config: makes the monitor hooks run every ten times ms= instead of
 * every ten seconds.  They run in each tenth pass of a loop in the parent that
 * sleeps for a second or until a signal arrives. */
static void op_hurry(call_t *c)
{
    signal(SIGALRM, on_alarm);
    apr_pool_cleanup_register(c->pool, NULL, end_hurry, apr_pool_cleanup_null);
    set_alarm((suseconds_t)num_arg(c, "ms", 20) * 1000);
}

/* Notifies the supervisor of the server, as sd_notify() does, but leaves the
 * socket open in processes that are forked later. */
static void notify(const char *state)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    char text[64];
    int fd = path ? socket(AF_UNIX, SOCK_DGRAM, 0) : -1;

    if (fd >= 0) {
        apr_cpystrn(to.sun_path, path, sizeof(to.sun_path));
        apr_snprintf(text, sizeof(text), "%s=1 %d", state, (int)getpid());
        sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&to,
               sizeof(to));
    }
}

static apr_status_t notify_end(void *dummy)
{
    notify("STOPPING");
    return APR_SUCCESS;
}

/* Now, and in any process that clears the pool. */
static void op_notify(call_t *c)
{
    notify("READY");
    apr_pool_cleanup_register(c->pool, NULL, notify_end,
                              apr_pool_cleanup_null);
}

static const op_t ops[] = {
    {"create", op_create, 0},     {"attach", op_attach, 0},
    {"dptr", op_dptr, 1},         {"poke", op_poke, 1},
    {"dump", op_dump, 1},         {"get", op_get, 1},
    {"put", op_put, 1},           {"grab", op_grab, 1},
    {"fgrab", op_fgrab, 1},       {"release", op_release, 1},
    {"info", op_info, 1},         {"doall", op_doall, 1},
    {"claim", op_claim, 1},       {"stress", op_stress, 1},
    {"who", op_who, 0},           {"only", op_only, 0},
    {"identity", op_identity, 0}, {"wait", op_wait, 0},
    {"results", op_results, 0},   {"fail", op_fail, 0},
    {"limit", op_limit, 0},       {"hurry", op_hurry, 0},
    {"notify", op_notify, 0},
};

/* ---- running commands ---- */

static void parse(call_t *c, const char *line)
{
    char *last = NULL, *word;
    char *copy = apr_pstrdup(c->pool, line);

    c->args = apr_table_make(c->pool, 8);
    c->op = "";
    for (word = apr_strtok(copy, " \t+", &last); word;
         word = apr_strtok(NULL, " \t+", &last)) {
        char *eq = strchr(word, '=');

        if (!*c->op) {
            c->op = word;
        }
        else if (eq) {
            *eq++ = '\0';
            ap_unescape_url(eq);
            apr_table_setn(c->args, word, eq);
        }
    }
}

/* A command that a callback runs answers before the calling command does. */
static void run_command(call_t *parent, const char *line)
{
    call_t c = *parent;
    apr_size_t i, n = sizeof(ops) / sizeof(ops[0]);

    parse(&c, line);
    c.out = apr_array_make(c.pool, 8, sizeof(const char *));
    c.failed = 0;
    say(&c, "op=%s", c.op);
    say(&c, "pid=%d", (int)getpid());
    if (arg(&c, "tag")) {
        say(&c, "tag=%s", arg(&c, "tag"));
    }
    for (i = 0; i < n && strcmp(ops[i].op, c.op); i++) {
        continue;
    }
    c.inst = arg(&c, "null") ? NULL : handle_get(alias(&c));
    if (i == n) {
        say(&c, "error=no such command");
    }
    else if (!provider) {
        say(&c, "error=no provider");
    }
    else if (ops[i].needs_inst && !c.inst && !arg(&c, "null")) {
        say(&c, "error=no handle");
    }
    else {
        ops[i].run(&c);
    }
    say(&c, "%s", "");
    apr_array_cat(c.answer, c.out);
    parent->failed |= c.failed;
}

/* Outside requests: runs the commands that are configured for this phase. */
static int run_phase(const char *when, apr_pool_t *p, const char *only)
{
    call_t c = {0};
    const char *text;
    int i, first_pass = ap_state_query(AP_SQ_MAIN_STATE)
                        == AP_SQ_MS_CREATE_PRE_CONFIG;

    c.pool = p;
    c.answer = apr_array_make(p, 16, sizeof(const char *));
    for (i = 0; i < commands->nelts; i++) {
        command_t *cmd = &APR_ARRAY_IDX(commands, i, command_t);

        if (!strcmp(cmd->when, when) && (!only || cmd->line == only)
            && (!first_pass || strstr(cmd->line, "passes=both"))) {
            run_command(&c, cmd->line);
        }
    }
    APR_ARRAY_PUSH(c.answer, const char *) = "";
    text = apr_array_pstrcat(p, c.answer, '\n');
    if (journal_len + strlen(text) + 1 < sizeof(journal)) {
        memcpy(journal + journal_len, text, strlen(text));
        journal_len += strlen(text);
    }
    if (*text && (!strcmp(when, "cleanup") || !strcmp(when, "child_exit"))) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, ap_server_conf,
                     "slotmem_test: %s %s", when, text);
    }
    return c.failed;
}

static apr_status_t run_cleanup(void *pconf)
{
    if (getpid() == cleanup_pid) {
        run_phase("cleanup", pconf, NULL);
    }
    return APR_SUCCESS;
}

/* ---- hooks ---- */

static void find_provider(void)
{
    provider = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shared",
                                  AP_SLOTMEM_PROVIDER_VERSION);
    if (!provider) {
        provider = ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, "shm",
                                      AP_SLOTMEM_PROVIDER_VERSION);
    }
}

static int pre_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp)
{
    find_provider();
    commands = apr_array_make(p, 8, sizeof(command_t));
    handles_used = 0;
    journal_len = 0;
    return OK;
}

static const char *add_command(cmd_parms *cmd, void *dummy, const char *args)
{
    command_t *c;

    c = apr_array_push(commands);
    c->when = ap_getword_white(cmd->pool, &args);
    c->line = apr_pstrdup(cmd->pool, args);
    if (!strcmp(c->when, "config") && run_phase("config", cmd->pool, c->line)) {
        return "told to fail";
    }
    return NULL;
}

static int open_logs(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp,
                     server_rec *s)
{
    return run_phase("open_logs", p, NULL) ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

static int post_config_first(apr_pool_t *p, apr_pool_t *plog,
                             apr_pool_t *ptemp, server_rec *s)
{
    return run_phase("post_config-first", p, NULL)
           ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

static int post_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        cleanup_pid = getpid();
        apr_pool_cleanup_register(p, p, run_cleanup, apr_pool_cleanup_null);
    }
    return run_phase("post_config", p, NULL) ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

static int post_config_last(apr_pool_t *p, apr_pool_t *plog,
                            apr_pool_t *ptemp, server_rec *s)
{
    return run_phase("post_config-last", p, NULL)
           ? HTTP_INTERNAL_SERVER_ERROR : OK;
}

/* With -X the cleanups of pconf run after this, in the same process. */
static apr_status_t forget_mutex(void *dummy)
{
    handles_mutex = NULL;
    return APR_SUCCESS;
}

static void child_init_first(apr_pool_t *p, server_rec *s)
{
    apr_thread_mutex_create(&handles_mutex, APR_THREAD_MUTEX_DEFAULT, p);
    apr_pool_cleanup_register(p, NULL, forget_mutex, apr_pool_cleanup_null);
    run_phase("child_init-first", p, NULL);
}

static apr_status_t child_exit(void *pchild)
{
    run_phase("child_exit", pchild, NULL);
    return APR_SUCCESS;
}

static void child_init(apr_pool_t *p, server_rec *s)
{
    run_phase("child_init", p, NULL);
    apr_pool_cleanup_register(p, p, child_exit, apr_pool_cleanup_null);
}

static int is_ours(request_rec *r)
{
    return !strcmp(r->uri, "/slotmem");
}

/* The address has no file behind it. */
static int map_to_storage(request_rec *r)
{
    return is_ours(r) ? OK : DECLINED;
}

static int handler(request_rec *r)
{
    call_t c = {0};
    char *last = NULL, *line;

    if (!is_ours(r)) {
        return DECLINED;
    }
    c.pool = r->pool;
    c.answer = apr_array_make(r->pool, 64, sizeof(const char *));
    for (line = apr_strtok(r->args ? r->args : apr_pstrdup(r->pool, ""), ";",
                           &last);
         line && !c.failed; line = apr_strtok(NULL, ";", &last)) {
        run_command(&c, line);
    }
    ap_set_content_type(r, "text/plain");
    apr_table_setn(r->headers_out, "Connection", "close");
    ap_rputs(apr_array_pstrcat(r->pool, c.answer, '\n'), r);
    return OK;
}

/* Calls create() as early as a consumer can. */
static void register_hooks(apr_pool_t *p)
{
    ap_slotmem_instance_t *inst = UNTOUCHED_INST;

    find_provider();
    if (provider) {
        early_status = provider->create(&inst, "slotmem-test-early", 8, 1, 0,
                                        p);
        early_inst_null = inst == NULL;
    }
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_open_logs(open_logs, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_post_config(post_config_first, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config_last, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_child_init(child_init_first, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_FIRST);
}

static const command_rec directives[] = {
    AP_INIT_RAW_ARGS("SlotmemTest", add_command, NULL, RSRC_CONF,
                     "WHEN op key=value ..."),
    {NULL}
};

module AP_MODULE_DECLARE_DATA slotmem_test_module = {
    STANDARD20_MODULE_STUFF,
    NULL, NULL, NULL, NULL,
    directives,
    register_hooks,
    0
};
