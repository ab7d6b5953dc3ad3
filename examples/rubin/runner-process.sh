# shellcheck shell=bash
# The runner of a job on a node without Docker: the same payload, as a process in the job directory.
# @VENV@ and @COMMAND@ are filled in when the job is made; a site with CVMFS sets its stack up instead.
export PATH=@VENV@/bin:${PATH} logDir=${PWD}
touch "${REALTIME_LOGFILES}"

/bin/bash -c @COMMAND@ >&2
retStat=$?

ln -fs prmon.txt memory_monitor_output.txt
ln -fs prmon.json memory_monitor_summary.json
exit "${retStat}"
