/*
 * A wall clock that can be moved from outside: the system's time plus an offset in a file that every process under this
 * clock maps. Monotonic clocks do not change, so that timeouts and event loops do not notice.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000LL

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static _Atomic int64_t *offset_ns;

/* Called by the first of the functions below: some programs ask for the time before constructors run. */
static void begin(void) {
    const char *path = getenv("IDEM_MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        fprintf(stderr, "IDEM_MOVED_CLOCK does not name a clock that can be read: %s\n", path ? path : "(not set)");
        abort();
    }
    close(file);
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    offset_ns = map;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!offset_ns) begin();
    int result = real_clock_gettime(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)time->tv_sec * BILLION + time->tv_nsec + *offset_ns;
        time->tv_sec = ns / BILLION;
        time->tv_nsec = ns % BILLION;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone; /* Obsolete, and NULL in every program of this century. */
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
