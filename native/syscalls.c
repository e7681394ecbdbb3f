/* System calls that Python's standard library lacks, or that need errno untouched. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "calls.h"

#ifndef SYS_kexec_file_load
#if defined(__x86_64__)
#define SYS_kexec_file_load 320
#elif defined(__aarch64__)
#define SYS_kexec_file_load 294
#else
#error "mkupgrade runs on x86-64 and arm64: kexec_file_load is not known here"
#endif
#endif

#if defined(__x86_64__)
_Static_assert(SYS_kexec_file_load == 320 && SYS_reboot == 169, "x86-64 system call numbers");
#elif defined(__aarch64__)
_Static_assert(SYS_kexec_file_load == 294 && SYS_reboot == 142, "arm64 system call numbers");
#endif

/* Same numbers on every architecture (arch-independent since Linux 5.1). */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

/* <linux/reboot.h> and <linux/kexec.h> are the kernel's; ours are held against them. */
#define REBOOT_MAGIC1 0xfee1deadU
#define REBOOT_MAGIC2 672274793U
#define REBOOT_CMD_RESTART 0x01234567U
#define REBOOT_CMD_KEXEC 0x45584543U
#define REBOOT_CMD_MULTIKERNEL 0x4D4B4C49U
#define REBOOT_CMD_MULTIKERNEL_HALT 0x4D4B4C48U
#define REBOOT_CMD_MULTIKERNEL_HALT_FORCE 0x4D4B4C46U
#define FILE_UNLOAD 0x00000001UL
#define FILE_NO_INITRAMFS 0x00000004UL

#ifdef __has_include
#if __has_include(<linux/reboot.h>)
#include <linux/reboot.h>
_Static_assert(REBOOT_MAGIC1 == LINUX_REBOOT_MAGIC1, "magic 1");
_Static_assert(REBOOT_MAGIC2 == LINUX_REBOOT_MAGIC2, "magic 2");
_Static_assert(REBOOT_CMD_RESTART == LINUX_REBOOT_CMD_RESTART, "RESTART");
_Static_assert(REBOOT_CMD_KEXEC == LINUX_REBOOT_CMD_KEXEC, "KEXEC");
#ifdef LINUX_REBOOT_CMD_MULTIKERNEL
_Static_assert(REBOOT_CMD_MULTIKERNEL == LINUX_REBOOT_CMD_MULTIKERNEL, "MULTIKERNEL");
_Static_assert(REBOOT_CMD_MULTIKERNEL_HALT == LINUX_REBOOT_CMD_MULTIKERNEL_HALT, "HALT");
_Static_assert(REBOOT_CMD_MULTIKERNEL_HALT_FORCE == LINUX_REBOOT_CMD_MULTIKERNEL_HALT_FORCE,
               "HALT_FORCE");
#endif
#endif
#if __has_include(<linux/kexec.h>)
#include <linux/kexec.h>
_Static_assert(FILE_UNLOAD == KEXEC_FILE_UNLOAD, "UNLOAD");
_Static_assert(FILE_NO_INITRAMFS == KEXEC_FILE_NO_INITRAMFS, "NO_INITRAMFS");
#endif
#endif

int sys_kexec_file_load(int kernel_fd, int initrd_fd, const char *cmdline, size_t cmdline_len,
                        unsigned long flags)
{
    long result = syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, (unsigned long)cmdline_len,
                          cmdline, flags);

    return result < 0 ? -errno : 0;
}

static int restart(unsigned int command)
{
    return syscall(SYS_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, command, NULL) < 0 ? -errno : 0;
}

int sys_reboot_kexec(void)
{
    return restart(REBOOT_CMD_KEXEC);
}

int sys_reboot_restart(void)
{
    return restart(REBOOT_CMD_RESTART);
}

static int instance(unsigned int command, int mk_id)
{
    struct {
        int mk_id;
    } argument = {mk_id};

    return syscall(SYS_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, command, &argument) < 0 ? -errno : 0;
}

int sys_reboot_multikernel(int mk_id)
{
    return instance(REBOOT_CMD_MULTIKERNEL, mk_id);
}

int sys_reboot_multikernel_halt(int mk_id)
{
    return instance(REBOOT_CMD_MULTIKERNEL_HALT, mk_id);
}

int sys_reboot_multikernel_halt_force(int mk_id)
{
    return instance(REBOOT_CMD_MULTIKERNEL_HALT_FORCE, mk_id);
}

int sys_memfd_create(const char *name, unsigned int flags)
{
    long result = syscall(SYS_memfd_create, name, flags);

    return result < 0 ? -errno : (int)result;
}

int sys_fcntl_add_seals(int fd, unsigned int seals)
{
    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int sys_fcntl_get_seals(int fd)
{
    int result = fcntl(fd, F_GET_SEALS);

    return result < 0 ? -errno : result;
}

/* f_type is a long whose upper half means nothing: magic numbers have 32 bits. */
int64_t sys_statfs_type(const char *path)
{
    struct statfs result;

    return statfs(path, &result) < 0 ? -errno : (int64_t)(uint32_t)result.f_type;
}

int64_t sys_fstatfs_type(int fd)
{
    struct statfs result;

    return fstatfs(fd, &result) < 0 ? -errno : (int64_t)(uint32_t)result.f_type;
}

int sys_pidfd_open(int pid, unsigned int flags)
{
    long result = syscall(SYS_pidfd_open, pid, flags);

    return result < 0 ? -errno : (int)result;
}

int sys_pidfd_send_signal(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}
