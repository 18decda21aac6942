#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists the images of this node, chooses the one that boots, and has its entry follow the image's kernels. It needs
# nothing of bareon: a shell, mount, sed, grep, sort, and what lists files.
# Root of each deployed image can write to the partition that this reads and writes: what is there is no command, leads
# nowhere, and -C lets no file be written that is there already, so that no link is written through.
set -euC
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C

# The partitions of the common boot loader, each with a copy of its menu. bareon writes their UUIDs here; without them
# they are found by their label.
uuids='@UUIDS@'
label=multiboot

# How kernels and their initramfs are called, what shows that a folder of /lib/modules is in use, and what marks kernels
# that no ordinary boot takes, the worst first. bareon writes here what it goes by itself.
kernel_names='@KERNELS@'
initramfs_names='@INITRAMFS@'
module_files='@MODULES@'
odd_kernels() {
    cat <<'END'
@ODD@
END
}

usage() {
    cat <<'END'
usage: bareon-boot list
       bareon-boot status [--json]
       bareon-boot switch IMAGE [--once [--within MINUTES]]
       bareon-boot confirm
       bareon-boot await
       bareon-boot refresh [--image IMAGE] [--root FOLDER]

list shows each image with its number in the boot menu ("-" for one that cannot boot), its UUID and its name.
"*" marks the one that boots by default, ">" the one that boots next time only.
status says which image runs, which is the default, and which one boots next time only; with --json as one line of JSON.
confirm makes the image that runs the default, after it was started once.
switch makes IMAGE the default. IMAGE is the name, the UUID or the number of an image.
--once: only for the next boot; the one after that takes the default again.
--within: and that one reboots by itself unless it was confirmed within so many minutes of its start, or at once if
/etc/bareon/health is a program there that fails. await does this; systemd and OpenRC call it in each image.
refresh has the entry of the image that runs start its newest kernel, and another one an older kernel. Packages of
kernels call it. --root: the folder where the image is mounted; --image: which one that is.
Where several disks have a copy of the menu, switch and refresh write all that are there, and each says which is missing.
END
}

fail() {
    code=$1
    shift
    printf 'bareon-boot: %s\n' "$*" >&2
    exit "$code"
}

tab=$(printf '\t')
line_end='
'
# The copies of the menu that are at hand, a line for each: its folder, a tab, and what people know it by. $place is the
# folder of the one that is read and changed first; the others are made like it.
copies=
place=
mounted=
# What makes a copy, the menu last, by which it is seen whether one lags behind; and the document of the deployment among it,
# which root alone may read, and which may be gone.
document=bareon-input.json
files="bareon-copies bareon-images grubenv $document grub.cfg"

warn() {
    printf 'bareon-boot: %s\n' "$*" >&2
}

close() {
    exec 9<&-
    if [ -n "$mounted" ]; then
        was_mounted=$mounted
        mounted=
        sync
        for folder in $was_mounted; do
            umount "$folder" && rmdir "$folder" || fail 6 "the boot loader's partition cannot be unmounted from $folder"
        done
    fi
}

open() {
    given=${BAREON_MULTIBOOT:-}
    if [ -n "$given" ] && [ -d "$given" ]; then
        copies=$given$tab$given$line_end
    else
        [ "$(id -u)" = 0 ] || fail 4 "only root can read the boot loader's partition"
        sources=${given:-$(find_partitions)}
        trap close EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        for source in $sources; do
            if [ -d "$source" ]; then copies=$copies$source$tab$source$line_end; else mount_copy "$source"; fi
        done
        [ -n "$copies" ] || fail 4 "the boot loader's partition" $sources "cannot be mounted"
    fi
    if command -v flock > /dev/null; then
        exec 9< "${copies%%"$tab"*}"
        flock -w 60 9 || fail 8 "another bareon-boot is at work"
    fi
    choose
    config=$place/boot/grub2/grub.cfg
    environment=$place/boot/grub2/grubenv
    images=$place/boot/grub2/bareon-images
    known=$(uuids_at "$place")
    case $uuids in
        @*) find_relatives ;;
    esac
}

# Mounts the partition $1, to be read. A disk may have died, and with it one copy of several.
mount_copy() {
    # In /run, since early on nothing can be written to /tmp yet, or something is mounted there later.
    folder=$(mktemp -d /run/bareon-boot.XXXXXX) || fail 6 "no temporary folder"
    # While another bareon-boot writes to it, it can only be mounted as that one has it; then this one waits.
    if mount -t ext4 -o ro,nosuid,nodev,noexec "$1" "$folder" 2> /dev/null ||
        mount -t ext4 -o rw,nosuid,nodev,noexec "$1" "$folder"; then
        mounted="$mounted $folder"
        copies=$copies$folder$tab$1$line_end
    else
        rmdir "$folder"
        [ "$sources" = "$1" ] || warn "the copy of the menu on $1 is missing, or cannot be read"
    fi
}

# Has the folder $place be one to write to.
writable() {
    [ -z "$mounted" ] || mount -o remount,rw "$place" || fail 6 "the boot loader's partition cannot be written"
}

# Sets $place to the copy that was changed last; of those that were changed as often, the first. Copies with a link
# where a file should be are left alone, and those that cannot be read are only written.
choose() {
    best=-2 sound= reason="there is no menu of images on the boot loader's partition"
    while IFS=$tab read -r folder source; do
        [ -n "$folder" ] || continue
        if linked=$(link_in "$folder"); then
            reason="there is a link on the boot loader's partition: $linked"
            [ "$copies" = "$folder$tab$source$line_end" ] || warn "the copy of the menu on $source is left alone: $reason"
            continue
        fi
        sound=$sound$folder$tab$source$line_end
        [ -f "$folder/boot/grub2/grub.cfg" ] && [ -f "$folder/boot/grub2/bareon-images" ] || continue
        if ! is_readable_menu "$folder"; then
            reason="the menu on $source cannot be read"
            [ "$copies" = "$folder$tab$source$line_end" ] || warn "$reason"
            continue
        fi
        changes=-1
        if grep -q '^set default=[0-9]' "$folder/boot/grub2/grub.cfg"; then
            changes=$(changes_of "$folder/boot/grub2/grub.cfg")
        fi
        [ "$changes" -le "$best" ] || best=$changes place=$folder
    done <<END
$copies
END
    [ -n "$place" ] || fail 4 "$reason"
    copies=$sound
}

# Whether all files of a menu can be read to their ends: of a disk that dies there may be no more than a beginning, which
# would be written to the other copies.
is_readable_menu() {
    for name in grub.cfg grubenv bareon-images bareon-copies; do
        [ ! -f "$1/boot/grub2/$name" ] || cat "$1/boot/grub2/$name" > /dev/null 2>&1 || return
    done
}

link_in() {
    for path in "$1/boot" "$1/boot/grub2" "$1/boot/grub2/grub.cfg" "$1/boot/grub2/grubenv" \
        "$1/boot/grub2/bareon-images" "$1/boot/grub2/bareon-copies" "$1/boot/grub2/$document"; do
        if [ -h "$path" ]; then
            echo "${path#"$1"}"
            return
        fi
    done
    return 1
}

# How often a menu with copies was changed.
changes_of() {
    sed -n 's/^# Change \([1-9][0-9]\{0,14\}\)\.$/\1/p' "$1" | sed -n 1p | grep . || echo 0
}

# The UUIDs of the partitions with copies, as it is written beside the menu in the folder $1; none where it is the only one.
uuids_at() {
    if [ -f "$1/boot/grub2/bareon-copies" ]; then grep -Ex '[0-9A-Za-z-]+' "$1/boot/grub2/bareon-copies" || true; fi
}

# What was found by its label is one menu only where the copies know each other.
find_relatives() {
    found=0
    while IFS=$tab read -r folder source; do
        [ -n "$folder" ] || continue
        found=$((found + 1))
        [ -n "$given" ] || [ "$(uuids_at "$folder")" = "$known" ] || found=too_many
        [ "$found" != too_many ] || break
    done <<END
$copies
END
    if [ -z "$given" ] && [ "$found" != 1 ]; then
        [ "$found" != too_many ] && [ "$found" -le "$(printf '%s\n' "$known" | grep -c .)" ] ||
            fail 4 "more than one partition is labelled $label: set BAREON_MULTIBOOT to one of" $sources
    fi
    for uuid in $known; do
        [ -d "$given" ] || findfs "UUID=$uuid" > /dev/null 2>&1 || warn "the copy of the menu on UUID=$uuid is missing"
    done
}

# Puts FILE.new in the place of FILE ($1). GRUB does not read the journal of a file system that was not unmounted: so
# the new file is at its place on the disk before it gets its name, and the old one stays (FILE.old) until then.
put() {
    rm -f "$1.old" || return
    if [ -f "$1" ]; then ln "$1" "$1.old" || return; fi
    sync "$1.new" || sync
    if [ -n "$mounted" ]; then
        # A file system that somebody else writes to meanwhile cannot be flushed in this way.
        folder=${1%/boot/grub2/*}
        if mount -o remount,ro "$folder" 2> /dev/null; then mount -o remount,rw "$folder" || return; fi
    fi
    mv "$1.new" "$1" || return
    sync "${1%/*}" || sync
}

# Puts the text $1 in the place of grub.cfg. Where there are copies of it, it says how often it was changed.
put_menu() {
    text=$1
    if [ -n "$known" ]; then
        text=$(printf '%s\n' "$1" | sed -e '/^# Change [0-9]*\.$/d' | sed "1a # Change $(($(changes_of "$config") + 1)).")
    fi
    rm -f "$config.new"
    printf '%s\n' "$text" > "$config.new"
    [ "$(cat "$config.new")" = "$text" ] || fail 6 "grub.cfg was cut off"
    put "$config"
}

# Has the document beside the menu be like the file $1; where that is missing, there is none.
put_document() {
    target=$place/boot/grub2/$document
    if [ ! -f "$1" ]; then
        rm -f "$target" "$target.old"
    elif [ ! -f "$target" ] || [ "$(cat "$1")" != "$(cat "$target")" ]; then
        rm -f "$target.new"
        (umask 077 && cat "$1" > "$target.new")
        [ "$(cat "$1")" = "$(cat "$target.new")" ] || fail 6 "the document was cut off"
        put "$target"
    fi
}

# Has the other copies be like the one in $place.
follow() {
    failed=
    while IFS=$tab read -r folder source; do
        [ -n "$folder" ] && [ "$folder" != "$place" ] && ! is_alike "$folder" || continue
        if write_copy "$folder"; then
            echo "the copy of the menu on $source has been written"
        else
            failed=yes
            warn "the copy of the menu on $source cannot be written"
        fi
    done <<END
$copies
END
    [ -z "$failed" ] || fail 6 "not all copies of the menu are alike"
}

write_copy() {
    [ -d "$1/boot/grub2" ] || mkdir -p "$1/boot/grub2" || return
    if [ -n "$mounted" ]; then mount -o remount,rw "$1" || return; fi
    for name in $files; do
        ! is_same "$name" "$1" || continue
        if [ ! -f "$place/boot/grub2/$name" ]; then
            rm -f "$1/boot/grub2/$name" "$1/boot/grub2/$name.old" || return
            continue
        fi
        rm -f "$1/boot/grub2/$name.new" || return
        (
            [ "$name" != "$document" ] || umask 077
            cat "$place/boot/grub2/$name" > "$1/boot/grub2/$name.new"
        ) || return
        is_same "$name" "$1" .new || return
        put "$1/boot/grub2/$name" || return
    done
}

# Whether the file $1 of the menu is the same in the copy in $2. Only the document may have to be gone there.
is_same() {
    if [ ! -f "$place/boot/grub2/$1" ]; then
        [ "$1" != "$document" ] || [ ! -f "$2/boot/grub2/$1" ]
        return
    fi
    [ -f "$2/boot/grub2/$1${3:-}" ] && [ "$(cat "$place/boot/grub2/$1")" = "$(cat "$2/boot/grub2/$1${3:-}")" ]
}

is_alike() {
    for name in $files; do
        is_same "$name" "$1" || return
    done
}

# Says which copies are not like the one in $place.
compare() {
    while IFS=$tab read -r folder source; do
        [ -n "$folder" ] && [ "$folder" != "$place" ] && ! is_alike "$folder" || continue
        warn "the copy of the menu on $source is not like the one that was changed last; switch and refresh write it anew"
    done <<END
$copies
END
}

find_partitions() {
    case $uuids in
        @*) ;;
        *)
            for uuid in $uuids; do echo "UUID=$uuid"; done
            return
            ;;
    esac
    blkid -c /dev/null -t "LABEL=$label" -o device || fail 4 "this node has no partition labelled $label"
}

default_number() {
    sed -n 's/^set default=\([0-9][0-9]*\)[[:space:]]*$/\1/p' "$config" | sed -n 1p
}

next_number() {
    if [ -f "$environment" ]; then
        sed -n 's/^next_entry=\([0-9][0-9]*\)$/\1/p' "$environment" | sed -n 1p
    fi
}

# Fails where GRUB cannot write to the file system of the folder $1: it would start the choice for one boot for ever. GRUB
# writes to no device that it puts together itself, and knows none but the plainest file systems well enough.
refuse_unwritable() {
    why=
    case $(stat -f -c %T "$1") in btrfs | f2fs | zfs | bcachefs | nilfs) why="its file system is $(stat -f -c %T "$1")" ;; esac
    for numbers in $(numbers_of_device "$1"); do
        device=$(readlink -f "/sys/dev/block/$numbers") || continue
        read_only=$(value_of "$device/ro")
        if [ -f "$device/partition" ]; then
            device=${device%/*}
            read_only=$read_only$(value_of "$device/ro")
        fi
        case $read_only in *1*) why="its device is read-only" ;; esac
        # What firmware puts together as well is one disk for GRUB, and so is one of several paths.
        case $(value_of "$device/md/metadata_version") in '' | external*) ;; *) why="it is on RAID (md)" ;; esac
        case $(value_of "$device/dm/uuid") in
            '' | *mpath-* | DMRAID-*) ;;
            LVM-*) why="it is on LVM" ;;
            *) why="it is on a device of device-mapper" ;;
        esac
    done
    [ -z "$why" ] || fail 4 "GRUB cannot write to the boot loader's partition: $why. It would start the choice for one boot" \
        "again and again; use switch without --once"
}

value_of() {
    if [ -f "$1" ]; then cat "$1"; fi
}

# Prints NUMBER:MINUTES of an image that is to be confirmed, or was not; nothing where there is none.
trial() {
    if [ -f "$environment" ]; then
        sed -n 's/^bareon_trial=\([0-9]\{1,4\}:[1-9][0-9]\{0,3\}\)$/\1/p' "$environment" | sed -n 1p
    fi
}

list() {
    default=$(default_number)
    next=$(next_number)
    while IFS=$tab read -r number name image_uuid _ _ title; do
        mark=' '
        [ "$number" = "$default" ] && mark='*'
        [ "$number" = "$next" ] && mark='>'
        printf '%s %s  %s  %s  %s\n' "$mark" "$number" "$image_uuid" "$name" "$title"
    done < "$images" | tr -d '\001-\010\013-\037\177'
}

# Which image runs, is the default, and boots next time only. $1: json, or nothing for people.
status() {
    default=$(default_number)
    next=$(next_number)
    running=$(running_number)
    tried= failed=
    if [ -z "$next" ]; then
        tried=$(trial)
        tried=${tried%%:*}
        if [ -n "$running" ] && [ "$running" != "$tried" ]; then failed=$tried; fi
    fi
    if [ -z "$1" ]; then
        printf '%s\n' "running: $(name_of "$running")" "default: $(name_of "$default")" "next time only: $(name_of "$next")" \
            "started once, not confirmed: $(name_of "$tried")" "tried, and failed: $(name_of "$failed")"
        return
    fi
    printf '{"running": %s, "default": %s, "next": %s, "tried": %s, "failed": %s, "images": [' \
        "$(numeral "$running")" "$(numeral "$default")" "$(numeral "$next")" "$(numeral "$tried")" "$(numeral "$failed")"
    separator=
    while IFS=$tab read -r number name image_uuid root_uuid _ title; do
        printf '%s{"number": %s, "name": %s, "uuid": %s, "root_uuid": %s, "title": %s}' "$separator" \
            "$(numeral "$number")" "$(quoted "$name")" "$(quoted "$image_uuid")" "$(quoted "$root_uuid")" "$(quoted "$title")"
        separator=', '
    done < "$images"
    echo ']}'
}

# Goes back to the default image, by a restart, unless the one that runs once has been confirmed in its time.
await() {
    begun=$(uptime)
    # It is called early: the disks may not be there yet. And another bareon-boot may hold the lock.
    until trial=$(trial_of_running 2> /dev/null); do
        [ $(($(uptime) - begun)) -lt 300 ] || fail 4 "the menu cannot be read: nothing is to be confirmed"
        sleep 5
    done
    if [ -z "$trial" ]; then
        echo "nothing is to be confirmed"
        return
    fi
    number=${trial%%:*}
    end=$((begun + ${trial#*:} * 60))
    echo "this image is to be confirmed within ${trial#*:} minutes, by bareon-boot confirm"
    if [ -f /etc/bareon/health ] && [ -x /etc/bareon/health ] && has_started; then
        code=0
        # What hangs must not keep the image either.
        timeout -s KILL "$(left)" /etc/bareon/health || code=$?
        case $code in
            0 | 124 | 137) ;;
            *)
                go_back "/etc/bareon/health has failed"
                return
                ;;
        esac
    fi
    [ "$(left)" -le 0 ] || sleep "$(left)"
    # A menu that can no longer be read confirms nothing.
    if (
        open
        [ "$(default_number)" = "$number" ]
    ); then
        echo "this image has been confirmed"
        return
    fi
    go_back "this image has not been confirmed"
}

# Prints NUMBER:MINUTES of the image that runs where it is to be confirmed. It fails where that cannot be told yet.
trial_of_running() (
    open
    trial=$(trial)
    number=$(running_number)
    [ -n "$number" ] || [ -z "$trial" ] || return
    if [ "${trial%%:*}" != "$number" ] || [ "$(default_number)" = "$number" ]; then return; fi
    echo "$trial"
    # A GRUB that could not forget the choice would take it for ever.
    if [ "$(next_number)" = "$number" ]; then
        (writable && set_next '' "$trial" && follow) > /dev/null 2>&1 || warn "the choice for one boot cannot be removed"
    fi
)

# Waits until systemd has started what it was to start, or has given up; fails where there is no time left.
has_started() {
    [ -d /run/systemd/system ] || return 0
    while [ "$(left)" -gt 0 ]; do
        case $(systemctl is-system-running 2> /dev/null) in running | degraded | maintenance) return ;; esac
        sleep 5
    done
    return 1
}

# Seconds until $end.
left() {
    echo $((end - $(uptime)))
}

go_back() {
    warn "$1: back to the image before"
    # Nothing may be there that shuts a system down which has started by half.
    reboot || reboot -f
}

# Seconds since the start, whatever is done to the clock.
uptime() {
    read -r seconds _ < /proc/uptime
    echo "${seconds%.*}"
}

# The name of the image with the number $1, for people.
name_of() {
    name=none
    while IFS=$tab read -r number called _; do
        if [ "$number" = "$1" ]; then name=$called; fi
    done < "$images"
    printf '%s\n' "$name" | tr -d '\001-\011\013-\037\177'
}

# A string of JSON; null for what is not there. What is no UTF-8 throughout is none in JSON.
quoted() {
    case $1 in
        '' | -) echo null ;;
        *)
            printf '%s\n' "$1" | tr -d '\001-\011\013-\037\177' | sed 's/[\\"]/\\&/g; s/.*/"&"/' |
                if is_utf8 "$1"; then cat; else tr '\200-\377' '?'; fi
            ;;
    esac
}

# A number of JSON; null for what is none.
numeral() {
    case $1 in '' | 0?* | *[!0-9]*) echo null ;; *) echo "$1" ;; esac
}

# RFC 3629, in bytes.
is_utf8() {
    tail=$(printf '[\200-\277]')
    two=$(printf '[\302-\337]')$tail
    three=$(printf '(\340[\240-\277]|[\341-\354\356\357]%s|\355[\200-\237])' "$tail")$tail
    four=$(printf '(\360[\220-\277]|[\361-\363]%s|\364[\200-\217])' "$tail")$tail$tail
    [ -z "$(printf '%s\n' "$1" | sed -E "s/$two|$three|$four//g" | tr -d '\001-\177')" ]
}

# Prints the number of the image that $1 means. Names come before UUIDs, and those before numbers.
number_of() {
    for column in 2 3 4 5 1; do
        found=
        while IFS=$tab read -r number name image_uuid root_uuid image_name _; do
            case $column in
                1) value=$number ;;
                2) value=$name ;;
                3) value=$image_uuid ;;
                4) value=$root_uuid ;;
                5) value=$image_name ;;
            esac
            [ "$value" = "$1" ] && [ "$value" != - ] || continue
            [ -z "$found" ] || fail 2 "'$1' may be more than one image; take its number"
            found=$number
        done < "$images"
        case $found in
            '') ;;
            -) fail 2 "image '$1' cannot boot: it holds no system" ;;
            *[!0-9]*) fail 6 "the list of images is damaged: '$1' has no number" ;;
            *) echo "$found"; return ;;
        esac
    done
    fail 2 "there is no image '$1'; bareon-boot list shows those there are"
}

# Writes the environment block, which GRUB takes at a size of exactly 1024 bytes only. $1: the number of the image that
# boots next time only, or nothing; $2: NUMBER:MINUTES of one that is to be confirmed, or nothing.
set_next() {
    block=$(
        echo '# GRUB Environment Block'
        if [ -f "$environment" ]; then sed -e '/^#/d' -e '/^next_entry=/d' -e '/^bareon_trial=/d' "$environment"; fi
    )
    [ -z "$1" ] || block=$block${line_end}next_entry=$1
    [ -z "$2" ] || block=$block${line_end}bareon_trial=$2
    block=$block$line_end
    missing=$((1024 - ${#block}))
    [ "$missing" -ge 0 ] || fail 6 "the environment block is full"
    block=$block$(printf "%${missing}s" '' | tr ' ' '#')
    rm -f "$environment.new"
    printf '%s' "$block" > "$environment.new"
    [ "$(cat "$environment.new")" = "${block%"$line_end"}" ] || fail 6 "the environment block was cut off"
    put "$environment"
}

set_default() {
    [ -n "$(default_number)" ] || fail 6 "grub.cfg has no line 'set default=' with a number"
    put_menu "$(sed "s/^set default=[0-9].*/set default=$1/" "$config")" || return
    set_next '' ''
}

# What follows is for refresh. $root is the folder of the system, empty for the one that runs.

# Prints the numbers (major:minor) that the device with the file system of the folder $1 may have: btrfs has one of its
# own, and a kernel without an initramfs a root without a name.
numbers_of_device() {
    found= longest=
    while read -r _ _ numbers _ point rest; do
        case ${1%/}/ in "${point%/}"/*) ;; *) continue ;; esac
        [ "${#point}" -ge "${#longest}" ] || continue
        longest=$point
        rest=${rest#*- }
        rest=${rest#* }
        found="$numbers$line_end$(numbers_of "${rest%% *}")"
    done < /proc/self/mountinfo
    echo "$found"
}

numbers_of() {
    if [ -b "$1" ]; then
        stat -L -c '%t %T' "$1" | while read -r major minor; do printf '%d:%d\n' "0x$major" "0x$minor"; done
    fi
}

# Whether the folder $1 is on the file system with the UUID $2: 1 for no, 2 where there is none with that UUID.
is_on() {
    device=$(findfs "UUID=$2" 2> /dev/null) || return 2
    device=$(numbers_of "$device")
    [ -n "$device" ] || return 2
    numbers_of_device "$1" | grep -Fqx -e "$device"
}

# Prints the subvolume of a btrfs that the folder $1 is in, as GRUB names it: "/@"; nothing where it is in none.
subvolume_of() {
    found= longest=
    while read -r _ _ _ inside point _; do
        case ${1%/}/ in "${point%/}"/*) ;; *) continue ;; esac
        if [ "${#point}" -ge "${#longest}" ]; then longest=$point found=${inside%/}; fi
    done < "${BAREON_MOUNTS:-/proc/self/mountinfo}"
    echo "$found"
}

# Prints the subvolume that the entry $1 has for its root; nothing where it names none.
root_subvolume_in() {
    printf '%s\n' "$1" | sed -En 's,^  linux .* rootflags=([^ ]*\,)?subvol=/?([^ \,]+).*,/\2,p'
}

# Prints the number of the image whose root file system is at $root; nothing where that is none of them. Several may
# have theirs in one btrfs.
running_number() {
    inside=$(subvolume_of "${root:-/}")
    while IFS=$tab read -r number _ _ root_uuid _; do
        case $number in *[!0-9]*) continue ;; esac
        if [ "$root_uuid" != - ] && is_on "${root:-/}" "$root_uuid"; then
            wanted=$(root_subvolume_in "$(entry_of "$number")")
            if [ -z "$wanted" ] || [ "$wanted" = "$inside" ]; then
                echo "$number"
                return
            fi
        fi
    done < "$images"
}

number_of_root() {
    found=$(running_number)
    [ -n "$found" ] || fail 4 "this system is none of the images in the menu"
    echo "$found"
}

# The lines of the entry with the number $1.
entry_of() {
    count=-1
    while IFS= read -r line; do
        case $line in 'menuentry '*) count=$((count + 1)) ;; esac
        [ "$count" = "$1" ] || continue
        printf '%s\n' "$line"
        [ "$line" != '}' ] || break
    done < "$config"
}

is_plain() {
    case $1 in '' | *[!A-Za-z0-9._+~-]*) return 1 ;; esac
}

# Whether a boot loader finds a file of /boot: a link must not lead to another file system, nor out of $root.
is_readable() {
    [ -f "$1" ] && [ -s "$1" ] || return 1
    [ -h "$1" ] || return 0
    case $(readlink -f "$1") in "$(readlink -f "${root:-/}" | sed 's,/*$,,')"/*) ;; *) return 1 ;; esac
    [ "$(stat -L -c %d "$1")" = "$(stat -c %d "$root/boot")" ]
}

# The release in the header of a kernel; Documentation/arch/x86/boot.rst of Linux.
release_in() {
    [ "$(bytes "$1" 514 4)" = HdrS ] || return 0
    where=$(dd if="$1" bs=1 skip=526 count=2 2> /dev/null | od -An -tu1)
    set -- "$1" $where
    [ $(($2 + $3)) -gt 0 ] || return 0
    found=$(bytes "$1" $((512 + $2 + 256 * $3)) 256 | sed -n '1s/[[:space:]].*//; 1p')
    if is_plain "$found"; then echo "$found"; fi
}

bytes() {
    dd if="$1" bs=1 skip="$2" count="$3" 2> /dev/null | tr '\0' '\n'
}

rank_of() {
    odd_kernels | {
        rank=0
        while IFS= read -r pattern; do
            ! printf '%s\n' "$1" | grep -Eq -e "$pattern" || break
            rank=$((rank + 1))
        done
        echo "$rank"
    }
}

# Prints a version so that texts sort as versions do: a number above a word, a word above the end, the end above "~".
sortable() {
    zeros=00000000000000000000000000000000
    printf '%s\n' "$1" | sed -E -e 's/\.old$//; s/~/!/g; s/[A-Za-z]+/#&/g' -e "s/[0-9]+/%$zeros&/g" \
        -e "s/%0*([0-9]{${#zeros}})/%\\1/g; s/[^0-9A-Za-z!#%]+//g; s/\$/#/"
}

has_modules() {
    for folder in "$root/lib/modules/$1" "$root/usr/lib/modules/$1"; do
        for file in $module_files; do
            [ ! -e "$folder/$file" ] || return 0
        done
    done
    return 1
}

# Whether a kernel is this image's: it has its modules. A system without any has kernels that need none, and those that
# an entry of another image on the same file system starts are not its own.
is_own() {
    if [ -n "$modular" ]; then
        has_modules "$2"
    else
        ! printf '%s\n' "$theirs" | grep -Fqx -e "$1"
    fi
}

# Prints the kernels of the image, the one to boot first: path, initramfs or "-", and release.
kernels() {
    modular=
    for folder in "$root"/lib/modules/* "$root"/usr/lib/modules/*; do
        ! has_modules "${folder##*/}" || modular=yes
    done
    {
        in_boot | sort -s -t "$tab" -k 1,1r -k 2,2r | {
            best=
            while IFS=$tab read -r key _ rest; do
                : "${best:=$key}"
                # Those to rescue a system count only where there is nothing else.
                case $best in 0*) ;; *) case $key in 0*) continue ;; esac ;; esac
                printf '%s\n' "$rest"
            done
        }
        in_folders | sort -s -t "$tab" -k 1,1r -k 2,2r | cut -f 3-
    } | while IFS=$tab read -r path initrd release; do
        ! is_own "$path" "$release" || printf '%s\t%s\t%s\n' "$path" "$initrd" "$release"
    done
}

in_boot() {
    for path in "$root"/boot/*; do
        name=${path##*/}
        version=
        for start in $kernel_names; do
            case $name in "$start"?*) version=${name#"$start"} && break ;; esac
        done
        case $name in *.dpkg-* | *.rpmsave | *.rpmnew | *.rpmorig) version= ;; esac
        [ -n "$version" ] && is_plain "$name" && is_readable "$path" || continue
        release=$(release_in "$path")
        : "${release:=$version}"
        case $name in *.old) put_aside=0 ;; *) put_aside=1 ;; esac
        initrd=-
        for wanted in "$version" "$release"; do
            for pattern in $initramfs_names; do
                found=${pattern%%@*}$wanted${pattern#*@}
                if [ "$initrd" = - ] && is_readable "$root/boot/$found"; then initrd=$prefix/$found; fi
            done
        done
        printf '%s%s\t%s\t%s\t%s\t%s\n' "$(rank_of "$version")" "$(sortable "$release")" "$put_aside" \
            "$prefix/$name" "$initrd" "$release"
    done
}

# The kernels in folders of /boot, which only entries of the Boot Loader Specification tell of.
in_folders() {
    for entry in "$root"/boot/loader/entries/*.conf; do
        [ -f "$entry" ] || continue
        path=$(value_in "$entry" linux)
        case $path in */*/*) ;; *) continue ;; esac
        is_plain "$(printf '%s' "$path" | tr -d /)" && is_readable "$root/boot$path" || continue
        initrd=$(value_in "$entry" initrd)
        if is_plain "$(printf '%s' "$initrd" | tr -d /)" && is_readable "$root/boot$initrd"; then
            initrd=$prefix$initrd
        else
            initrd=-
        fi
        release=$(release_in "$root/boot$path")
        if [ -z "$release" ]; then
            release=${path%/*}
            release=${release##*/}
        fi
        case $(rank_of "$release") in "$(odd_kernels | wc -l)") odd=1 ;; *) odd=0 ;; esac
        name=${entry##*/}
        printf '%s\t%s\t%s\t%s\t%s\n' "$odd" "$(sortable "${name%.conf}")" "$prefix$path" "$initrd" "$release"
    done
}

# The last value of the key $2, as a path from /boot.
value_in() {
    sed -En "s/^[[:blank:]]*$2[[:blank:]]+(.*[[:blank:]])?([^[:blank:]]+)[[:space:]]*\$/\2/p" "$1" | sed -n '$p' |
        sed -E 's,^(/boot)?/*,/,'
}

as_word() {
    case $1 in *~*) printf "'%s'" "$1" ;; *) printf '%s' "$1" ;; esac
}

kernel_in() {
    printf '%s\n' "$1" | sed -En "s/^  linux ('([^']*)'|([^ ]*)).*/\\2\\3/p"
}

filesystem_in() {
    printf '%s\n' "$1" | sed -En 's/^  search .*--set=root ([^ ]+)$/\1/p'
}

# The entry $1 with another kernel ($2), its initramfs ($3), and $4 behind its title.
changed() {
    printf '%s\n' "$1" | while IFS= read -r line; do
        case $line in
            'menuentry '*) printf '%s%s\n' "${line%"' {"}" "$4' {" ;;
            '  linux '*)
                printf '  linux %s%s\n' "$(as_word "$2")" "$(printf '%s\n' "$line" | sed -E "s/^  linux ('[^']*'|[^ ]*)//")"
                [ "$3" = - ] || printf '  initrd %s\n' "$(as_word "$3")"
                ;;
            '  initrd '*) ;;
            *) printf '%s\n' "$line" ;;
        esac
    done
}

# Sets $menu: grub.cfg with the entry $1 as $2, and that of its older kernel as $3, which may be empty. With $4 the entry
# is a new one, behind those of all other images.
compose() {
    mark='# An older kernel of entry '
    menu= gap= skipping= placed= had= at= count=0 adding=${4:-}
    while IFS= read -r line; do
        if [ -n "$skipping" ]; then
            [ "$line" != '}' ] || skipping=
            continue
        fi
        if [ -n "$adding" ] && [ "$count" = "$1" ]; then
            case $line in
                "$mark"* | 'menuentry '*)
                    menu=$menu$line_end$2$line_end
                    adding= gap=$line_end
                    ;;
            esac
        fi
        case $line in
            '')
                menu=$menu$gap
                gap=$line_end
                continue
                ;;
            "$mark"*)
                owner=${line#"$mark"}
                owner=${owner%.}
                case $owner in '' | *[!0-9]*) owner=0 ;; esac
                if [ -z "$placed" ] && [ "$owner" -ge "$1" ]; then
                    at=$count
                    placed=yes
                    [ -z "$3" ] || menu=$menu$line_end$mark$1.$line_end$3$line_end
                fi
                if [ "$owner" = "$1" ]; then
                    had=yes gap= skipping=yes
                    continue
                fi
                ;;
            'menuentry '*)
                count=$((count + 1))
                if [ -z "${4:-}" ] && [ "$count" = $(($1 + 1)) ]; then
                    menu=$menu$gap$2$line_end
                    gap= skipping=yes
                    continue
                fi
                ;;
        esac
        menu=$menu$gap$line$line_end
        gap=
    done < "$config"
    [ -z "$adding" ] || menu=$menu$line_end$2$line_end
    if [ -z "$placed" ]; then
        at=$count
        [ -z "$3" ] || menu=$menu$line_end$mark$1.$line_end$3$line_end
    fi
    default=$(default_number)
    moved=$default
    if [ -n "${4:-}" ]; then
        [ "$default" -lt "$1" ] || moved=$((default + 1))
    elif [ -n "$had" ] && [ -z "$3" ]; then
        if [ "$default" = "$at" ]; then moved=$1; elif [ "$default" -gt "$at" ]; then moved=$((default - 1)); fi
    elif [ -z "$had" ] && [ -n "$3" ] && [ "$default" -ge "$at" ]; then
        moved=$((default + 1))
    fi
    menu=$(printf '%s' "$menu" | sed "s/^set default=$default[[:space:]]*\$/set default=$moved/")
}

# $1: the number of the image
refresh() {
    [ -n "$(default_number)" ] || fail 6 "grub.cfg has no line 'set default=' with a number"
    entry=$(entry_of "$1")
    kernel=$(kernel_in "$entry")
    filesystem=$(filesystem_in "$entry")
    case $entry in "menuentry '"*"' {$line_end"*) ;; *) kernel= ;; esac
    [ -n "$kernel" ] && [ -n "$filesystem" ] || fail 6 "entry $1 of grub.cfg is not as bareon writes them"
    # GRUB goes through a subvolume from the top of its file system.
    above=$(subvolume_of "$root/boot")
    case $kernel in "$above"/*) ;; *) above= ;; esac
    case ${kernel#"$above"} in /boot/*) prefix=$above/boot ;; *) prefix=$above ;; esac
    there=0
    is_on "$(readlink -f "$root/boot")" "$filesystem" || there=$?
    [ "$there" != 1 ] || fail 4 "$root/boot is not on the file system that GRUB reads kernels from, UUID=$filesystem"
    theirs=$(kernels_of_others "$1" "$filesystem")
    case $entry in *"$line_end  initrd "*) wants_initrd=yes ;; *) wants_initrd= ;; esac
    first= older= running=
    if [ -z "$root" ]; then running=$(uname -r); fi
    while IFS=$tab read -r path initrd release; do
        [ -n "$path" ] || continue
        if [ "$initrd" = - ] && [ -n "$wants_initrd" ]; then
            echo "bareon-boot: $path has no initramfs: it is not in the menu" >&2
        elif [ -z "$first" ]; then
            first=$path first_initrd=$initrd
        elif [ -z "$older" ] || [ "$release" = "$running" ]; then
            # The one that runs is known to work.
            older=$path older_initrd=$initrd older_release=$release
        fi
    done <<END
$(kernels)
END
    [ -n "$first" ] || fail 4 "there is no kernel in $root/boot whose modules are there; the menu stays as it is"
    changed_entry=$(changed "$entry" "$first" "$first_initrd" '')
    older_entry=
    if [ -n "$older" ]; then
        older_entry=$(changed "$entry" "$older" "$older_initrd" ", older kernel $older_release")
    fi
    compose "$1" "$changed_entry" "$older_entry"
    if [ "$menu" = "$(cat "$config")" ]; then
        echo "the menu is up to date: $first, older kernel ${older:-none}"
        return
    fi
    writable
    put_menu "$menu"
    echo "the menu has been changed: $first, older kernel ${older:-none}"
}

# Has the entry of the image with the number $1 be as the files "entry", "older" (which may be missing) and "listed" in
# the folder $2 have it, and the document beside the menu be "document" there, or none; a deployment beside a running
# system calls it.
renew() {
    [ -n "$(default_number)" ] || fail 6 "grub.cfg has no line 'set default=' with a number"
    case $(entry_of "$1") in "menuentry '"*"' {$line_end"*) ;; *) fail 6 "entry $1 of grub.cfg is not as bareon writes them" ;; esac
    compose "$1" "$(cat "$2/entry")" "$(older_in "$2")"
    table=$(while IFS= read -r line; do
        case $line in "$1$tab"*) cat "$2/listed" ;; *) printf '%s\n' "$line" ;; esac
    done < "$images")
    writable
    put_document "$2/document"
    put_table "$table"
    if [ "$menu" != "$(cat "$config")" ]; then put_menu "$menu"; fi
}

# The same for the image $1, which the menu has not yet. It gets the number behind those of all others. Until it is in the
# list, which comes last, its entry starts it, and nothing else is another one.
add() {
    [ -n "$(default_number)" ] || fail 6 "grub.cfg has no line 'set default=' with a number"
    number=$(new_number)
    [ "$number" = "$(sed -n "1s/$tab.*//p" "$2/listed")" ] || fail 6 "the menu was changed meanwhile"
    case $(entry_of "$number") in
        # A power cut has left it there.
        "$(sed -n 1p "$2/entry")$line_end"*) compose "$number" "$(cat "$2/entry")" "$(older_in "$2")" ;;
        *) compose "$number" "$(cat "$2/entry")" "$(older_in "$2")" new ;;
    esac
    table=$(
        while IFS= read -r line; do
            case $line in "-$tab$1$tab"*) ;; *) printf '%s\n' "$line" ;; esac
        done < "$images"
        cat "$2/listed"
    )
    writable
    put_document "$2/document"
    put_menu "$menu"
    put_table "$table"
}

# The number that follows those of all images.
new_number() {
    number=0
    while IFS=$tab read -r other _; do
        case $other in '' | *[!0-9]* | ?????*) continue ;; esac
        [ "$other" -lt "$number" ] || number=$((other + 1))
    done < "$images"
    echo "$number"
}

# Has the menu and the list of images become what the folders 1, 2 and so on in the folder $1 say: each has the one of both
# that changes. They must be as in the folder 0 before. The document beside them is "document" there then, or none.
remove() {
    [ "$(cat "$1/0/menu")" = "$(cat "$config")" ] && [ "$(cat "$1/0/images")" = "$(cat "$images")" ] && [ -z "$(next_number)" ] ||
        fail 6 "the menu was changed meanwhile"
    writable
    if [ -n "$(trial)" ]; then set_next '' '' || fail 6 "the boot loader's partition cannot be written"; fi
    put_document "$1/document"
    state=1
    while [ -d "$1/$state" ]; do
        if [ -f "$1/$state/menu" ]; then put_menu "$(cat "$1/$state/menu")"; else put_table "$(cat "$1/$state/images")"; fi
        state=$((state + 1))
    done
}

older_in() {
    if [ -f "$1/older" ]; then cat "$1/older"; fi
}

# Puts the text $1 in the place of the list of images.
put_table() {
    [ "$1" != "$(cat "$images")" ] || return 0
    rm -f "$images.new"
    printf '%s\n' "$1" > "$images.new"
    [ "$(cat "$images.new")" = "$1" ] || fail 6 "the list of images was cut off"
    put "$images"
}

# The kernels that entries of other images than $1 start from the file system $2.
kernels_of_others() {
    while IFS=$tab read -r number _; do
        case $number in "$1" | *[!0-9]*) continue ;; esac
        other=$(entry_of "$number")
        if [ "$(filesystem_in "$other")" = "$2" ]; then kernel_in "$other"; fi
    done < "$images"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    list)
        [ $# -eq 0 ] || fail 2 "list takes no arguments"
        open
        list
        compare
        ;;
    status)
        json=
        case ${1:-} in --json) json=json; shift ;; esac
        [ $# -eq 0 ] || fail 2 "status has no argument $1"
        root=
        open
        status "$json"
        [ -n "$json" ] || compare
        ;;
    confirm)
        [ $# -eq 0 ] || fail 2 "confirm takes no arguments"
        root=
        open
        number=$(number_of_root)
        if [ "$number" != "$(default_number)" ] || [ -n "$(next_number)$(trial)" ]; then
            writable
            set_default "$number" || fail 6 "the boot loader's partition cannot be written"
        fi
        follow >&2
        list
        ;;
    switch)
        image= once= minutes=
        while [ $# -gt 0 ]; do
            case $1 in
                --once) once=yes ;;
                --within)
                    case ${2:-} in
                        '' | 0* | *[!0-9]* | ?????*) fail 2 "--within takes minutes, from 1 to 9999" ;;
                    esac
                    minutes=$2
                    shift
                    ;;
                -*) fail 2 "switch has no option $1" ;;
                *)
                    [ -z "$image" ] || fail 2 "switch takes one image"
                    image=$1
                    ;;
            esac
            shift
        done
        [ -z "$minutes" ] || [ -n "$once" ] || fail 2 "--within is for --once"
        [ -n "$image" ] || fail 2 "which image? bareon-boot list shows those there are"
        open
        number=$(number_of "$image")
        if [ -n "$once" ]; then
            while IFS=$tab read -r folder _; do
                [ -z "$folder" ] || refuse_unwritable "$folder"
            done <<END
$copies
END
        fi
        writable
        if [ -n "$once" ]; then
            set_next "$number" "${minutes:+$number:$minutes}" || fail 6 "the boot loader's partition cannot be written"
            if [ -n "$known" ]; then put_menu "$(cat "$config")"; fi
        else
            set_default "$number" || fail 6 "the boot loader's partition cannot be written"
        fi
        follow >&2
        list
        ;;
    await)
        [ $# -eq 0 ] || fail 2 "await takes no arguments"
        root=
        await
        ;;
    refresh)
        image= root=
        while [ $# -gt 0 ]; do
            case $1 in
                --image | --root) [ $# -gt 1 ] || fail 2 "$1 has no value" ;;
                *) fail 2 "refresh has no argument $1" ;;
            esac
            case $1 in
                --image) image=$2 ;;
                --root) root=$2 ;;
            esac
            shift 2
        done
        if [ -n "$root" ]; then
            # Mount points have no links in their names: by one this would be taken for the system that the link is in.
            [ -d "$root" ] || fail 4 "there is no folder $root"
            root=$(readlink -f "$root")
            root=${root%/}
        fi
        open
        if [ -n "$image" ]; then number=$(number_of "$image"); else number=$(number_of_root); fi
        refresh "$number"
        follow
        ;;
    renew | add)
        [ $# -eq 2 ] && [ -d "$2" ] || fail 2 "$command takes an image and a folder"
        open
        if [ "$command" = add ]; then
            add "$1" "$2"
        else
            number=$(number_of "$1")
            renew "$number" "$2"
        fi
        follow
        ;;
    remove)
        [ $# -eq 1 ] && [ -d "$1" ] || fail 2 "remove takes a folder"
        open
        remove "$1"
        follow
        ;;
    -h | --help)
        usage
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
