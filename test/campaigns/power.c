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
 * power.c: the state of stores after a power cut. [B2][E1][E2][E3]
 *
 * It logs runs of stores that succeed, fail at any call, or end with their
 * server at any time. After each operation in the log, bytes without a later
 * fsync are complete, partly there, zero, or absent, and names without one are
 * as after any of the operations on them. An operation on a name never
 * overtakes an earlier one on the same name; a rename is done or not done, and
 * if no refused file is set aside, also half done (one name changed, the other
 * not). After one fsync of an inode has failed, later ones have no effect.
 *
 * In each such state, every file has the complete old or a new state, and the
 * state that a store reported as stored is there; a refused file is kept; the
 * next server restores the files, and stores.
 */

#include "world.h"

#define INODES_MAX 64
#define OPS_MAX 64
#define VARIANTS 7

/* What the disk may have of an inode: its bytes at the last fsync, or as they
 * were last written, or a mixture. */
static struct inode_t {
    int poisoned;               /* an fsync failed: later ones do nothing */
    size_t now_len, safe_len;
    unsigned char now[FILE_MAX], safe[FILE_MAX];
} inode[INODES_MAX];

/* A change of one or two names without a later fsync of the directory. */
typedef struct op_t {
    int name[2];                /* the second may be -1 */
    int to[2];                  /* inodes, or -1 */
} op_t;
static op_t op[OPS_MAX];
static int num_ops;
static int halves;              /* a rename is two ops */
static int safe_name[NAMES_MAX];/* inodes, at the last fsync */
static int stored[FILES];       /* versions that stores reported as stored */

static uint64_t seen[1 << 20];  /* hashes of the states checked so far */

static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    uint64_t word = len;

    for (;;) {
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
        if (!len) {
            return h;
        }
        word = 0;
        memcpy(&word, from, len < 8 ? len : 8);
        from += len < 8 ? len : 8;
        len -= len < 8 ? len : 8;
    }
}

static int is_new_state(uint64_t h)
{
    size_t at = h % ELEMENTS(seen);

    while (seen[at] && seen[at] != h) {
        at = (at + 1) % ELEMENTS(seen);
    }
    if (seen[at]) {
        return 0;
    }
    seen[at] = h;
    return 1;
}

/* One variant of what the disk may have of an inode. */
static size_t disk_bytes(int i, int variant, unsigned char *to)
{
    const struct inode_t *node = &inode[i];
    size_t len = node->now_len > node->safe_len ? node->now_len
                                                : node->safe_len;
    size_t half = node->now_len / 2;

    if (variant == 0 || (variant == 6 && i % 2)) {      /* nothing new */
        memcpy(to, node->safe, node->safe_len);
        return node->safe_len;
    }
    memset(to, 0, len);
    memcpy(to, node->safe, node->safe_len);
    switch (variant) {
    case 2:                                     /* the first half */
        memcpy(to, node->now, half);
        return half > node->safe_len ? half : node->safe_len;
    case 3:                                     /* the length alone */
        return len;
    case 4:                                     /* the second half is zeros */
        memcpy(to, node->now, half);
        return len;
    case 5:                                     /* the first half is */
        memcpy(to + half, node->now + half, node->now_len - half);
        return len;
    default:                                    /* all */
        memcpy(to, node->now, node->now_len);
        return node->now_len;
    }
}

/* The power is back: check one state of the disk. */
static void check_state(const int *name, int variant)
{
    static unsigned char bytes[NAMES_MAX][FILE_MAX];
    size_t len[NAMES_MAX];
    unsigned long lost_before = figures->lost;
    uint64_t h = hash(1, stored, sizeof(stored));
    int n;

    for (n = 0; names[n]; n++) {
        if (name[n] >= 0) {
            len[n] = disk_bytes(name[n], variant, bytes[n]);
            h = hash(hash(h, &n, sizeof(n)), &len[n], sizeof(len[n]));
            h = hash(h, bytes[n], len[n]);
        }
    }
    if (!is_new_state(h)) {
        return;
    }
    figures->states++;
    empty_directory(dir_path[0]);
    empty_directory(dir_path[1]);
    for (n = 0; names[n]; n++) {
        if (name[n] >= 0) {
            put_file(names[n], bytes[n], len[n]);
        }
    }
    check_disk(stored);
    check_next_server();
    if (figures->lost != lost_before && figures->lost < 500) {
        /* Forget it, so that every case that leads here reports it. */
        memset(seen, 0, sizeof(seen));
    }
}

/* Try all sets of ops that may have reached the disk: an op never without the
 * earlier ones on the same names. */
static void choose_ops(int next, int *name, const char *blocked)
{
    const op_t *this = &op[next];
    char now_blocked[NAMES_MAX];
    int saved[2];
    int i;

    if (next == num_ops) {
        for (i = 0; i < VARIANTS; i++) {
            check_state(name, i);
        }
        return;
    }
    memcpy(now_blocked, blocked, sizeof(now_blocked));
    for (i = 0; i < 2 && this->name[i] >= 0; i++) {
        saved[i] = name[this->name[i]];
        now_blocked[this->name[i]] = 1;
    }
    choose_ops(next + 1, name, now_blocked);
    if (blocked[this->name[0]]
        || (this->name[1] >= 0 && blocked[this->name[1]])) {
        return;
    }
    for (i = 0; i < 2 && this->name[i] >= 0; i++) {
        name[this->name[i]] = this->to[i];
    }
    choose_ops(next + 1, name, blocked);
    while (i-- > 0) {
        name[this->name[i]] = saved[i];
    }
}

static void add_op(int a, int to_a, int b, int to_b)
{
    op_t new = { { a, b }, { to_a, to_b } };

    need(num_ops < OPS_MAX, "remember so many changes");
    op[num_ops++] = new;
}

/* The names in a directory are safe from now on. */
static void fsync_directory(const char *path)
{
    size_t len = strlen(path);
    int kept = 0;
    int i, n;

    for (n = 0; n < num_ops; n++) {
        if (!strncmp(names[op[n].name[0]], path, len)
            && !strchr(names[op[n].name[0]] + len + 1, '/')) {
            for (i = 0; i < 2 && op[n].name[i] >= 0; i++) {
                safe_name[op[n].name[i]] = op[n].to[i];
            }
        }
        else {
            op[kept++] = op[n];
        }
    }
    num_ops = kept;
}

static void replay(const event_t *event, int *now)
{
    struct inode_t *node = &inode[event->a];

    switch (event->what) {
    case CREATE:
        memset(&inode[event->b], 0, sizeof(*node));
        now[event->a] = event->b;
        add_op(event->a, event->b, -1, -1);
        break;
    case TRUNCATE:
        node->now_len = 0;
        break;
    case WRITE:
        memcpy(node->now + event->offset, event->data, event->len);
        if (node->now_len < event->offset + event->len) {
            node->now_len = event->offset + event->len;
        }
        break;
    case FSYNC_FAILS:
        node->poisoned = 1;
        break;
    case FSYNC:
        if (!node->poisoned) {
            memcpy(node->safe, node->now, node->now_len);
            node->safe_len = node->now_len;
        }
        break;
    case RENAME:
        if (halves) {
            add_op(event->b, now[event->a], -1, -1);
            add_op(event->a, -1, -1, -1);
        }
        else {
            add_op(event->b, now[event->a], event->a, -1);
        }
        now[event->b] = now[event->a];
        now[event->a] = -1;
        break;
    case UNLINK:
        now[event->a] = -1;
        add_op(event->a, -1, -1, -1);
        break;
    case FSYNC_DIRECTORY:
        fsync_directory(names[event->a]);
        break;
    case STORED:
        stored[event->a] = event->b;
        break;
    }
}

/* Log the current disk, with everything safe. */
static void log_disk(void)
{
    int i;

    calls_log_start();
    for (i = 0; i < 2; i++) {
        DIR *stream = opendir(dir_path[i]);
        const struct dirent *entry;

        need(stream != NULL, dir_path[i]);
        while ((entry = readdir(stream))) {
            char path[512];
            int name, fd;

            snprintf(path, sizeof(path), "%s/%.100s", dir_path[i],
                     entry->d_name);
            if (entry->d_name[0] == '.') {
                continue;
            }
            name = calls_name(path);
            inode_of[name] = inodes++;
            fd = open(path, O_RDONLY);
            memset(&inode[inode_of[name]], 0, sizeof(*inode));
            inode[inode_of[name]].now_len = inode[inode_of[name]].safe_len =
                (size_t)read(fd, inode[inode_of[name]].now, FILE_MAX);
            memcpy(inode[inode_of[name]].safe, inode[inode_of[name]].now,
                   FILE_MAX);
            close(fd);
        }
        closedir(stream);
    }
}

static void log_stored(const server_t *server, int n)
{
    int i;

    for (i = 0; i < num; i++) {
        if (!server->store[i].step) {
            calls_event(STORED, i, stored_version(&file[i], n));
        }
    }
}

static void cut_power_everywhere(const int *at_start)
{
    int now[NAMES_MAX];
    int name[NAMES_MAX];
    char blocked[NAMES_MAX] = { 0 };
    int i;

    memcpy(now, at_start, sizeof(now));
    memcpy(safe_name, at_start, sizeof(safe_name));
    num_ops = 0;
    for (i = 0; i < num; i++) {
        stored[i] = starts_as(&file[i]);
    }
    for (i = 0; i < num_events; i++) {
        replay(&events[i], now);
        memcpy(name, safe_name, sizeof(name));
        choose_ops(0, name, blocked);
    }
}

/* A server stores with a fault, or is killed at a call (as if that call and all
 * later ones had failed) and started again; then it stores again; then it
 * stores something new. Returns 0 if there was nothing to do. */
static int power_case(int at, fault_t fault, int dies)
{
    int at_start[NAMES_MAX];
    server_t *server;
    int over;

    snprintf(context, sizeof(context), "power, '%s' (%d), call %d, effect %d%s"
             "%s", scenario->before, (int)(scenario - scenarios), at,
             fault.effect, dies ? ", killed" : "", halves ? ", halves" : "");
    figures->cases++;
    set_up_disk();
    server = start_server();
    log_disk();
    memset(at_start, -1, sizeof(at_start));
    memcpy(at_start, inode_of, sizeof(*inode_of) * (size_t)inodes);
    fill(server, 1);
    calls_arm(at, fault.effect, fault.error, fault.sticky);
    store(server);
    if (!dies) {
        log_stored(server, 1);
    }
    over = at && !calls->hits;
    figures->faults += (unsigned long)calls->hits;
    if (dies) {
        figures->kills++;
        calls->armed = 0;
        stop_server(server);
        server = start_server();
        fill(server, 1);
    }
    calls_arm(0, PASSES, 0, 0);
    store(server);
    log_stored(server, 1);
    fill(server, 2);
    store(server);
    log_stored(server, 2);
    calls->armed = 0;
    stop_server(server);
    cut_power_everywhere(at_start);
    return !over;
}

static void run_power(void)
{
    int at;

    memset(seen, 0, sizeof(seen));
    power_case(0, (fault_t) { PASSES, 0, 0 }, 0);
    for (at = 1; power_case(at, (fault_t) { FAILS, EIO, 1 }, 1); at++) {
    }
    for (at = 1; num == 1 || full; at++) {
        if (!power_case(at, (fault_t) { FAILS, EIO, 0 }, 0)) {
            break;
        }
    }
}

static void run(void)
{
    halves = 0;
    run_power();
    if (!strpbrk(scenario->before, "rb")) {
        halves = 1;
        run_power();
    }
}

int main(int argc, char **argv)
{
    calls_of_files_only = 1;    /* a lack of memory does not cut power */
    run_world(argc, argv, run);
    printf("campaign power: cases=%lu faults=%lu kills=%lu states=%lu "
           "lost=%lu\n", figures->cases, figures->faults, figures->kills,
           figures->states, figures->lost);
    return figures->lost != 0;
}
