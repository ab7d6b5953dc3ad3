# shellcheck shell=bash
# The runner of a job whose payload is a container: runs in the pilot's job directory, beside the pilot.
# @IMAGE@, @DATA@ and @COMMAND@ are filled in when the job is made (the command through printf %q);
# ${...} is left for the worker node, where the pilot's environment has the values.
#
# The container's user is not root, and it is the Docker daemon that mounts: so the log file lies in a
# folder that has the same path on the node, exists before the container does, and is open to all.
logDir=/tmp/panda/${PANDAID}
logFile=${logDir}/${REALTIME_LOGFILES}
mkdir -p "${logDir}"
touch "${logFile}"
chmod ugo+rwx "${logDir}"
chmod ugo+rw "${logFile}"
ln -fs "${logFile}" "${REALTIME_LOGFILES}"

docker run --rm --network host \
    -v "${logDir}:${logDir}" -v "${logFile}:/tmp/${REALTIME_LOGFILES}" -v @DATA@:@DATA@ \
    --env S3_ENDPOINT_URL --env logDir="${logDir}" \
    @IMAGE@ /bin/bash -c @COMMAND@ >&2
retStat=$?

# pipetask is watched by prmon inside; the pilot looks for its files under the names PanDA gives them.
ln -fs "${logDir}/prmon.txt" memory_monitor_output.txt
ln -fs "${logDir}/prmon.json" memory_monitor_summary.json
exit "${retStat}"
