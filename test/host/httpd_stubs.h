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
 * httpd_stubs.h: the stateless functions of httpd that a slotmem module calls,
 * for programs that play httpd: host.c and fuzz_calls.c. Only one source file
 * of a program may include it, after it has defined HOOKED(name, order), which
 * stores the hook function pf.
 */

#ifndef HTTPD_STUBS_H
#define HTTPD_STUBS_H

#define HOOK(name) \
    void ap_hook_##name(ap_HOOK_##name##_t *pf, const char *const *before, \
                        const char *const *after, int order) \
    { \
        (void)before; \
        (void)after; \
        HOOKED(name, order); \
    }
HOOK(pre_config)
HOOK(post_config)
HOOK(pre_mpm)
HOOK(optional_fn_retrieve)
HOOK(monitor)
HOOK(child_init)
HOOK(child_status)
HOOK(drop_privileges)

/* No page is asked for. */
void ap_hook_handler(ap_HOOK_handler_t *pf, const char *const *before,
                     const char *const *after, int order)
{
    (void)pf;
    (void)before;
    (void)after;
    (void)order;
}

/* No ChrootDir. */
unixd_config_rec ap_unixd_config;

void ap_bin2hex(const void *src, apr_size_t len, char *dest)
{
    const unsigned char *from = src;

    for (*dest = '\0'; len; len--, dest += 2) {
        sprintf(dest, "%02x", *from++);
    }
}

char *ap_server_root_relative(apr_pool_t *p, const char *file)
{
    return apr_pstrdup(p, file);
}

char *ap_make_full_path(apr_pool_t *p, const char *dir, const char *file)
{
    return apr_pstrcat(p, dir, "/", file, NULL);
}

const char *ap_check_cmd_context(cmd_parms *cmd, unsigned forbidden)
{
    (void)cmd;
    (void)forbidden;
    return NULL;
}

#endif
