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
 * slotmem_escape.c: escapes text; see slotmem_escape.h.
 */

#include <string.h>

#include "apr_strings.h"

#include "slotmem_escape.h"

/* The most bytes that one byte becomes: \u00NN, or \\xNN. */
#define MAX_ESCAPED 6

/* The length of the UTF-8 character at TEXT, or 0 if it is invalid. */
static int utf8_len(const unsigned char *text)
{
    int len = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2
              : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
    int i;

    for (i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;               /* this also stops at the final 0 */
        }
    }
    if ((text[0] == 0xe0 && text[1] < 0xa0)         /* overlong */
        || (text[0] == 0xf0 && text[1] < 0x90)
        || (text[0] == 0xed && text[1] > 0x9f)      /* a surrogate */
        || (text[0] == 0xf4 && text[1] > 0x8f)) {   /* past U+10FFFF */
        return 0;
    }
    return len;
}

static int is_control(unsigned char byte)
{
    return byte < 0x20 || byte == 0x7f;
}

/* Process-local: how one form escapes what it cannot contain. */
typedef struct form_t {
    const char *quoted;         /* these get a backslash before them */
    const char *control;        /* format of a control character */
    const char *invalid;        /* format of a byte that is not UTF-8; NULL: do
                                   not escape it */
    const char *ambiguous;      /* format of a backslash before an x, which
                                   would read as an escape; NULL: as quoted */
} form_t;

static const char *escape(const char *text, const form_t *form,
                          apr_pool_t *pool)
{
    const unsigned char *from = (const unsigned char *)text;
    char *escaped = apr_palloc(pool, strlen(text) * MAX_ESCAPED + 1);
    char *to = escaped;

    while (*from) {
        int len = utf8_len(from);

        if (is_control(*from)) {
            to += apr_snprintf(to, MAX_ESCAPED + 1, form->control, *from);
        }
        else if (form->ambiguous && from[0] == '\\' && from[1] == 'x') {
            to += apr_snprintf(to, MAX_ESCAPED + 1, form->ambiguous, *from);
        }
        else if (!len && form->invalid) {
            to += apr_snprintf(to, MAX_ESCAPED + 1, form->invalid, *from);
        }
        else {
            if (strchr(form->quoted, *from)) {
                *to++ = '\\';
            }
            len = len ? len : 1;
            memcpy(to, from, (size_t)len);
            to += len;
        }
        from += len ? len : 1;
    }
    *to = '\0';
    return escaped;
}

const char *slotmem_escape_json(const char *text, apr_pool_t *pool)
{
    static const form_t json = { "\"\\", "\\u%04x", "\\ufffd", NULL };

    return escape(text, &json, pool);
}

const char *slotmem_escape_label(const char *text, apr_pool_t *pool)
{
    static const form_t label = { "\"\\", "\\\\x%02x", "\\\\x%02x",
                                  "\\\\x%02x" };

    return escape(text, &label, pool);
}

const char *slotmem_escape_line(const char *text, apr_pool_t *pool)
{
    static const form_t line = { "", "\\x%02x", NULL, NULL };

    return escape(text, &line, pool);
}
