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
 * slotmem_instance.c: instances and their names; see slotmem_instance.h.
 */

#include <limits.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "apr_lib.h"
#include "apr_strings.h"

#include "slotmem_format.h"
#include "slotmem_instance.h"
#include "slotmem_log.h"

/* The longest ending that a store appends to the name of a file: that of its
 * temporary file. */
#define LONGEST_ENDING ".tmp-12345678"

/* Process-local. The generation's instances that were created before the MPM
 * ran, and the parts of their names. Children inherit a copy and do not change
 * it. pre_config resets it: a module that is linked into httpd keeps its static
 * variables over a restart. */
static struct {
    apr_pool_t *pool;               /* no parent; NULL before pre_config */
    apr_hash_t *by_key;             /* see slotmem_instance_key() */
    const char *default_prefix;     /* of relative names in DefaultRuntimeDir */
    const char *prefix;             /* of relative names */
    const char *configured_prefix;  /* the same as configured: links are not
                                       resolved */
} instances;

void slotmem_instance_reset(apr_pool_t *pool, const char *default_prefix)
{
    memset(&instances, 0, sizeof(instances));
    if (pool) {
        instances.pool = pool;
        instances.by_key = apr_hash_make(pool);
        instances.default_prefix = default_prefix;
        slotmem_instance_set_prefix(default_prefix, default_prefix);
    }
}

apr_pool_t *slotmem_instance_pool(void)
{
    return instances.pool;
}

apr_hash_t *slotmem_instances(void)
{
    return instances.by_key;
}

int slotmem_is_anonymous(const char *name)
{
    return !name || !*name || strcasecmp(name, "none") == 0;
}

void slotmem_instance_set_prefix(const char *prefix, const char *configured)
{
    instances.prefix = slotmem_instance_normalize(prefix, instances.pool);
    instances.configured_prefix = slotmem_instance_normalize(configured,
                                                             instances.pool);
}

char *slotmem_instance_normalize(const char *name, apr_pool_t *pool)
{
    char *copy = apr_pstrdup(pool, name);
    char *to = copy;

    if (*name != '/') {
        return copy;
    }
    while (*name) {
        if (name[0] == '/' && name[1] == '/') {
            name++;
        }
        else if (name[0] == '/' && name[1] == '.' && name[2] == '/') {
            name += 2;
        }
        else {
            *to++ = *name++;
        }
    }
    *to = '\0';
    return copy;
}

const char *slotmem_instance_key(const char *name, apr_ssize_t *len)
{
    const char *const prefixes[] = { instances.prefix,
                                     instances.configured_prefix };
    apr_size_t suffix = strlen(SLOTMEM_NAME_SUFFIX);
    apr_size_t name_len = strlen(name);
    int i;

    for (i = 0; *name == '/' && i < 2; i++) {
        apr_size_t prefix = strlen(prefixes[i]);

        if (name_len > prefix + suffix
            && strncmp(name, prefixes[i], prefix) == 0
            && strcmp(name + name_len - suffix, SLOTMEM_NAME_SUFFIX) == 0
            && !strchr(name + prefix, '/')) {
            *len = (apr_ssize_t)(name_len - prefix - suffix);
            return name + prefix;
        }
    }
    *len = (apr_ssize_t)name_len;
    return name;
}

/* The path for a name (C2, C3), without SLOTMEM_FILE_SUFFIX. */
static const char *path_of(const char *name, apr_pool_t *pool)
{
    return *name == '/' ? apr_pstrdup(pool, name)
                        : apr_pstrcat(pool, instances.prefix, name,
                                      SLOTMEM_NAME_SUFFIX, NULL);
}

static const char *display_name(const char *name)
{
    return slotmem_is_anonymous(name) ? "(anonymous)" : name;
}

apr_status_t slotmem_instance_create(ap_slotmem_instance_t **created,
                                     const char *name,
                                     const slotmem_geometry_t *geometry,
                                     slotmem_shm_name_t *shm_name, int attach,
                                     apr_pool_t *pool)
{
    ap_slotmem_instance_t *inst = apr_pcalloc(pool, sizeof(*inst));
    apr_status_t rv = attach
                      ? slotmem_segment_attach(&inst->segment, shm_name, pool)
                      : slotmem_segment_create(&inst->segment, geometry,
                                               shm_name, pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!slotmem_is_anonymous(name)) {
        inst->name = slotmem_instance_normalize(name, pool);
    }
    if (shm_name) {
        inst->shm_path = apr_pstrdup(pool, shm_name->path);
        inst->creator = shm_name->creator;
    }
    *created = inst;
    return APR_SUCCESS;
}

void slotmem_instance_log_failure(apr_status_t rv, const char *name,
                            const slotmem_geometry_t *geometry)
{
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, ap_server_conf,
                 APLOGNO(02611) SLOTMEM_TAG(03)
                 "segment %s: cannot create %u slots of %" APR_SIZE_T_FMT
                 " bytes", display_name(name), geometry->item_num,
                 geometry->item_size);
}

void slotmem_instance_register(apr_hash_t *table,
                              ap_slotmem_instance_t *inst)
{
    apr_ssize_t len;
    const char *key = slotmem_instance_key(inst->name, &len);

    apr_hash_set(table, key, len, inst);
}

ap_slotmem_instance_t *slotmem_instance_lookup(apr_hash_t *table,
                                               const char *name)
{
    ap_slotmem_instance_t *found;
    apr_pool_t *pool = NULL;
    apr_ssize_t len;
    const char *key;

    if (*name == '/' && (strstr(name, "//") || strstr(name, "/./"))) {
        apr_pool_create(&pool, NULL);
        name = slotmem_instance_normalize(name, pool);
    }
    key = slotmem_instance_key(name, &len);
    found = apr_hash_get(table, key, len);
    if (pool) {
        apr_pool_destroy(pool);
    }
    return found;
}

/* Log once per process: a binding for scripts calls create at every request.
 * Children must not take the parent's line for their own. */
static int is_first_time(_Atomic pid_t *logged_by)
{
    pid_t self = getpid();

    return atomic_exchange(logged_by, self) != self;
}

apr_status_t slotmem_instance_check_reuse(ap_slotmem_instance_t *inst,
                                          const slotmem_geometry_t *requested)
{
    const slotmem_geometry_t *has = &inst->segment.geometry;

    if (has->item_size != requested->item_size) {
        if (is_first_time(&inst->size_logged_by)) {
            ap_log_error(APLOG_MARK, APLOG_ERR, APR_EINVAL, ap_server_conf,
                         SLOTMEM_TAG(04)
                         "segment %s exists with %u slots of %" APR_SIZE_T_FMT
                         " bytes; it cannot be used for %u slots of %"
                         APR_SIZE_T_FMT " bytes", inst->name, has->item_num,
                         has->item_size, requested->item_num,
                         requested->item_size);
        }
        return APR_EINVAL;
    }
    if (has->item_num < requested->item_num
        && is_first_time(&inst->num_logged_by)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(05)
                     "segment %s exists with %u slots of %" APR_SIZE_T_FMT
                     " bytes; a request for %u slots of %" APR_SIZE_T_FMT
                     " bytes gets the same segment: do two names differ only "
                     "in punctuation?", inst->name, has->item_num,
                     has->item_size, requested->item_num, requested->item_size);
    }
    return APR_SUCCESS;
}

/* Why no file can have this name, or NULL. */
static const char *why_no_file(const char *name)
{
    const char *last = strrchr(name, '/');
    apr_size_t len = strlen(last ? last + 1 : name)
                     + strlen(SLOTMEM_FILE_SUFFIX LONGEST_ENDING);
    const char *c;

    if (*name == '/') {
        return len > NAME_MAX || strlen(name) + strlen(SLOTMEM_FILE_SUFFIX
                                                       LONGEST_ENDING)
                                 >= PATH_MAX
               ? "too long" : NULL;
    }
    if (last) {
        return "/ in a relative name";
    }
    for (c = name; *c; c++) {
        if (apr_iscntrl(*c)) {
            return "control character in it";
        }
    }
    return len + strlen(SLOTMEM_NAME_PREFIX SLOTMEM_NAME_SUFFIX) > NAME_MAX
           ? "too long" : NULL;
}

apr_status_t slotmem_instance_persist(ap_slotmem_instance_t *inst,
                                      slotmem_proxy_t *proxy)
{
    const slotmem_geometry_t *geometry = &inst->segment.geometry;
    const char *why = why_no_file(inst->name);

    if (why) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, ap_server_conf,
                     SLOTMEM_TAG(51)
                     "segment %s is not stored: no file can have its name "
                     "(%s); give it another name", inst->name, why);
        return APR_SUCCESS;
    }
    if (geometry->type & AP_SLOTMEM_TYPE_CLEARINUSE) {
        inst->config_claims =
            slotmem_calloc(instances.pool, sizeof(*inst->config_claims)
                                       * slotmem_map_words(geometry->item_num));
        if (!inst->config_claims) {
            return APR_ENOMEM;
        }
    }
    inst->persist.segment = &inst->segment;
    inst->persist.name = inst->name;
    inst->persist.config_claims = inst->config_claims;
    inst->persist.proxy = proxy;
    inst->persist.path
        = apr_pstrcat(instances.pool, path_of(inst->name, instances.pool),
                      SLOTMEM_FILE_SUFFIX, NULL);
    if (*inst->name != '/'
        && strcmp(instances.prefix, instances.default_prefix) != 0) {
        inst->persist.fallback
            = apr_pstrcat(instances.pool, instances.default_prefix, inst->name,
                          SLOTMEM_NAME_SUFFIX, SLOTMEM_FILE_SUFFIX, NULL);
    }
    slotmem_persist_add(&inst->persist);
    return APR_SUCCESS;
}
