/* A library to be preloaded: it sees what a process does to the files of one folder, notes it, and lets one deed go wrong.
 *
 * faultfs_watch(folder, trace, nth, action) is called by the process itself (ctypes) before it opens anything. From then
 * on every creation, write, sync, truncation and removal in the folder is a boundary, counted from 1. At the nth one the
 * action happens; the trace, where one is named, has a line for each boundary, with the bytes of a write behind it:
 *
 *     <kind> <offset or length> <bytes that follow> <path>\n<bytes>
 *
 * kinds: C created, W write, S sync, T truncated to, U unlinked, D sync of a folder, A bytes for the file "acks", which
 * is no boundary: by it the process says what it has told its caller. Memory that processes share (-shm) is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { NOTHING, KILL, TORN, EIO_ONCE, EIO_EVER, ENOSPC_ONCE, ENOSPC_EVER };
enum { GO_ON, REFUSE, TEAR };
enum { MAX_FD = 1024, MAX_PATH = 512 };

static char folder[MAX_PATH];
static char path_of[MAX_FD][MAX_PATH];
static long nth, seen;
static int action, trace = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t put(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(fd, bytes, n);
}

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int watched(const char *path) {
    return folder[0] && !strncmp(path, folder, strlen(folder)) && !ends_with(path, "-shm") && !ends_with(path, ".jsonl");
}

static const char *path_at(int fd) { return fd >= 0 && fd < MAX_FD && path_of[fd][0] ? path_of[fd] : NULL; }

static void note(char kind, long at, size_t n, const char *path, const void *bytes) {
    if (trace < 0) return;
    char line[MAX_PATH + 64];
    put(trace, line, snprintf(line, sizeof line, "%c %ld %zu %s\n", kind, at, n, path));
    if (n) put(trace, bytes, n);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* One boundary: what is to happen there. */
static int boundary(void) {
    if (++seen < nth || !nth) return GO_ON;
    switch (action) {
    case KILL: die(); break;
    case TORN: return TEAR;
    case EIO_ONCE: if (seen != nth) return GO_ON; errno = EIO; return REFUSE;
    case EIO_EVER: errno = EIO; return REFUSE;
    case ENOSPC_ONCE: if (seen != nth) return GO_ON; errno = ENOSPC; return REFUSE;
    case ENOSPC_EVER: errno = ENOSPC; return REFUSE;
    }
    return GO_ON;
}

void faultfs_watch(const char *of, const char *trace_path, long at, int do_what) {
    REAL(int, open64, const char *, int, ...);
    seen = 0, nth = at, action = do_what;
    if (trace_path[0]) trace = real_open64(trace_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    strncpy(folder, of, MAX_PATH - 1);
}

long faultfs_seen(void) { return seen; }

static int opened(const char *path, int flags, mode_t mode) {
    REAL(int, open64, const char *, int, ...);
    if (!watched(path)) {
        int fd = real_open64(path, flags, mode);
        if (fd >= 0 && fd < MAX_FD) path_of[fd][0] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat found;
    int creates = (flags & O_CREAT) && stat(path, &found) && !ends_with(path, "/acks"), fd = -1;
    if (!creates || boundary() != REFUSE) fd = real_open64(path, flags, mode);
    if (fd >= 0 && fd < MAX_FD) strncpy(path_of[fd], path, MAX_PATH - 1);
    if (fd >= 0 && creates) note('C', 0, 0, path, NULL);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int close(int fd) {
    REAL(int, close, int);
    if (fd >= 0 && fd < MAX_FD) path_of[fd][0] = 0;
    return real_close(fd);
}

static ssize_t written(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    const char *path = path_at(fd);
    if (!path) return real_pwrite64(fd, bytes, n, at);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    switch (boundary()) {
    case TEAR: real_pwrite64(fd, bytes, n / 2, at); die(); break;
    case GO_ON: note('W', at, n, path, bytes); done = real_pwrite64(fd, bytes, n, at);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { return written(fd, bytes, n, at); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { return written(fd, bytes, n, at); }

ssize_t write(int fd, const void *bytes, size_t n) {
    const char *path = path_at(fd);
    if (!path) return put(fd, bytes, n);
    if (!ends_with(path, "/acks")) {
        ssize_t done = written(fd, bytes, n, lseek64(fd, 0, SEEK_CUR));
        if (done > 0) lseek64(fd, done, SEEK_CUR);
        return done;
    }
    pthread_mutex_lock(&lock);
    note('A', 0, n, path, bytes);
    pthread_mutex_unlock(&lock);
    return put(fd, bytes, n);
}

static int synced(int fd, int (*sync)(int)) {
    const char *path = path_at(fd);
    if (!path) return sync(fd);
    pthread_mutex_lock(&lock);
    struct stat found;
    int done = -1;
    switch (boundary()) {
    case TEAR: sync(fd); die(); break;
    case GO_ON: done = sync(fd); note(!fstat(fd, &found) && S_ISDIR(found.st_mode) ? 'D' : 'S', 0, 0, path, NULL);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return synced(fd, real_fsync);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return synced(fd, real_fdatasync);
}

static int truncated(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    const char *path = path_at(fd);
    if (!path) return real_ftruncate64(fd, length);
    pthread_mutex_lock(&lock);
    int done = -1;
    switch (boundary()) {
    case TEAR: real_ftruncate64(fd, length); die(); break;
    case GO_ON: note('T', length, 0, path, NULL); done = real_ftruncate64(fd, length);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }
int ftruncate(int fd, off_t length) { return truncated(fd, length); }

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (!watched(path)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    int done = -1;
    switch (boundary()) {
    case TEAR: real_unlink(path); die(); break;
    case GO_ON: note('U', 0, 0, path, NULL); done = real_unlink(path);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
