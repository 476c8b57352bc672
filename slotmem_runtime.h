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
 * slotmem_runtime.h: segments that children create while they serve, and that
 * their siblings attach by name (B8). They are not persisted.
 *
 * Lifecycle: slotmem_runtime_reset() in pre_config and when the generation
 * ends; slotmem_runtime_prepare() in post_config, in the parent;
 * slotmem_runtime_child_init() in each child. A child that ends marks its
 * segments as gone and removes their names; the memory stays for the processes
 * that have it mapped. When the server stops, slotmem_runtime_end() removes all
 * names.
 *
 * After a crash: a creator that was killed leaves its segment's file. The next
 * create of that name removes it; or, once the parent has reaped the creator,
 * the next create of any name; or else the stop of the server. If the parent is
 * killed too, the files stay. A child that is killed while it holds the mutex
 * gives it up. One that is stopped (SIGSTOP) keeps it: then create and attach
 * of run-time names fail after two seconds.
 *
 * Concurrency: create and attach of names take one mutex between processes and
 * threads. It is never held while a consumer's code runs, nor while memory is
 * filled, mapped or freed, which takes time if the segment is large: a new
 * segment is filled under another file name, and then renamed. If siblings
 * create the same name meanwhile, they wait for up to two seconds, but not for
 * a process that is stopped or killed; then they fill their own, and all use
 * the one that gets the name first. The parent never creates or attaches such a
 * segment. For the files see slotmem_shm_dir.h.
 *
 * Ids such as (B8) are lines of docs/contract.md.
 */

#ifndef SLOTMEM_RUNTIME_H
#define SLOTMEM_RUNTIME_H

#include "httpd.h"

#include "slotmem_instance.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/** Reset: no segment can be created at run time. */
void slotmem_runtime_reset(void);

/**
 * Prepare what the children need. If the system refuses that, the server still
 * runs, and logs what it cannot do (SLOTMEM-08).
 * @param pool must last as long as the generation
 */
void slotmem_runtime_prepare(server_rec *s, apr_pool_t *pool);

/** In the parent: a child has ended, and may have left files. */
void slotmem_runtime_child_ended(void);

/** When the server stops: remove all files. The generation may have ended
 *  before. Does nothing in a process that did not run post_config.
 *  @param pool for temporary use */
void slotmem_runtime_end(apr_pool_t *pool);

/** In a child: allow create and attach from now on. */
void slotmem_runtime_child_init(apr_pool_t *pchild, server_rec *s);

/** @return 1 in a child, after slotmem_runtime_child_init(); else 0 */
int slotmem_runtime_is_ready(void);

/**
 * Create a segment, or attach the one that a sibling created under this name.
 * In a child, for a name that it has not inherited.
 * @param inst set on success only
 * @return APR_SUCCESS; APR_ENOSHMAVAIL: this child has no mutex; APR_TIMEUP: a
 *         sibling does not release it; otherwise see slotmem_instance_create()
 *         and slotmem_instance_check_reuse(). An error does not change a
 *         sibling's segment.
 */
apr_status_t slotmem_runtime_create(ap_slotmem_instance_t **inst,
                                    const char *name,
                                    const slotmem_geometry_t *geometry);

/**
 * Attach a segment that a sibling created. In a child, for a name that it has
 * not inherited. Logs nothing.
 * @return APR_SUCCESS; APR_ENOENT: no sibling has it; otherwise see
 *         slotmem_runtime_create()
 */
apr_status_t slotmem_runtime_attach(ap_slotmem_instance_t **inst,
                                    const char *name);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif /* SLOTMEM_RUNTIME_H */
