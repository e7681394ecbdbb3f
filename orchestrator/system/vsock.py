"""Sockets between kernels of one machine (AF_VSOCK), for the transport that this kernel has.

On a multikernel kernel the transport must be chosen before bind and connect (net/vmw_vsock of that
kernel; not in Python's socket module); on any other there is no such option, and a guest and its
host need none.
"""

from __future__ import annotations

import socket

_SO_VM_SOCKETS_TRANSPORT = 9
_VSOCK_TRANSPORT_MULTIKERNEL = 1


def instance_socket() -> socket.socket:
    """A socket over the transport between instances.

    Raises:
        OSError: this kernel has none.
    """
    made = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.AF_VSOCK, _SO_VM_SOCKETS_TRANSPORT, _VSOCK_TRANSPORT_MULTIKERNEL)
    except OSError:
        made.close()
        raise
    return made


def any_socket() -> socket.socket:
    """As `instance_socket` where there is that transport, else over the one that there is.

    Raises:
        OSError: this kernel has no vsock.
    """
    try:
        return instance_socket()
    except OSError:
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
