/*
 * The native calls, one function per system call or ioctl.
 *
 * Read twice: by the C compiler, and by cffi as its cdef (native/build.py), so plain
 * declarations only: no preprocessor lines, no include guard. Needs <stdint.h> and <stddef.h>.
 *
 * Every function returns what the call returns (0, or a new file descriptor), or -errno, as the
 * kernel itself does. No policy here: no retries, no defaults, no logging.
 */

/* syscalls.c */
int sys_kexec_file_load(int kernel_fd, int initrd_fd, const char *cmdline, size_t cmdline_len,
                        unsigned long flags);
int sys_reboot_kexec(void);
int sys_reboot_restart(void);
int sys_reboot_multikernel(int mk_id);
int sys_reboot_multikernel_halt(int mk_id);
int sys_reboot_multikernel_halt_force(int mk_id);
int sys_memfd_create(const char *name, unsigned int flags);
int sys_fcntl_add_seals(int fd, unsigned int seals);
int sys_fcntl_get_seals(int fd);
int64_t sys_statfs_type(const char *path);
int64_t sys_fstatfs_type(int fd);
int sys_pidfd_open(int pid, unsigned int flags);
int sys_pidfd_send_signal(int pidfd, int signal);

/* liveupdate.c: names without a NUL inside; name_len excludes the NUL */
int liveupdate_ioctl_create_session(int device, const char *name, size_t name_len);
int liveupdate_ioctl_retrieve_session(int device, const char *name, size_t name_len);
int liveupdate_session_preserve_fd(int session, int fd, uint64_t token);
int liveupdate_session_retrieve_fd(int session, uint64_t token);
int liveupdate_session_finish(int session);
int liveupdate_session_get_name(int session, char *name, size_t size);

/* watchdog.c */
int wdioc_settimeout(int fd, int *seconds);
int wdioc_gettimeout(int fd, int *seconds);
int wdioc_keepalive(int fd);
int wdioc_getsupport(int fd, uint32_t *options, uint32_t *firmware_version, char *identity,
                     size_t size);
