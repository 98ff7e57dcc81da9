"""Runs a program on a network of its own on which every address of the world is this machine.

    every_address.py HOSTS PROGRAM [ARGUMENT...]

HOSTS takes the place of /etc/hosts for the program, and nothing else resolves: what a listener on all addresses is
asked for by name or number reaches it, whatever the address, and nothing leaves the machine. Needs root.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

# <linux/rtnetlink.h>
RTM_NEWROUTE = 24
NLM_F_REQUEST_ACK_CREATE = 0x1 | 0x4 | 0x400
RT_TABLE_LOCAL = 255
RTPROT_BOOT = 3
RT_SCOPE_HOST = 254
RTN_LOCAL = 2
RTA_OIF = 4
NLMSG_ERROR = 2

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        sys.exit(f"every_address.py: {function.__name__}: {os.strerror(number)} (this needs root)")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def all_local(family):
    """`ip route add local 0.0.0.0/0 dev lo`, or the same of IPv6. Says whether it was taken."""
    route = struct.pack(
        "BBBBBBBBI", family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0
    )
    interface = struct.pack("HHI", 8, RTA_OIF, socket.if_nametoindex("lo"))
    length = 16 + len(route) + len(interface)
    header = struct.pack("IHHII", length, RTM_NEWROUTE, NLM_F_REQUEST_ACK_CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(header + route + interface)
        kind, error = struct.unpack_from("4xH10xi", netlink.recv(4096))
    return kind == NLMSG_ERROR and error == 0


def main():
    hosts, program = sys.argv[1], sys.argv[2:]
    call(libc.unshare, CLONE_NEWNS | CLONE_NEWNET)
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call(libc.mount, hosts.encode(), b"/etc/hosts", None, MS_BIND, None)
    loopback_up()
    if not all_local(socket.AF_INET):
        sys.exit("every_address.py: the route was refused")
    # A kernel without IPv6 has none to reach either.
    all_local(socket.AF_INET6)
    os.execv(program[0], program)


main()
