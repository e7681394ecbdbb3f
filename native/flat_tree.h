/*
 * What is used of libfdt, each declaration as in <libfdt.h>: cffi's cdef only (native/build.py);
 * the compiler holds it against the library's own header.
 *
 * Every function that returns int gives what libfdt gives: 0 or an offset, or -FDT_ERR_*.
 */

/* reading */
int fdt_check_full(const void *fdt, size_t bufsize);
int fdt_next_node(const void *fdt, int offset, int *depth);
int fdt_first_property_offset(const void *fdt, int nodeoffset);
int fdt_next_property_offset(const void *fdt, int offset);
const char *fdt_get_name(const void *fdt, int nodeoffset, int *lenp);
const void *fdt_getprop_by_offset(const void *fdt, int offset, const char **namep, int *lenp);
const char *fdt_strerror(int errval);

/* writing, front to back */
int fdt_create(void *buf, int bufsize);
int fdt_finish_reservemap(void *fdt);
int fdt_begin_node(void *fdt, const char *name);
int fdt_property(void *fdt, const char *name, const void *val, int len);
int fdt_end_node(void *fdt);
int fdt_finish(void *fdt);

static const int FDT_ERR_NOTFOUND;
static const int FDT_ERR_NOSPACE;
