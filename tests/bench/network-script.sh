#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The usual script: network-script.sh COUNT makes so many slots with ip(8) and iptables(8), in the
# namespace it is started in. What a pool of drafter does, one command after the other.
set -eu
number=0
while [ $number -lt "$1" ]; do
    ns=old$number
    high=$((number / 64)) low=$((number % 64 * 4))
    inner=10.17.$high.$((low + 1)) outer=10.17.$high.$((low + 2))
    unique=10.33.$((number / 250)).$((number % 250 + 1))
    ip netns add $ns
    ip -n $ns tuntap add dev tap0 mode tap
    ip -n $ns address add 172.16.0.1/30 dev tap0
    ip -n $ns link set tap0 up
    ip -n $ns link add $ns-veth0 type veth peer name $ns-veth1
    ip -n $ns link set $ns-veth1 netns $$
    ip -n $ns address add $inner/30 dev $ns-veth0
    ip -n $ns link set $ns-veth0 up
    ip address add $outer/30 dev $ns-veth1
    ip link set $ns-veth1 up
    ip -n $ns route add default via $outer
    ip netns exec $ns sysctl -q -w net.ipv4.ip_forward=1
    ip netns exec $ns iptables -t nat -A POSTROUTING -o $ns-veth0 -s 172.16.0.2 -j SNAT --to-source $unique
    ip netns exec $ns iptables -t nat -A PREROUTING -i $ns-veth0 -d $unique -j DNAT --to-destination 172.16.0.2
    ip netns exec $ns iptables -t nat -A PREROUTING -d $inner -j DNAT --to-destination 172.16.0.2
    ip netns exec $ns iptables -t nat -A POSTROUTING -d 172.16.0.2 -j MASQUERADE
    ip route add $unique/32 via $inner
    iptables -A FORWARD -i $ns-veth1 -o eth0 -j ACCEPT
    iptables -A FORWARD -s $unique -d 10.33.0.0/16 -j DROP
    iptables -A FORWARD -s 10.33.0.0/16 -d $unique -j DROP
    number=$((number + 1))
done
