/* The six ioctls of /dev/liveupdate and its sessions (Documentation/userspace-api/liveupdate.rst). */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "calls.h"
#include "liveupdate_abi.h"

#ifdef __has_include
#if __has_include(<linux/liveupdate.h>)
#include <linux/liveupdate.h>

#define SAME_MEMBER(ours, theirs, member)                                                      \
    _Static_assert(offsetof(struct ours, member) == offsetof(struct theirs, member) &&         \
                       sizeof(((struct ours *)0)->member) == sizeof(((struct theirs *)0)->member), \
                   #theirs "." #member)
#define SAME_CALL(number, ours, name, theirs)                                                  \
    _Static_assert((number) == (name), #name);                                                 \
    _Static_assert(sizeof(struct ours) == sizeof(struct theirs), #theirs)

_Static_assert(LUO_NAME_LENGTH == LIVEUPDATE_SESSION_NAME_LENGTH, "name length");

SAME_CALL(LUO_CREATE_SESSION, luo_create_session, LIVEUPDATE_IOCTL_CREATE_SESSION,
          liveupdate_ioctl_create_session);
SAME_MEMBER(luo_create_session, liveupdate_ioctl_create_session, fd);
SAME_MEMBER(luo_create_session, liveupdate_ioctl_create_session, name);

SAME_CALL(LUO_RETRIEVE_SESSION, luo_retrieve_session, LIVEUPDATE_IOCTL_RETRIEVE_SESSION,
          liveupdate_ioctl_retrieve_session);
SAME_MEMBER(luo_retrieve_session, liveupdate_ioctl_retrieve_session, fd);
SAME_MEMBER(luo_retrieve_session, liveupdate_ioctl_retrieve_session, name);

SAME_CALL(LUO_PRESERVE_FD, luo_preserve_fd, LIVEUPDATE_SESSION_PRESERVE_FD,
          liveupdate_session_preserve_fd);
SAME_MEMBER(luo_preserve_fd, liveupdate_session_preserve_fd, fd);
SAME_MEMBER(luo_preserve_fd, liveupdate_session_preserve_fd, token);

SAME_CALL(LUO_RETRIEVE_FD, luo_retrieve_fd, LIVEUPDATE_SESSION_RETRIEVE_FD,
          liveupdate_session_retrieve_fd);
SAME_MEMBER(luo_retrieve_fd, liveupdate_session_retrieve_fd, fd);
SAME_MEMBER(luo_retrieve_fd, liveupdate_session_retrieve_fd, token);

SAME_CALL(LUO_FINISH, luo_finish, LIVEUPDATE_SESSION_FINISH, liveupdate_session_finish);

#ifdef LIVEUPDATE_SESSION_GET_NAME /* Linux 7.2 on */
SAME_CALL(LUO_GET_NAME, luo_get_name, LIVEUPDATE_SESSION_GET_NAME, liveupdate_session_get_name);
SAME_MEMBER(luo_get_name, liveupdate_session_get_name, name);
#endif
#endif
#endif

static int call(int fd, unsigned long number, void *argument)
{
    return ioctl(fd, number, argument) < 0 ? -errno : 0;
}

int liveupdate_ioctl_create_session(int device, const char *name, size_t name_len)
{
    struct luo_create_session arg = {.size = sizeof(arg), .fd = -1};
    int result;

    if (name_len >= sizeof(arg.name))
        return -ENAMETOOLONG;
    memcpy(arg.name, name, name_len);
    result = call(device, LUO_CREATE_SESSION, &arg);
    return result < 0 ? result : arg.fd;
}

int liveupdate_ioctl_retrieve_session(int device, const char *name, size_t name_len)
{
    struct luo_retrieve_session arg = {.size = sizeof(arg), .fd = -1};
    int result;

    if (name_len >= sizeof(arg.name))
        return -ENAMETOOLONG;
    memcpy(arg.name, name, name_len);
    result = call(device, LUO_RETRIEVE_SESSION, &arg);
    return result < 0 ? result : arg.fd;
}

int liveupdate_session_preserve_fd(int session, int fd, uint64_t token)
{
    struct luo_preserve_fd arg = {.size = sizeof(arg), .fd = fd, .token = token};

    return call(session, LUO_PRESERVE_FD, &arg);
}

int liveupdate_session_retrieve_fd(int session, uint64_t token)
{
    struct luo_retrieve_fd arg = {.size = sizeof(arg), .fd = -1, .token = token};
    int result = call(session, LUO_RETRIEVE_FD, &arg);

    return result < 0 ? result : arg.fd;
}

int liveupdate_session_finish(int session)
{
    struct luo_finish arg = {.size = sizeof(arg)};

    return call(session, LUO_FINISH, &arg);
}

int liveupdate_session_get_name(int session, char *name, size_t size)
{
    struct luo_get_name arg = {.size = sizeof(arg)};
    int result;

    if (size < sizeof(arg.name))
        return -EINVAL;
    result = call(session, LUO_GET_NAME, &arg);
    if (result < 0)
        return result;
    memcpy(name, arg.name, sizeof(arg.name));
    name[sizeof(arg.name) - 1] = '\0';
    return 0;
}
