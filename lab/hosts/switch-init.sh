#!/bin/sh
# Holds the network namespace that a lab's switch lives in: the machine's own network is never touched.
#   switch-init.sh DIRECTORY
set -eu
read -r stat </proc/self/stat
echo "$stat" >"$1/init.stat"
: >"$1/ready"
exec sh -c 'while :; do sleep 86400 & wait; done' 'understudy lab switch'
