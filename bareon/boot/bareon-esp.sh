#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the boot loader on the EFI system partition at /boot/efi to those of the other disks, and to EFI/BOOT of all;
# of systemd-boot also the entries, and the kernels that they start. systemd starts it when a file in the folder of the
# loader or of the entries has changed. It needs nothing of bareon: a shell, mount, findmnt.
set -eu

mounted=${BAREON_ESP:-/boot/efi}
devices=${BAREON_DEVICES:-/dev/disk/by-partuuid}
settle=${BAREON_SETTLE:-5} # seconds in which an update goes on writing

# bareon writes these here: the loader's folder below EFI, the names of its programs in the order in which the first
# that is there starts, that of the program in EFI/BOOT, what does not belong there, the name by which entries of
# systemd-boot are called, which is empty for GRUB, and the partitions.
folder='@FOLDER@'
programs='@PROGRAMS@'
removable='@REMOVABLE@'
left_out='@LEFT_OUT@'
token='@TOKEN@'
partitions='@PARTITIONS@'

say() {
    printf 'bareon-esp: %s\n' "$*" >&2
}

place=$(mktemp -d /run/bareon-esp.XXXXXX 2>/dev/null || mktemp -d)
close() {
    umount "$place" 2>/dev/null || :
    rmdir "$place"
}
trap close EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# $1: a file, $2: its copy, which is whole at any time
copy() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new" && sync && mv -f "$2.new" "$2" || {
            rm -f "$2.new"
            return 1
        }
        changed=yes
    fi
}

# $1: where an EFI system partition is mounted
fill() {
    mkdir -p "$1/EFI/$folder" "$1/EFI/BOOT" || return 1
    for file in "$mounted/EFI/$folder"/*; do
        name=${file##*/}
        case $name in *.new) continue ;; esac
        [ -f "$file" ] || continue
        [ "$1" = "$mounted" ] || copy "$file" "$1/EFI/$folder/$name" || return 1
        [ -z "$token" ] || [ "$name" = "$loader" ] || continue
        case " $left_out " in *" $(printf %s "$name" | tr '[:upper:]' '[:lower:]') "*) continue ;; esac
        if [ "$name" = "$loader" ]; then
            copy "$file" "$1/EFI/BOOT/$removable" || return 1
        else
            copy "$file" "$1/EFI/BOOT/$name" || return 1
        fi
    done
}

# $1: where the EFI system partition of another disk is mounted. What the system has taken out goes first, since there
# is room for few kernels; an entry comes behind what it starts. Entries of others stay, on either partition.
follow() {
    for file in "$1/loader/entries/$token-"*.conf "$1/EFI/Linux/$token-"*.efi "$1/$token"/* "$1/$token"/*/*; do
        if [ -f "$file" ] && [ ! -f "$mounted/${file#"$1/"}" ]; then
            rm "$file"
            changed=yes
        fi
    done
    for file in "$1/$token"/*/; do
        rmdir "$file" 2>/dev/null || :
    done
    for file in "$mounted/$token"/* "$mounted/$token"/*/* "$mounted/EFI/Linux"/*.efi \
        "$mounted/loader/entries/$token-"*.conf "$mounted/loader/entries.srel" "$mounted/loader/loader.conf"; do
        name=${file#"$mounted/"}
        case $name in *.new) continue ;; esac
        [ -f "$file" ] || continue
        mkdir -p "$1/${name%/*}" || return 1
        copy "$file" "$1/$name" || return 1
    done
}

own=$(findmnt --noheadings --output PARTUUID --mountpoint "$mounted" | tr '[:upper:]' '[:lower:]') || :
case " $partitions " in
    *" ${own:-none} "*) ;;
    *)
        say "$mounted is none of the EFI system partitions that bareon made; nothing is copied"
        exit 1
        ;;
esac

failed=
tries=0
changed=yes
while [ -n "$changed" ] && [ "$tries" -lt 10 ]; do
    sleep "$settle"
    tries=$((tries + 1))
    changed=
    loader=
    for name in $programs; do
        if [ -f "$mounted/EFI/$folder/$name" ]; then
            loader=$name
            break
        fi
    done
    if [ -z "$loader" ]; then
        say "there is none of $programs in $mounted/EFI/$folder; nothing is copied"
        exit 1
    fi
    if [ -n "$token" ] && ! ls "$mounted/loader/entries/$token-"*.conf >/dev/null 2>&1; then
        say "there is no entry of $token in $mounted/loader/entries; nothing is copied"
        exit 1
    fi
    fill "$mounted" || {
        say "EFI/BOOT of $mounted cannot be written"
        failed=yes
    }
    for partition in $partitions; do
        [ "$partition" != "$own" ] || continue
        if [ ! -e "$devices/$partition" ]; then
            say "partition $partition is on no disk, and is passed over"
        elif mount -t vfat -o umask=0077,nosuid,nodev,noexec "$devices/$partition" "$place"; then
            fill "$place" || {
                say "partition $partition has not got all of the boot loader"
                failed=yes
            }
            [ -z "$token" ] || follow "$place" || {
                say "partition $partition has not got all of the entries"
                failed=yes
            }
            umount "$place"
        else
            failed=yes
        fi
    done
done
sync
[ -z "$failed" ] || exit 1
