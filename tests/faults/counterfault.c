/* Makes reads of energy counters fail with a real errno, and puts a machine to sleep.
 *
 * Preloaded (LD_PRELOAD) into a governor. COUNTERFAULT names a file of 16 bytes that a
 * test maps as well: which errno, how many reads from now on get it (-1: all), and how
 * far CLOCK_BOOTTIME is ahead [ns], as after a suspend. Only files named energy_uj fail,
 * however they are read: a counter that is broken is as broken when it is opened anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile struct { int code, left; long long asleep_ns; } *told;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("COUNTERFAULT");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *found = mmap(0, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) told = found;
    close(fd);
}

static int broken(int fd) {
    char link[64], path[512];
    if (!told || !told->left) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    if (size < 9 || strncmp(path + size - 9, "energy_uj", 9)) return 0;
    if (told->left > 0) told->left--;
    errno = told->code;
    return 1;
}

#define REAL(name, type) static __typeof__(type) real; if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)
#define PREAD(name) ssize_t name(int fd, void *data, size_t size, off_t at) { \
    REAL(#name, ssize_t (*)(int, void *, size_t, off_t)); \
    return broken(fd) ? -1 : real(fd, data, size, at); }
PREAD(pread)
PREAD(pread64)

ssize_t read(int fd, void *data, size_t size) {
    REAL("read", ssize_t (*)(int, void *, size_t));
    return broken(fd) ? -1 : real(fd, data, size);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL("clock_gettime", int (*)(clockid_t, struct timespec *));
    int made = real(clock, now);
    if (!made && told && clock == CLOCK_BOOTTIME) {
        long long ns = now->tv_nsec + told->asleep_ns;
        now->tv_sec += ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return made;
}
