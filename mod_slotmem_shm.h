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
 * mod_slotmem_shm.h: the public names, and the version.
 *
 * httpd's ap_slotmem.h declares the provider's functions. Look the provider up
 * with ap_lookup_provider(AP_SLOTMEM_PROVIDER_GROUP, NAME,
 * AP_SLOTMEM_PROVIDER_VERSION), where NAME is one of the two below.
 */

#ifndef MOD_SLOTMEM_SHM_H
#define MOD_SLOTMEM_SHM_H

/** The version of the module and of slotmem-file: X.Y.Z. Defined only here;
 *  test/doc-tests compares it with CHANGES and with the packages. */
#define SLOTMEM_VERSION             "1.0.0"

/** httpd's own name for the provider. */
#define SLOTMEM_SHM_PROVIDER_SHARED "shared"
/** The name that mod_proxy_balancer and httpd's other consumers look up. */
#define SLOTMEM_SHM_PROVIDER_SHM    "shm"

#endif /* MOD_SLOTMEM_SHM_H */
