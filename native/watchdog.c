/* The ioctls of /dev/watchdogN (Documentation/watchdog/watchdog-api.rst). */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/watchdog.h>

#include "calls.h"

static int call(int fd, unsigned long number, void *argument)
{
    return ioctl(fd, number, argument) < 0 ? -errno : 0;
}

/* In: wished. Out: what the hardware can do, at least that much. */
int wdioc_settimeout(int fd, int *seconds)
{
    return call(fd, WDIOC_SETTIMEOUT, seconds);
}

int wdioc_gettimeout(int fd, int *seconds)
{
    return call(fd, WDIOC_GETTIMEOUT, seconds);
}

int wdioc_keepalive(int fd)
{
    int unused = 0;

    return call(fd, WDIOC_KEEPALIVE, &unused);
}

int wdioc_getsupport(int fd, uint32_t *options, uint32_t *firmware_version, char *identity,
                     size_t size)
{
    struct watchdog_info info;
    int result;

    if (size < sizeof(info.identity) + 1)
        return -EINVAL;
    memset(&info, 0, sizeof(info));
    result = call(fd, WDIOC_GETSUPPORT, &info);
    if (result < 0)
        return result;
    *options = info.options;
    *firmware_version = info.firmware_version;
    memcpy(identity, info.identity, sizeof(info.identity));
    identity[sizeof(info.identity)] = '\0';
    return 0;
}
