#!/bin/sh
# The initial RAM disk's init: mounts the shared root read-only below a RAM disk and goes on in there.
# /machine says what is where.
B=/bin/busybox
for command in mount mkdir insmod cp mknod poweroff; do alias $command="$B $command"; done
die() { echo "init: $*"; poweroff -f; }

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" || echo "init: insmod $module failed"; done

P9="-t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro"
mount $P9 root /shared || die 'no root'
mount -t tmpfs tmpfs /ram
mkdir /ram/upper /ram/work
mount -t overlay -o lowerdir=/shared,upperdir=/ram/upper,workdir=/ram/work overlay /root || die 'no overlay'

. /machine
mkdir -p /root/lib/modules /root/proc /root/sys /root/dev /root/run /root/tmp
mount -t tmpfs tmpfs /root/run
mount -t tmpfs tmpfs /root/tmp
mkdir -p "/root$PROJECT"
mount $P9 project "/root$PROJECT" || die 'no project'
mount $P9 modules /root/lib/modules || die 'no modules'
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
$B ip link set lo up
cp /machine /session.sh $B /root/run/
# Not chroot: the kernel starts modprobe from the root of the first process.
exec $B switch_root /root /run/busybox sh /run/session.sh
