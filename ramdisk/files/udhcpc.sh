#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Applies what a DHCP server said; busybox udhcpc runs this with the answer in the environment.
case "$1" in
deconfig)
    ip address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
    done
    if [ -n "$dns" ]; then
        {
            [ -n "$domain" ] && echo "search $domain"
            for server in $dns; do echo "nameserver $server"; done
        } >/etc/resolv.conf
    fi
    ;;
esac
