#!/usr/bin/env bash
# The pilot wrapper: says where it is, fetches what is missing, runs the pilot.
#
# Started by the pilot starter (--exec), or alone by a batch system; see
# docs/howto-deploy-batch.md. Nothing of what it is given is ever evaluated:
# options travel as an array and reach the pilot as they came.

set -u
set -o pipefail

# It asks the pilot to drain: no reason to die before there is one. A process
# started while it is ignored ignores it, too, until it sets a handler.
trap '' USR2

readonly VERSION="20260901-rubin"

log() {
    printf '%s [wrapper] %s\n' "$(date --utc '+%Y-%m-%d %H:%M:%S,%3N')" "$*"
}

fatal() {
    log "FATAL: $2"
    exit "$1"
}

heading() {
    printf '\n---- %s ----\n' "$1"
}

usage() {
    cat <<'END'
Usage: wrapper.sh -q QUEUE [-s SITE] [-r RESOURCE] [-i TYPE] [-j LABEL] [options] [pilot options]

  -q QUEUE              PanDA queue
  -s SITE, -r RESOURCE  accepted; the pilot learns both from the queue
  -i TYPE               pilot type, default PR
  -j LABEL              prodSourceLabel, default managed
  -t                    no proxy check here; passed on to the pilot as well
  --piloturl URL        http, https or file URL of pilot3.tar.gz;
                        local: pilot3/ or pilot3.tar.gz is here;
                        image (default): the pilot installed beside the interpreter
  --pilotsha256 HEX     the tarball must have this SHA-256
  --pilotkey PEM        the tarball must be signed with this public key: URL.sig
                        (pilot3.tar.gz.sig) holds what openssl dgst -sha256 -sign
                        writes
  --exec                become the pilot at the end: no epilog, no cleaning
  --mute, --pilotversion X, --pythonversion X, --localpy, --pandaenvtag X,
  --harvester X, --harvester_workflow X, --container, -S, --shoal
                        options of older wrappers, taken and left aside

Everything else is passed on to the pilot. Environment: PILOT_PYTHON (default
python3), TMPDIR, LSST_LOCAL_PROLOG, LSST_LOCAL_EPILOG, CRIC_URL (empty: do
not ask CRIC here).
END
}

queue="" pilottype="PR" label="managed" piloturl="image" sha256="" pilotkey="" become=no proxycheck=yes
pilotargs=()

parse() {
    while (($#)); do
        case "$1" in
            -q | -s | -r | -i | -j | --piloturl | --pilotsha256 | --pilotkey | --pilotversion | --pythonversion | \
                --pandaenvtag | --harvester | --harvester_workflow)
                (($# >= 2)) || fatal 64 "option $1 needs a value"
                case "$1" in
                    -q) queue=$2 ;;
                    -i) pilottype=$2 ;;
                    -j) label=$2 ;;
                    --piloturl) piloturl=$2 ;;
                    --pilotsha256) sha256=$2 ;;
                    --pilotkey) pilotkey=$(realpath -e -- "$2") || fatal 64 "no key $2" ;;
                esac
                shift 2
                ;;
            -t)
                proxycheck=no
                pilotargs+=("$1")
                shift
                ;;
            --exec)
                become=yes
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            --mute | --localpy | --container | -S | --shoal) shift ;;
            *)
                pilotargs+=("$1")
                shift
                ;;
        esac
    done
    if [[ -z $queue ]]; then
        usage >&2
        fatal 64 "no queue given (-q)"
    fi
}

host_facts() {
    heading "Host"
    printf 'hostname: %s\n' "$(hostname -f 2>/dev/null || hostname)"
    printf 'user: %s\n' "$(id 2>/dev/null)"
    printf 'directory: %s\n' "$PWD"
    printf 'kernel: %s\n' "$(uname -srvm)"
    [[ -r /etc/os-release ]] && printf 'system: %s\n' "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
    printf 'processor: %s x %s\n' "$(nproc 2>/dev/null)" \
        "$(sed -n '/^model name/{s/^[^:]*: *//p;q}' /proc/cpuinfo 2>/dev/null)"
    printf 'memory: %s\n' "$(sed -n '/^MemTotal/{s/^[^:]*: *//p;q}' /proc/meminfo 2>/dev/null)"
    printf 'uptime: %s\n' "$(cut -d' ' -f1-1 /proc/uptime 2>/dev/null) s, load $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null)"
    df -hP . 2>/dev/null || true
    heading "Limits"
    ulimit -a
}

# Shown are values that say where we are and how we were set up. Their names are
# known, those of secrets have no end (DB_PASS, MYSQL_PWD, SIGNING_KEY). A path to
# a file is shown, the file is not.
show_environment() {
    heading "Environment"
    local name value
    local known='path|user|logname|host|hostname|shlvl|tz|lang|lc_.*|python.*|ld_.*|conda_.*|omp_.*|.*_num_threads'
    known+='|lsst_.*|rubin_.*|daf_.*|butler_.*|rucio_.*|x509_.*|voms_.*|cric_.*|ssl_.*|s3_endpoint_url|aws_(profile|.*region)'
    known+='|pilot.*|panda.*|harvester_.*|workerid|computingsite|resourcetype|prodsourcelabel|submit_mode|gtag|logs_.*'
    known+='|(use_)?realtime_.*|workerlog_.*|google_.*|kubernetes_.*|k8s_.*|pod_.*|container_.*|docker_.*|nvidia_.*|cuda_.*'
    known+='|apptainer_.*|singularity_.*|slurm.*|_?condor_.*|pbs_.*|lsb_.*|osg_.*|glidein_.*|https?_proxy|no_proxy'
    # Not even there.
    local secret='secret|token|jwt|pass|_pwd|cred|key|private|cookie|auth'
    while IFS= read -r name; do
        value=${!name-}
        if [[ -n $value && ! ($value == /* && -e $value) ]] \
            && ! [[ ${name,,} =~ ^($known)$ && ! ${name,,} =~ $secret ]]; then
            value="***"
        elif [[ $value =~ -----BEGIN|[Bb]earer\ |eyJ[A-Za-z0-9_-]{8,}\.|://[^/@\ ]+@ ]]; then
            value="***"
        fi
        printf '%s=%s\n' "$name" "${value//$'\n'/\\n}"
    done < <(compgen -e | LC_ALL=C sort)
}

proxy_facts() {
    heading "Proxy"
    local proxy=${X509_USER_PROXY:-/tmp/x509up_u$(id -u)}
    if [[ ! -r $proxy ]]; then
        log "no proxy file that can be read at $proxy"
    elif command -v voms-proxy-info >/dev/null; then
        timeout 20 voms-proxy-info -all -file "$proxy" || log "WARNING: voms-proxy-info failed for $proxy"
    elif command -v arcproxy >/dev/null; then
        timeout 20 arcproxy -I -P "$proxy" || log "WARNING: arcproxy failed for $proxy"
    elif command -v openssl >/dev/null; then
        timeout 20 openssl x509 -in "$proxy" -noout -subject -issuer -dates \
            || log "WARNING: $proxy holds no certificate that openssl can read"
    fi
}

local_script() {
    # $1: PROLOG or EPILOG, $2: the file its variable names.
    [[ -n $2 ]] || return 0
    heading "LSST_LOCAL_$1"
    if [[ ! -f $2 ]]; then
        log "WARNING: LSST_LOCAL_$1=$2 is not a file"
        return 0
    fi
    log "sourcing $2"
    # Sites write these for shells without -u.
    set +u
    # shellcheck disable=SC1090
    source "$2"
    set -u
}

enter_workdir() {
    start_dir=$PWD
    workdir=$PWD
    cleanup=no
    [[ $become == yes || $piloturl == local ]] && return 0
    workdir=$(mktemp -d "${OSG_WN_TMP:-${TMPDIR:-$PWD}}/panda_XXXXXXXX") \
        || fatal 66 "no working directory can be made in ${OSG_WN_TMP:-${TMPDIR:-$PWD}}"
    cleanup=yes
    if [[ -f pandaJobData.out ]]; then
        cp -- pandaJobData.out "$workdir/" || fatal 67 "pandaJobData.out cannot be copied to $workdir"
    fi
    cd -- "$workdir" || fatal 66 "cannot enter $workdir"
    log "working directory: $workdir"
}

# The tarball goes to a file first: half of one must not be unpacked, and a
# checksum needs all of it.
get_pilot() {
    heading "Pilot"
    case $piloturl in
        image)
            pilot=(-m pilot_core)
            return 0
            ;;
        local)
            if [[ ! -f pilot3/pilot.py && -f pilot3.tar.gz ]]; then
                unpack_pilot pilot3.tar.gz
            fi
            ;;
        *)
            download "$piloturl" pilot3.tar.gz
            if [[ -n $pilotkey ]]; then
                # The signature's name comes before a query.
                local base=${piloturl%%\?*}
                download "$base.sig${piloturl#"$base"}" pilot3.tar.gz.sig
            fi
            unpack_pilot pilot3.tar.gz
            ;;
    esac
    [[ -f pilot3/pilot.py ]] || fatal 1 "there is no pilot3/pilot.py in $PWD"
    log "pilot version: $(cat pilot3/PILOTVERSION 2>/dev/null || echo unknown)"
    pilot=(pilot3/pilot.py)
    export PANDA_PILOT_SOURCE=${PANDA_PILOT_SOURCE:-$PWD}
}

download() {
    curl --fail --silent --show-error --location --proto '=https,http,file' --proto-redir '=https' \
        --connect-timeout 30 --max-time 180 --retry 2 --output "$2" -- "$1" \
        || fatal 1 "$2 cannot be downloaded from $1"
}

unpack_pilot() {
    if [[ -n $pilotkey ]]; then
        openssl dgst -sha256 -verify "$pilotkey" -signature "$1.sig" "$1" >/dev/null \
            || fatal 1 "$1 from $piloturl is not signed with the key of $pilotkey"
    fi
    if [[ -n $sha256 ]]; then
        printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status \
            || fatal 1 "$1 from $piloturl does not have the SHA-256 $sha256"
    fi
    # The whole archive is read before any of it is used.
    local names
    names=$(tar -tzf "$1") || fatal 1 "$1 is not a whole gzipped tar archive"
    if grep -qE '^/|(^|/)\.\.(/|$)' <<<"$names" || grep -qvE '^(\./)?pilot3(/|$)|^\./?$' <<<"$names"; then
        fatal 1 "$1 holds names outside pilot3/"
    fi
    tar -xzf "$1" --no-same-owner --no-same-permissions || fatal 1 "$1 cannot be unpacked"
    rm -f -- "$1"
}

# What the pilot finds here it need not ask for; what is missing it fetches
# itself, so nothing here is worth waiting for long.
cric_files() {
    local base=${CRIC_URL-${PILOT_CRIC_URL:-https://datalake-cric.cern.ch}}
    base=${base%/}
    [[ -n $base && ! -e cric_pandaqueues.json ]] || return 0
    case " ${pilotargs[*]-} " in *" --queuedata-url"*) return 0 ;; esac
    command -v curl >/dev/null || return 0
    heading "Queue data"
    local ca=()
    [[ -d ${X509_CERT_DIR:-/etc/grid-security/certificates} ]] \
        && ca=(--capath "${X509_CERT_DIR:-/etc/grid-security/certificates}")
    if curl --fail --silent --show-error --connect-timeout 5 --max-time 20 "${ca[@]}" --get \
        --data json --data-urlencode "pandaqueue=$queue" --output .cric_pandaqueues.part \
        -- "$base/api/atlas/pandaqueue/query/" \
        && grep -qF "\"$queue\"" .cric_pandaqueues.part; then
        mv -f -- .cric_pandaqueues.part cric_pandaqueues.json
        log "cric_pandaqueues.json: $queue from $base"
    else
        rm -f -- .cric_pandaqueues.part
        log "CRIC at $base did not give the data of $queue; the pilot will ask for them"
    fi
}

find_python() {
    python=$(command -v -- "${PILOT_PYTHON:-python3}") \
        || fatal 1 "no interpreter ${PILOT_PYTHON:-python3} in PATH=${PATH-}"
    log "interpreter: $python, $("$python" --version 2>&1)"
    [[ ${pilot[*]} != "-m pilot_core" ]] \
        || "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("pilot_core") is None)' \
        || fatal 1 "$python has no pilot: --piloturl names one to fetch, PILOT_PYTHON a Python that has one"
}

# A job whose end the server does not know, or whose logs are stored nowhere else,
# is kept for those who will look for it; its secrets are not.
clean() {
    local name kept=()
    for name in "$workdir"/pilot_job_state.{json,unreadable} "$workdir"/PanDA_Pilot-*; do
        [[ -e $name || -L $name ]] && kept+=("${name##*/}")
    done
    if ((${#kept[@]} == 0)); then
        rm -rf -- "$workdir"
        return
    fi
    find "$workdir" '(' -name panda_secrets.json -o -name x509up_renewed ')' -delete
    log "WARNING: $workdir is kept for ${kept[*]}"
}

pass_on() {
    local name
    for name; do
        # shellcheck disable=SC2064 # the name as it is now
        trap "interrupted=yes; log 'caught SIG$name, passed on to the pilot'; kill -s $name \"\$pilotpid\"" "$name"
    done
}

# Only without --exec: the shell stays, and must pass signals on and wait until
# the pilot has really ended. `wait` comes back early for a trapped signal, with
# a status that is not the pilot's; asked again, it knows.
run_and_wait() {
    interrupted=no
    pass_on TERM INT QUIT USR1 HUP XCPU
    "${command[@]}" </dev/null &
    pilotpid=$!
    pass_on USR2
    while :; do
        wait "$pilotpid"
        status=$?
        [[ $interrupted == yes ]] || break
        interrupted=no
    done
    log "==== pilot stdout END ===="
    log "Pilot exit status: $status"
    local ids="" file
    for file in "$workdir/pandaIDs.out" "$workdir/pilot3/pandaIDs.out"; do
        [[ -r $file ]] && ids+=" $(head -n 30 -- "$file" | tr '\n' ' ')"
    done
    log "pandaids:${ids:- none}"
    cd -- "$start_dir" || true
    [[ $cleanup == yes ]] && clean
    local_script EPILOG "${LSST_LOCAL_EPILOG:-}"
    log "==== wrapper stdout END ===="
    exit "$status"
}

parse "$@"
log "==== wrapper stdout BEGIN ==== version $VERSION"
host_facts
enter_workdir
local_script PROLOG "${LSST_LOCAL_PROLOG:-}"
get_pilot
find_python
cric_files
[[ $proxycheck == yes ]] && proxy_facts
show_environment
command=("$python" "${pilot[@]}" -q "$queue" -i "$pilottype" -j "$label" ${pilotargs[@]+"${pilotargs[@]}"})
heading "Pilot command"
printf '%q ' "${command[@]}"
printf '\n\n'
log "==== pilot stdout BEGIN ===="
if [[ $become == yes ]]; then
    exec "${command[@]}"
fi
run_and_wait
