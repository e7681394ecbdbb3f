/*
 * The ABI of /dev/liveupdate, as Linux 7.2 and 7.3 have it (include/uapi/linux/liveupdate.h).
 *
 * Written out here because most build machines have older headers. Where the kernel's own
 * header is there, liveupdate.c holds every number and offset against it at compile time.
 */
#ifndef MKUPGRADE_LIVEUPDATE_ABI_H
#define MKUPGRADE_LIVEUPDATE_ABI_H

#include <stddef.h>
#include <stdint.h>

#define LUO_NAME_LENGTH 64 /* with the NUL */

/* _IO(0xBA, nr): no direction and no size bits; the size is the first member. */
#define LUO_CREATE_SESSION 0xBA00
#define LUO_RETRIEVE_SESSION 0xBA01
#define LUO_PRESERVE_FD 0xBA40
#define LUO_RETRIEVE_FD 0xBA41
#define LUO_FINISH 0xBA42
#define LUO_GET_NAME 0xBA43

struct luo_create_session {
    uint32_t size;
    int32_t fd; /* out */
    uint8_t name[LUO_NAME_LENGTH];
};

struct luo_retrieve_session {
    uint32_t size;
    int32_t fd; /* out */
    uint8_t name[LUO_NAME_LENGTH];
};

struct luo_preserve_fd {
    uint32_t size;
    int32_t fd;
    uint64_t token __attribute__((aligned(8)));
};

struct luo_retrieve_fd {
    uint32_t size;
    int32_t fd; /* out */
    uint64_t token __attribute__((aligned(8)));
};

struct luo_finish {
    uint32_t size;
    uint32_t reserved;
};

struct luo_get_name {
    uint32_t size;
    uint32_t reserved;
    uint8_t name[LUO_NAME_LENGTH]; /* out */
};

_Static_assert(sizeof(struct luo_create_session) == 72, "CREATE_SESSION");
_Static_assert(sizeof(struct luo_retrieve_session) == 72, "RETRIEVE_SESSION");
_Static_assert(sizeof(struct luo_preserve_fd) == 16, "PRESERVE_FD");
_Static_assert(sizeof(struct luo_retrieve_fd) == 16, "RETRIEVE_FD");
_Static_assert(sizeof(struct luo_finish) == 8, "FINISH");
_Static_assert(sizeof(struct luo_get_name) == 72, "GET_NAME");
_Static_assert(offsetof(struct luo_create_session, name) == 8, "name");
_Static_assert(offsetof(struct luo_preserve_fd, token) == 8, "token");
_Static_assert(offsetof(struct luo_get_name, name) == 8, "name");

#endif
