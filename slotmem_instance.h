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
 * slotmem_instance.h: instances, which are the handles of the API, and their
 * names: which file and which instance belong to a name, and what happens when
 * a name is created twice.
 *
 * Lifecycle: slotmem_instance_reset() in pre_config, with the pool of the
 * generation, and when the generation ends. Children inherit the instances that
 * are registered in slotmem_instances() before the MPM runs, and do not change
 * that table.
 *
 * A crash leaves nothing behind.
 *
 * Concurrency: the parent's main thread; children read what they inherited
 * without a lock. The caller must lock a table that a child has for itself.
 *
 * Ids such as (C1) are lines of docs/contract.md.
 */

#ifndef SLOTMEM_INSTANCE_H
#define SLOTMEM_INSTANCE_H

#include "apr_hash.h"
#include "ap_slotmem.h"

#include "slotmem_persist.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** The file of a relative name N is
 *  SLOTMEM_NAME_PREFIX N SLOTMEM_NAME_SUFFIX SLOTMEM_FILE_SUFFIX (C2). */
#define SLOTMEM_NAME_PREFIX "slotmem-shm-"
#define SLOTMEM_NAME_SUFFIX ".shm"

/** Process-local: the handle of the API. Only the memory it maps is shared. */
struct ap_slotmem_instance_t {
    slotmem_segment_t segment;
    const char *name;           /**< normalized; NULL: anonymous */
    slotmem_creator_t creator;  /**< if created or attached at run time */
    const char *shm_path;       /**< its file, if created or attached at run
                                   time */
    _Atomic pid_t size_logged_by; /**< the process that logged a create with
                                   another size of slots under this name */
    _Atomic pid_t num_logged_by; /**< the process that logged a create with more
                                   slots under this name */
    slotmem_word_t *config_claims; /**< PERSIST and CLEARINUSE only, else NULL:
                                   one bit per slot, set if the configuration
                                   claimed it. A slot in use without it was
                                   claimed at run time. Private to the parent;
                                   a child has a copy, which it does not
                                   use. */
    slotmem_persist_entry_t persist; /**< if PERSIST; only in the parent */
};

/**
 * Start a generation, without instances.
 * @param pool must last as long as the generation; NULL: the generation has
 *        ended, and slotmem_instance_pool() is NULL until the next call
 * @param default_prefix of the paths of relative names, in DefaultRuntimeDir
 */
void slotmem_instance_reset(apr_pool_t *pool, const char *default_prefix);

/** Set another directory for relative names. @param prefix of their paths, with
 *  links resolved
 *  @param configured the same as configured: links are not resolved */
void slotmem_instance_set_prefix(const char *prefix, const char *configured);

/** @return the generation's pool, or NULL: before pre_config */
apr_pool_t *slotmem_instance_pool(void);

/** @return the generation's instances, by slotmem_instance_key() */
apr_hash_t *slotmem_instances(void);

/** Is this a segment without a name: NULL, "" or "none" (C1)? */
int slotmem_is_anonymous(const char *name);

/**
 * Normalize a name: remove "//" and "/./" from an absolute one, so that a file
 * has one name (C5).
 * @param name not anonymous
 * @return a copy
 */
char *slotmem_instance_normalize(const char *name, apr_pool_t *pool);

/**
 * Get the key of a name. If a relative name has the same file as an absolute
 * one, the key of both is the relative name; otherwise it is the name itself.
 * @param name from slotmem_instance_normalize()
 * @param len set to the bytes of the key
 * @return a pointer into @a name
 */
const char *slotmem_instance_key(const char *name, apr_ssize_t *len);

/**
 * Create an instance, with a new segment or, with attach, a sibling's. The only
 * constructor.
 * @param created set on success only
 * @param geometry of a new segment
 * @param shm_name see slotmem_segment_create() and slotmem_segment_attach(),
 *        which sets its creator; not NULL with attach
 * @param pool for the handle and the memory
 * @return see slotmem_segment_create() and slotmem_segment_attach()
 */
apr_status_t slotmem_instance_create(ap_slotmem_instance_t **created,
                                     const char *name,
                                     const slotmem_geometry_t *geometry,
                                     slotmem_shm_name_t *shm_name, int attach,
                                     apr_pool_t *pool);

/** Log that a create has failed (SLOTMEM-03). */
void slotmem_instance_log_failure(apr_status_t rv, const char *name,
                                  const slotmem_geometry_t *geometry);

/**
 * Persist a new instance: restore it now, and store it from now on. In the
 * parent only. After the MPM has started, the children do not see the segment,
 * and the status page does not show its stores. If no file can have the name,
 * the instance is not persisted (C6), and a warning says why (SLOTMEM-51).
 * @param proxy decides on each stored slot; or NULL
 * @return APR_SUCCESS, whatever the file holds; APR_ENOMEM
 */
apr_status_t slotmem_instance_persist(ap_slotmem_instance_t *inst,
                                      slotmem_proxy_t *proxy);

/** Add an instance that has a name to a table. */
void slotmem_instance_register(apr_hash_t *table, ap_slotmem_instance_t *inst);

/** @return the instance with that name in a table, or NULL */
ap_slotmem_instance_t *slotmem_instance_lookup(apr_hash_t *table,
                                               const char *name);

/**
 * Can a create of the same name use this instance (C4)? Logs a difference once
 * per process.
 * @return APR_SUCCESS; APR_EINVAL: slots of another size
 */
apr_status_t
slotmem_instance_check_reuse(ap_slotmem_instance_t *inst,
                             const slotmem_geometry_t *requested);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_INSTANCE_H */
