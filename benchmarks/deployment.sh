#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Deploys vda as somebody does who writes it down by hand: deployment.sh tree|archive|image URL
# It knows the disk, looks at nothing beforehand and at nothing afterwards. deployment.py has bareon do the same.
set -euo pipefail
kind=$1 url=$2
target=/mnt/target
bios=21686148-6449-6E6F-744E-656564454649

system() {  # what makes a tree that is mounted boot
  : > "$target/etc/fstab"
  while read -r device point type options pass; do
    uuid=$(blkid -p -o value -s UUID "$device")
    echo "UUID=$uuid $point $type $options 0 $pass" >> "$target/etc/fstab"
  done
  for each in dev proc sys; do mount --bind "/$each" "$target/$each"; done
  chroot "$target" grub-install /dev/vda
  chroot "$target" grub-mkconfig -o /boot/grub/grub.cfg
  umount "$target/sys" "$target/proc" "$target/dev"
}

mkdir -p "$target"
if [ "$kind" = image ]; then
  sfdisk --quiet --wipe always /dev/vda << END
label: gpt
size=24MiB, type=$bios
size=3GiB
END
  udevadm settle
  curl -sSf "$url" | zstd -dcq | dd of=/dev/vda2 bs=1M iflag=fullblock oflag=direct conv=fsync status=none
  e2fsck -f -p /dev/vda2
  tune2fs -U random /dev/vda2
  resize2fs /dev/vda2
  mount /dev/vda2 "$target"
  system <<< "/dev/vda2 / ext4 defaults 1"
  umount "$target"
  sync
  exit
fi
sfdisk --quiet --wipe always /dev/vda << END
label: gpt
size=24MiB, type=$bios
size=256MiB
type=E6D6D379-F507-44C2-A23C-238F2A3DF928
END
udevadm settle
pvcreate -q -y /dev/vda3
vgcreate -q -y os /dev/vda3
lvcreate -q -y -n root -L 2G os
lvcreate -q -y -n swap -L 256M os
lvcreate -q -y -n home -L 512M os
udevadm settle
mkfs.ext4 -q -F /dev/vda2
mkfs.ext4 -q -F /dev/os/root
mkfs.xfs -q -f /dev/os/home
mkswap /dev/os/swap
mount /dev/os/root "$target"
mkdir "$target/boot" "$target/home"
mount /dev/vda2 "$target/boot"
mount /dev/os/home "$target/home"
if [ "$kind" = tree ]; then
  rsync -aAX "$url" "$target/"
else
  curl -sSf "$url" | zstd -dcq | tar -x --numeric-owner --xattrs --xattrs-include='*' --acls -C "$target"
fi
system << END
/dev/os/root / ext4 defaults 1
/dev/vda2 /boot ext4 defaults 2
/dev/os/home /home xfs defaults 0
/dev/os/swap none swap sw 0
END
umount "$target/home" "$target/boot" "$target"
vgchange -q -a n os
sync
