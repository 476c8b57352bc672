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
 * slotmem_log.h: lines in httpd's error log. Include it, after httpd's own
 * headers, in each source that logs.
 */

#ifndef SLOTMEM_LOG_H
#define SLOTMEM_LOG_H

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_main.h"          /* ap_server_conf */

/** Opens a message of the module: "SLOTMEM-01: ". docs/messages.md says which
 *  number is which message; a number is never given again. If httpd's module of
 *  this name has a number for the same event, that comes first, as APLOGNO():
 *  "AH02611: SLOTMEM-03: ". A number that it has for another event is not used
 *  here. */
#define SLOTMEM_TAG(number)         "SLOTMEM-" #number ": "

/** The module record, in mod_slotmem_shm.c: the only symbol that the DSO
 *  exports. Its index is the source of each line, as in LogLevel. */
extern module AP_MODULE_DECLARE_DATA slotmem_shm_module;
APLOG_USE_MODULE(slotmem_shm);

#endif /* SLOTMEM_LOG_H */
