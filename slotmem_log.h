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
 * slotmem_log.h: tags for lines in httpd's error log. Each source that logs
 * includes it, after httpd's own headers.
 */

#ifndef SLOTMEM_LOG_H
#define SLOTMEM_LOG_H

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_main.h"          /* ap_server_conf */

/** The start of each message: "SLOTMEM-01: ". docs/messages.md lists the
 *  numbers; a number is never reused. If the distributed module has a number
 *  for the same event, that comes first, as APLOGNO(): "AH02611: SLOTMEM-03: ".
 *  */
#define SLOTMEM_TAG(number)         "SLOTMEM-" #number ": "

/** The module record, in mod_slotmem_shm.c: the only symbol that the DSO
 *  exports. httpd needs its index to name the module in each line and to apply
 *  LogLevel. */
extern module AP_MODULE_DECLARE_DATA slotmem_shm_module;
APLOG_USE_MODULE(slotmem_shm);

#endif /* SLOTMEM_LOG_H */
