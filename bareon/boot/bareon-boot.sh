#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists the images of this node and chooses the one that boots. It needs nothing of bareon: a shell, mount, sed.
# Root of each deployed image can write to the partition that this reads and writes: what is there is no command, leads
# nowhere, and -C lets no file be written that is there already, so that no link is written through.
set -euC
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# The partition of the common boot loader. bareon writes its UUID here; without one it is found by its label.
uuid='@UUID@'
label=multiboot

usage() {
    cat <<'END'
usage: bareon-boot list
       bareon-boot switch IMAGE [--once]

list shows each image with its number in the boot menu ("-" for one that cannot boot), its UUID and its name.
"*" marks the one that boots by default, ">" the one that boots next time only.
switch makes IMAGE the default. IMAGE is the name, the UUID or the number of an image.
--once: only for the next boot; the one after that takes the default again.
END
}

fail() {
    code=$1
    shift
    printf 'bareon-boot: %s\n' "$*" >&2
    exit "$code"
}

tab=$(printf '\t')
place=
mounted=

close() {
    if [ -n "$mounted" ]; then
        mounted=
        sync
        umount "$place" && rmdir "$place" || fail 6 "the boot loader's partition cannot be unmounted from $place"
    fi
}

# $1: ro or rw
open() {
    place=${BAREON_MULTIBOOT:-}
    if [ ! -d "$place" ]; then
        [ "$(id -u)" = 0 ] || fail 4 "only root can read the boot loader's partition"
        source=${place:-$(find_partition)}
        place=$(mktemp -d /tmp/bareon-boot.XXXXXX) || fail 6 "no temporary folder"
        if ! mount -t ext4 -o "$1,nosuid,nodev,noexec" "$source" "$place"; then
            rmdir "$place"
            fail 4 "the boot loader's partition $source cannot be mounted"
        fi
        mounted=yes
        trap close EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
    fi
    config=$place/boot/grub2/grub.cfg
    environment=$place/boot/grub2/grubenv
    images=$place/boot/grub2/bareon-images
    for path in "$place/boot" "$place/boot/grub2" "$config" "$environment" "$images"; do
        [ ! -h "$path" ] || fail 4 "there is a link on the boot loader's partition: ${path#"$place"}"
    done
    [ -f "$config" ] && [ -f "$images" ] || fail 4 "there is no menu of images on the boot loader's partition"
}

find_partition() {
    case $uuid in
        @*) ;;
        *) echo "UUID=$uuid"; return ;;
    esac
    found=$(blkid -c /dev/null -t "LABEL=$label" -o device) || fail 4 "this node has no partition labelled $label"
    [ "$(echo "$found" | wc -l)" = 1 ] ||
        fail 4 "more than one partition is labelled $label: set BAREON_MULTIBOOT to one of" $found
    echo "$found"
}

default_number() {
    sed -n 's/^set default=\([0-9][0-9]*\)[[:space:]]*$/\1/p' "$config" | sed -n 1p
}

next_number() {
    if [ -f "$environment" ]; then
        sed -n 's/^next_entry=\([0-9][0-9]*\)$/\1/p' "$environment" | sed -n 1p
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

# Writes the environment block, which GRUB takes at a size of exactly 1024 bytes only.
set_next() {
    rm -f "$environment.new"
    {
        echo '# GRUB Environment Block'
        if [ -f "$environment" ]; then sed -e '/^#/d' -e '/^next_entry=/d' "$environment"; fi
        if [ -n "$1" ]; then echo "next_entry=$1"; fi
    } > "$environment.new"
    missing=$((1024 - $(wc -c < "$environment.new")))
    [ "$missing" -ge 0 ] || fail 6 "the environment block is full"
    printf "%${missing}s" '' | tr ' ' '#' >> "$environment.new"
    mv "$environment.new" "$environment"
}

set_default() {
    [ -n "$(default_number)" ] || fail 6 "grub.cfg has no line 'set default=' with a number"
    rm -f "$config.new"
    sed "s/^set default=[0-9].*/set default=$1/" "$config" > "$config.new"
    [ "$(grep -c '^menuentry ' "$config.new")" = "$(grep -c '^menuentry ' "$config")" ] || fail 6 "grub.cfg was cut off"
    mv "$config.new" "$config"
    set_next ''
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    list)
        [ $# -eq 0 ] || fail 2 "list takes no arguments"
        open ro
        list
        ;;
    switch)
        image=
        once=
        for word; do
            case $word in
                --once) once=yes ;;
                -*) fail 2 "switch has no option $word" ;;
                *)
                    [ -z "$image" ] || fail 2 "switch takes one image"
                    image=$word
                    ;;
            esac
        done
        [ -n "$image" ] || fail 2 "which image? bareon-boot list shows those there are"
        open rw
        number=$(number_of "$image")
        if [ -n "$once" ]; then
            set_next "$number" || fail 6 "the boot loader's partition cannot be written"
        else
            set_default "$number" || fail 6 "the boot loader's partition cannot be written"
        fi
        list
        ;;
    -h | --help)
        usage
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
