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
 * slotmem_instance.h: instances, the API's handles, and their names: which file
 * and which instance a name stands for, and what happens when a name is created
 * twice.
 *
 * Lifecycle: slotmem_instance_reset() in pre_config, with the pool of the
 * generation, and when the generation ends. Instances that are registered in
 * slotmem_instances() before the MPM runs are inherited by the children, which
 * do not change that table.
 *
 * A crash leaves nothing of this room.
 *
 * Concurrency: the parent has one thread; children read what they inherited,
 * without a lock. A table that a child has for itself needs its caller's lock.
 */

#ifndef SLOTMEM_INSTANCE_H
#define SLOTMEM_INSTANCE_H

#include "apr_hash.h"
#include "ap_slotmem.h"

#include "slotmem_persist.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** A relative name N is, in its directory, the file
 *  SLOTMEM_NAME_PREFIX N SLOTMEM_NAME_SUFFIX SLOTMEM_FILE_SUFFIX (C2). */
#define SLOTMEM_NAME_PREFIX "slotmem-shm-"
#define SLOTMEM_NAME_SUFFIX ".shm"

/** Process-local: the API's handle. Its mapping is shared, itself never. */
struct ap_slotmem_instance_t {
    slotmem_segment_t segment;
    const char *name;           /**< slotmem_instance_name(), or NULL:
                                   anonymous */
    slotmem_creator_t creator;  /**< if created or attached at run time */
    const char *shm_path;       /**< the same */
    _Atomic pid_t said_size;    /**< the process that has logged, of this name,
                                   a create of slots of another size */
    _Atomic pid_t said_num;     /**< the same, of too many slots */
    slotmem_word_t *config_claims; /**< PERSIST and CLEARINUSE only: a bit for
                                   each slot that was claimed in configuration.
                                   A slot in use without one is claimed at run
                                   time. Written in the parent alone. */
    slotmem_persist_entry_t persist; /**< if PERSIST; in the parent alone */
};

/**
 * Start anew, with no instance.
 * @param pool lasts as long as the generation; NULL: the generation has ended,
 *        and slotmem_instance_pool() is NULL until the next call
 * @param default_prefix of the paths of relative names, in DefaultRuntimeDir
 */
void slotmem_instance_reset(apr_pool_t *pool, const char *default_prefix);

/** Put relative names elsewhere. @param prefix of their paths
 *  @param written the same with links that are not resolved */
void slotmem_instance_set_prefix(const char *prefix, const char *written);

/** @return the generation's pool, or NULL: before pre_config */
apr_pool_t *slotmem_instance_pool(void);

/** @return the generation's instances, by slotmem_instance_key() */
apr_hash_t *slotmem_instances(void);

/** NULL, "" and "none": a segment without a name (C1). */
int slotmem_is_anonymous(const char *name);

/**
 * A name as an instance has it: of an absolute one without "//" and "/./", so
 * that a file has one name (C5).
 * @param name not anonymous
 * @return a copy
 */
char *slotmem_instance_name(const char *name, apr_pool_t *pool);

/**
 * The key of a name. That of an absolute name is the name, unless a relative
 * one has that file; then, and for relative names, it is the relative name.
 * @param name from slotmem_instance_name()
 * @param len set to the bytes of the key
 * @return a pointer into @a name
 */
const char *slotmem_instance_key(const char *name, apr_ssize_t *len);

/**
 * The one constructor: a segment that is new or, with attach, a sibling's.
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

/** Say in the log that a create has failed (SLOTMEM-03). */
void slotmem_instance_log_failure(apr_status_t rv, const char *name,
                                  const slotmem_geometry_t *geometry);

/**
 * Keep a new instance in a file: restore it now, store it from now on. Before
 * the MPM runs. A name that no file can have is not kept (C6): a warning says
 * why (SLOTMEM-51).
 * @param proxy decides on each stored slot; or NULL
 * @return APR_SUCCESS, whatever the file holds; APR_ENOMEM
 */
apr_status_t slotmem_instance_persist(ap_slotmem_instance_t *inst,
                                      slotmem_proxy_t *proxy);

/** Enter an instance that has a name in a table. */
void slotmem_instance_register(apr_hash_t *table, ap_slotmem_instance_t *inst);

/** @return the instance of a name in a table, or NULL */
ap_slotmem_instance_t *slotmem_instance_lookup(apr_hash_t *table,
                                               const char *name);

/**
 * Does an instance that exists serve a create of the same name (C4)? Logs what
 * differs, once in a process.
 * @return APR_SUCCESS, or APR_EINVAL: slots of another size
 */
apr_status_t
slotmem_instance_check_reuse(ap_slotmem_instance_t *inst,
                             const slotmem_geometry_t *requested);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_INSTANCE_H */
