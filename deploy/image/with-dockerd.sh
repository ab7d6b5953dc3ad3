#!/bin/sh
# with-dockerd COMMAND...: start a Docker daemon, wait until it answers, become COMMAND.
#
# For a privileged pod without the node's socket. The daemon and its containers
# end with the pod: the kernel kills what is left when tini, pid 1, ends.
# PILOT_DOCKERD_SECONDS (60): how long to wait. Exit 90 if it does not come up,
# which no pilot or wrapper uses and Harvester shows as a failed worker.
set -u
wait_s=${PILOT_DOCKERD_SECONDS:-60}
log=${PILOT_DOCKERD_LOG:-/var/log/dockerd.log}
# The storage driver decides by what it finds; the data root is an emptyDir.
dockerd >"$log" 2>&1 &
daemon=$!
tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$daemon" 2>/dev/null || [ "$tries" -gt $((wait_s * 5)) ]; then
        echo "with-dockerd: no Docker daemon after $((tries / 5)) s; the end of $log:" >&2
        tail -n 20 "$log" >&2
        kill "$daemon" 2>/dev/null
        exit 90
    fi
    sleep 0.2
done
exec "$@"
