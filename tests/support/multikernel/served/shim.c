/* LD_PRELOAD: the multikernel kernel's calls go to the double by a UNIX socket, and never further.
 *
 * A call for the kernel that cannot be routed is refused with EPERM; nothing here passes kexec or
 * reboot on. Files that only such a kernel has, or that tell of this machine, are opened below
 * $MKDOUBLE_FACE; statfs(2) says the multikernel magic number where the double is mounted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546
#define MULTIKERNEL_MAGIC 0x6d6b6673
#define KEXEC_MULTIKERNEL 0x10

#define MKTTY "/dev/mktty"
#define MOST_FDS 4096

enum { KEXEC = 1, REBOOT = 2, VSOCK = 3 };

/* Of descriptors that stand for a device or a socket of such a kernel: guarded by nothing, as a
 * descriptor is used by one thread at a time until it is connected. */
enum { OTHER = 0, CONSOLE_OPEN, CONSOLE_PICKED };
static unsigned char consoles[MOST_FDS];
static unsigned int bound_ports[MOST_FDS];

#define OURS(fd) ((fd) >= 0 && (fd) < MOST_FDS)

struct request {
    uint64_t kind, arguments[5], pid, text_length;
};

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int all(ssize_t (*move)(int, void *, size_t), int fd, void *data, size_t left)
{
    char *at = data;
    while (left) {
        ssize_t moved = move(fd, at, left);
        if (moved <= 0)
            return -1;
        at += moved;
        left -= (size_t)moved;
    }
    return 0;
}

static ssize_t send_some(int fd, void *data, size_t length)
{
    return send(fd, data, length, MSG_NOSIGNAL);
}

/* A connection to one of the double's sockets, or -1 with errno. */
static int connected(int fd, const char *suffix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("MKDOUBLE_SOCKET");
    if (!path) {
        errno = EPERM;
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s%s", path, suffix);
    return NEXT(connect)(fd, (struct sockaddr *)&address, sizeof address);
}

/* The double's answer, or EPERM when there is none. */
static long routed(struct request *request, const char *text)
{
    int64_t answer = -EPERM;
    int fd = NEXT(socket)(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        request->pid = (uint64_t)getpid();
        if (connected(fd, "") || all(send_some, fd, request, sizeof *request) ||
            all(send_some, fd, (void *)text, request->text_length) ||
            all(NEXT(read), fd, &answer, sizeof answer))
            answer = -EPERM;
        NEXT(close)(fd);
    }
    if (answer < 0) {
        errno = (int)-answer;
        return -1;
    }
    return (long)answer;
}

static long refused(void)
{
    errno = EPERM;
    return -1;
}

static long kexec_call(const long *a)
{
    struct request request = {
        KEXEC, {(uint32_t)a[0], (uint32_t)a[1], (uint64_t)a[2], a[3] != 0, (uint64_t)a[4]}, 0, 0};
    if (!(a[4] & KEXEC_MULTIKERNEL) || a[2] < 0 || a[2] > 1 << 16)
        return refused();
    request.text_length = a[3] ? (uint64_t)a[2] : 0;
    return routed(&request, (const char *)a[3]);
}

static long reboot_call(const long *a)
{
    uint32_t command = (uint32_t)a[2];
    if ((command != 0x4d4b4c49 && command != 0x4d4b4c48 && command != 0x4d4b4c46) || !a[3])
        return refused();
    struct request request = {
        REBOOT, {(uint32_t)a[0], (uint32_t)a[1], command, *(const uint32_t *)a[3], 0}, 0, 0};
    return routed(&request, "");
}

long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_kexec_file_load)
        return kexec_call(a);
    if (number == SYS_reboot)
        return reboot_call(a);
    if (number == SYS_kexec_load)
        return refused();
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int reboot(int command)
{
    (void)command;
    return (int)refused();
}

#define SAYS_MAGIC(name, type, kind)                                                               \
    int name(type which, struct kind *result)                                                      \
    {                                                                                              \
        int failed = NEXT(name)(which, result);                                                    \
        if (!failed && result->f_type == FUSE_MAGIC)                                               \
            result->f_type = MULTIKERNEL_MAGIC;                                                    \
        return failed;                                                                             \
    }
SAYS_MAGIC(statfs, const char *, statfs)
SAYS_MAGIC(statfs64, const char *, statfs64)
SAYS_MAGIC(fstatfs, int, statfs)
SAYS_MAGIC(fstatfs64, int, statfs64)

static int is_console(const char *path)
{
    return path && !strcmp(path, MKTTY);
}

static const char *faced(const char *path, char *room, size_t size)
{
    static const char *const ours[] = {"/proc/kimage", "/proc/iomem", "/proc/cpuinfo",
                                       "/proc/meminfo", MKTTY,
                                       "/sys/devices/system/memory/block_size_bytes"};
    const char *face = getenv("MKDOUBLE_FACE");
    for (size_t i = 0; face && path && i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(path, ours[i])) {
            snprintf(room, size, "%s%s", face, strrchr(path, '/'));
            return room;
        }
    return path;
}

/* The device: a connection of its own for each open(2). */
static int open_console(int flags)
{
    int fd = NEXT(socket)(AF_UNIX, SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0), 0);
    if (fd < 0)
        return -1;
    if (!OURS(fd) || connected(fd, ".mktty")) {
        NEXT(close)(fd);
        errno = ENOENT;
        return -1;
    }
    if (flags & O_NONBLOCK)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    consoles[fd] = CONSOLE_OPEN;
    return fd;
}

/* The first write picks the instance; it is answered before anything that the instance says. */
static ssize_t pick(int fd, const void *data, size_t length)
{
    int64_t answer = -EIO;
    int flags = fcntl(fd, F_GETFL);
    uint64_t size = length;
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    if (all(send_some, fd, &size, sizeof size) || all(send_some, fd, (void *)data, length) ||
        all(NEXT(read), fd, &answer, sizeof answer))
        answer = -EIO;
    fcntl(fd, F_SETFL, flags);
    if (answer < 0) {
        errno = (int)-answer;
        return -1;
    }
    consoles[fd] = CONSOLE_PICKED;
    return (ssize_t)length;
}

ssize_t write(int fd, const void *data, size_t length)
{
    if (OURS(fd) && consoles[fd] == CONSOLE_OPEN)
        return pick(fd, data, length);
    return NEXT(write)(fd, data, length);
}

ssize_t read(int fd, void *data, size_t length)
{
    if (OURS(fd) && consoles[fd] == CONSOLE_OPEN) {
        errno = ENOTCONN;
        return -1;
    }
    return NEXT(read)(fd, data, length);
}

int close(int fd)
{
    if (OURS(fd)) {
        consoles[fd] = OTHER;
        bound_ports[fd] = 0;
    }
    return NEXT(close)(fd);
}

#define OPENS(name)                                                                                \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        char room[4096];                                                                           \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                    \
        va_end(list);                                                                              \
        if (is_console(path))                                                                      \
            return open_console(flags);                                                            \
        return NEXT(name)(faced(path, room, sizeof room), flags, mode);                            \
    }
OPENS(open)
OPENS(open64)

#define LOOKS(name, kind)                                                                          \
    int name(const char *restrict path, struct kind *restrict result)                              \
    {                                                                                              \
        char room[4096];                                                                           \
        int failed = NEXT(name)(faced(path, room, sizeof room), result);                           \
        if (!failed && is_console(path))                                                           \
            result->st_mode = (result->st_mode & ~S_IFMT) | S_IFCHR;                               \
        return failed;                                                                             \
    }
LOOKS(stat, stat)
LOOKS(stat64, stat64)

int socket(int domain, int type, int protocol)
{
    return NEXT(socket)(domain == AF_VSOCK ? AF_UNIX : domain, type, protocol);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    if (level != AF_VSOCK)
        return NEXT(setsockopt)(fd, level, option, value, length);
    struct request request = {VSOCK, {0, 0, 0, 0, 0}, 0, 0};
    return (int)routed(&request, "");
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    if (address->sa_family != AF_VSOCK)
        return NEXT(bind)(fd, address, length);
    if (OURS(fd))
        bound_ports[fd] = ((const struct sockaddr_vm *)address)->svm_port;
    return 0;
}

/* The double says what becomes of it; data goes over a socket of its own, which begins with who
 * is wanted and who asks. */
int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    if (address->sa_family != AF_VSOCK)
        return NEXT(connect)(fd, address, length);
    const struct sockaddr_vm *to = (const struct sockaddr_vm *)address;
    struct request request = {VSOCK, {1, to->svm_cid, to->svm_port, 0, 0}, 0, 0};
    uint64_t head[] = {to->svm_cid, to->svm_port, OURS(fd) ? bound_ports[fd] : 0};
    if (routed(&request, "") < 0)
        return -1;
    if (connected(fd, ".vsock"))
        return -1;
    return all(send_some, fd, head, sizeof head);
}
