#!/bin/sh
# PID 1 of a guest that does without systemd: mounts, network, resume, workloads, control.
# A transaction goes first, because every moment here is blackout.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
[ -e /proc/self ] || mount -t proc proc /proc
[ -e /sys/kernel ] || mount -t sysfs sys /sys
[ -e /dev/null ] || mount -t devtmpfs dev /dev
read -r name </etc/hostname
echo "$name" >/proc/sys/kernel/hostname
# All by one program: to start another takes a quarter of a second where it is emulated. A kernel
# without debugfs goes without.
mount -a 2>/dev/null
# On kernels with modules these are not there by themselves.
[ ! -e /proc/modules ] || modprobe -qa virtio_console virtio_net
# Booted through UEFI: what a boot loader is asked and told by.
if [ -d /sys/firmware/efi/efivars ]; then
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars
    mkdir -p /efi
    mount -t vfat -o umask=0077 /dev/vdb1 /efi
fi
here=/usr/lib/python3/dist-packages/orchestrator/rehearsal/guest

python3 -IS $here/agent.py &

ip link set lo up
if [ -d /var/lib/mkupgrade ]; then
    timeout 300 mkupgrade resume --boot >>/var/log/mkupgrade-resume.log 2>&1
    ended=$?
    echo "mkupgrade-init: resume ended with $ended" >/dev/kmsg
    echo $ended >/run/mkupgrade-resume.ended
fi
# Only now: until their sockets are back, a segment for them would be answered with a reset. What a
# restored connection needs of this is there already.
ip -batch - <<END || echo "mkupgrade-init: no eth0" >/dev/kmsg
addr replace 10.0.2.15/24 dev eth0
link set eth0 up
route replace default via 10.0.2.2
END

# Workloads get process ids of their own range, far from what a booting kernel hands out:
# restored processes need theirs back.
echo 20000 >/proc/sys/kernel/ns_last_pid
python3 -IS $here/workloads.py
# Reap whatever ends up here, for ever.
while :; do
    wait
    sleep 3600
done
