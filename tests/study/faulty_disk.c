/* A disk that fails now and then: preload it, and reads and writes of some files return errors instead.
 *
 *   cc -shared -fPIC -O2 -o faulty_disk.so faulty_disk.c -ldl
 *   LD_PRELOAD=./faulty_disk.so FAULTY_FILE=study.sqlite FAULTY_PER_MILLION=20000 program
 *
 * FAULTY_FILE         a word in the path of the files that fail
 * FAULTY_PER_MILLION  how many of a million calls fail
 * FAULTY_ERRORS       numbers of errors, separated by commas, taken at random (default: ESTALE, ETIMEDOUT, EIO, ENOSPC;
 *                     reads never return ENOSPC)
 * FAULTY_CALLS        which calls fail: any of the letters r (read), w (write, truncate), s (sync) (default: rw)
 * FAULTY_WHILE        calls fail only while this file exists (default: always)
 * FAULTY_COUNT        the number of failed calls is written to this file, one byte for each
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST 4096
static _Atomic char watched[MOST];
static _Atomic unsigned long long dice = 88172645463325252ULL;
static int errors[32], count = 0, counter = -1;
static unsigned long share = 0;
static const char *word = NULL, *calls = "rw", *while_there = NULL;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void)
{
    const char *given = getenv("FAULTY_ERRORS");
    static char copy[256];
    if (given) {
        strncpy(copy, given, sizeof copy - 1);
        for (char *one = strtok(copy, ","); one && count < 32; one = strtok(NULL, ","))
            errors[count++] = atoi(one);
    } else {
        int usual[] = {ESTALE, ETIMEDOUT, EIO, ENOSPC};
        memcpy(errors, usual, sizeof usual);
        count = 4;
    }
    word = getenv("FAULTY_FILE");
    if (getenv("FAULTY_PER_MILLION")) share = strtoul(getenv("FAULTY_PER_MILLION"), NULL, 10);
    if (getenv("FAULTY_CALLS")) calls = getenv("FAULTY_CALLS");
    while_there = getenv("FAULTY_WHILE");
    dice ^= (unsigned long long)getpid() << 20;
    if (getenv("FAULTY_COUNT")) {
        int (*opened)(const char *, int, ...) = next("open");
        counter = opened(getenv("FAULTY_COUNT"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}

static unsigned long long roll(void)
{
    unsigned long long old = dice, new;
    do {
        new = old;
        new ^= new << 13;
        new ^= new >> 7;
        new ^= new << 17;
    } while (!atomic_compare_exchange_weak(&dice, &old, new));
    return new;
}

static int fails(int file, char call)
{
    if (file < 0 || file >= MOST || !watched[file] || !count || !strchr(calls, call)) return 0;
    if (roll() % 1000000 >= share || (while_there && access(while_there, F_OK))) return 0;
    int error = errors[roll() % (unsigned)count];
    if (call == 'r' && error == ENOSPC) error = EIO;
    if (counter >= 0) {
        ssize_t (*written)(int, const void *, size_t) = next("write");
        if (written(counter, "x", 1) < 0) counter = -1;
    }
    errno = error;
    return 1;
}

static int seen(int file, const char *path)
{
    if (file >= 0 && file < MOST) watched[file] = word && path && strstr(path, word);
    return file;
}

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        static int (*real)(const char *, int, ...);                      \
        if (!real) real = next(#name);                                   \
        va_list more;                                                    \
        va_start(more, flags);                                           \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                    \
        return seen(real(path, flags, mode), path);                      \
    }
OPEN(open)
OPEN(open64)

#define CALL(type, name, letter, parameters, ...)                        \
    type name parameters                                                 \
    {                                                                    \
        static type (*real) parameters;                                  \
        if (!real) real = next(#name);                                   \
        return fails(file, letter) ? -1 : real(__VA_ARGS__);             \
    }
CALL(ssize_t, read, 'r', (int file, void *data, size_t size), file, data, size)
CALL(ssize_t, pread, 'r', (int file, void *data, size_t size, off_t at), file, data, size, at)
CALL(ssize_t, pread64, 'r', (int file, void *data, size_t size, off64_t at), file, data, size, at)
CALL(ssize_t, write, 'w', (int file, const void *data, size_t size), file, data, size)
CALL(ssize_t, pwrite, 'w', (int file, const void *data, size_t size, off_t at), file, data, size, at)
CALL(ssize_t, pwrite64, 'w', (int file, const void *data, size_t size, off64_t at), file, data, size, at)
CALL(int, ftruncate, 'w', (int file, off_t size), file, size)
CALL(int, ftruncate64, 'w', (int file, off64_t size), file, size)
CALL(int, fsync, 's', (int file), file)
CALL(int, fdatasync, 's', (int file), file)
