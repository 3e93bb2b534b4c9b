/* A library between a process and its disk (LD_PRELOAD): records what happens to the files of one directory, and makes
 * calls fail on demand.
 *
 * DISK_ROOT  the directory
 * DISK_TRACE the file to record to, if events are to be recorded; see trace.rs for its format
 *
 * While the file DISK_ROOT.sync-eio exists, every sync of a file of the directory fails with EIO. If the file
 * DISK_ROOT.sync-eio-once exists, the next sync removes it and fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *root;
static size_t root_length;
static int trace = -1;
static uint64_t syncs;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    root = getenv("DISK_ROOT");
    root_length = root ? strlen(root) : 0;
    const char *path = getenv("DISK_TRACE");
    if (path) trace = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

/* The name of a file in the directory, "." for the directory itself, or NULL. The index of the log (-shm) is shared
 * memory and not on the disk. */
static const char *name_in_root(const char *path, size_t length) {
    if (!root || length < root_length || strncmp(path, root, root_length) != 0) return NULL;
    if (length == root_length) return ".";
    if (path[root_length] != '/') return NULL;
    if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return NULL;
    return path + root_length + 1;
}

static const char *name_of(int fd, char path[PATH_MAX]) {
    if (!root) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    return name_in_root(path, (size_t)length);
}

/* Records an event. The caller holds the lock. */
static void note(char kind, const char *name, uint64_t number, const void *data, uint32_t length) {
    if (trace < 0) return;
    uint32_t name_length = (uint32_t)strlen(name);
    size_t size = 1 + 4 + name_length + 8 + 4 + length;
    char *event = malloc(size), *at = event;
    if (!event) abort();
    *at++ = kind;
    memcpy(at, &name_length, 4), at += 4;
    memcpy(at, name, name_length), at += name_length;
    memcpy(at, &number, 8), at += 8;
    memcpy(at, &length, 4), at += 4;
    if (length) memcpy(at, data, length);
    if (real_write(trace, event, size) != (ssize_t)size) abort();
    free(event);
}

static ssize_t noted_write(int fd, const void *data, size_t length, off_t offset, int appends) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return appends ? real_write(fd, data, length) : real_pwrite(fd, data, length, offset);
    pthread_mutex_lock(&order);
    ssize_t done = appends ? real_write(fd, data, length) : real_pwrite(fd, data, length, offset);
    int error = errno;
    if (done > 0) note(appends ? 'A' : 'W', name, (uint64_t)offset, data, (uint32_t)done);
    pthread_mutex_unlock(&order);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t length) { return noted_write(fd, data, length, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return noted_write(fd, data, length, offset, 0); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return noted_write(fd, data, length, offset, 0); }

int ftruncate(int fd, off_t length) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return real_ftruncate(fd, length);
    pthread_mutex_lock(&order);
    int result = real_ftruncate(fd, length);
    int error = errno;
    if (result == 0) note('T', name, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

int unlink(const char *path) {
    const char *name = name_in_root(path, strlen(path));
    if (!name) return real_unlink(path);
    pthread_mutex_lock(&order);
    int result = real_unlink(path);
    int error = errno;
    if (result == 0) note('U', name, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}

static int sync_must_fail(void) {
    char control[PATH_MAX];
    snprintf(control, sizeof control, "%s.sync-eio", root);
    if (access(control, F_OK) == 0) return 1;
    snprintf(control, sizeof control, "%s.sync-eio-once", root);
    return real_unlink(control) == 0;
}

/* When a sync ends, everything written before it began is on the disk; what was written meanwhile may not be. */
static int noted_sync(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return real(fd);
    if (sync_must_fail()) {
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&order);
    uint64_t number = ++syncs;
    note('B', name, number, NULL, 0);
    pthread_mutex_unlock(&order);
    int result = real(fd);
    int error = errno;
    pthread_mutex_lock(&order);
    if (result == 0) note('E', name, number, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int fsync(int fd) { return noted_sync(fd, real_fsync); }
int fdatasync(int fd) { return noted_sync(fd, real_fdatasync); }
