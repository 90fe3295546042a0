/* Makes the n-th system call of a program fail, or the program die at it.
 *
 * Preloaded (LD_PRELOAD), so that the kernel's own calls still happen around the failing
 * one. Armed from inside through ctypes: fail_arm(n, code). code > 0: the call fails with
 * that errno, without being made; 0: SIGKILL before it is made; -1: SIGKILL after it was
 * made; -2: fail_arm only counts. A write that is to fail with ENOSPC first comes out
 * short, by half, and the next one fails, as on a file system that fills up.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static long left = 0, seen = 0;
static int armed = 0, what = 0, full = 0;

void fail_arm(long n, int code) { left = n; what = code; seen = 0; full = 0; armed = 1; }
long fail_disarm(void) { armed = 0; return seen; }

/* 1: let it fail; 2: die after it; 0: go on */
static int due(void) {
    if (!armed) return 0;
    seen++;
    if (what == -2 || seen != left) return 0;
    if (what == 0) kill(getpid(), SIGKILL);
    if (what == -1) return 2;
    errno = what;
    return 1;
}

#define REAL(name, type) static __typeof__(type) real; if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)
#define RUN(call) do { int now = due(); if (now == 1) return -1; \
    long made = (call); if (now == 2) kill(getpid(), SIGKILL); return made; } while (0)

#define OPENAT(name) int name(int dir, const char *path, int flags, ...) { \
    REAL(#name, int (*)(int, const char *, int, ...)); \
    mode_t mode = 0; \
    if (flags & O_CREAT) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
    RUN(real(dir, path, flags, mode)); }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t (*)(int, const void *, size_t));
    if (armed && full) { errno = ENOSPC; return -1; }
    int now = due();
    if (now == 1 && errno == ENOSPC && size > 1) { full = 1; return real(fd, data, size / 2); }
    if (now == 1) return -1;
    ssize_t made = real(fd, data, size);
    if (now == 2) kill(getpid(), SIGKILL);
    return made;
}
ssize_t read(int fd, void *data, size_t size) {
    REAL("read", ssize_t (*)(int, void *, size_t)); RUN(real(fd, data, size)); }
int fsync(int fd) { REAL("fsync", int (*)(int)); RUN(real(fd)); }
int close(int fd) {
    REAL("close", int (*)(int));
    int now = due();
    int made = real(fd);  /* Linux closes it even where it reports an error */
    if (now == 2) kill(getpid(), SIGKILL);
    if (now == 1) { errno = what; return -1; }
    return made;
}
int flock(int fd, int op) { REAL("flock", int (*)(int, int)); RUN(real(fd, op)); }
int fchmod(int fd, mode_t mode) { REAL("fchmod", int (*)(int, mode_t)); RUN(real(fd, mode)); }
int renameat(int a, const char *x, int b, const char *y) {
    REAL("renameat", int (*)(int, const char *, int, const char *)); RUN(real(a, x, b, y)); }
int unlinkat(int dir, const char *path, int flags) {
    REAL("unlinkat", int (*)(int, const char *, int)); RUN(real(dir, path, flags)); }
#define STATS(name, kind) int name(int dir, const char *path, struct kind *out, int flags) { \
    REAL(#name, int (*)(int, const char *, struct kind *, int)); RUN(real(dir, path, out, flags)); }
STATS(fstatat, stat)
STATS(fstatat64, stat64)
int fstat(int fd, struct stat *out) {
    REAL("fstat", int (*)(int, struct stat *)); RUN(real(fd, out)); }
int fstat64(int fd, struct stat64 *out) {
    REAL("fstat64", int (*)(int, struct stat64 *)); RUN(real(fd, out)); }
