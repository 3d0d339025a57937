# Shell code that the scripts share. Sourced, never run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# The folder on PYTHONPATH that holds rclpy when a ROS 2 is sourced; fails when none is.
sourced_rclpy() {
    [[ -n ${ROS_DISTRO:-} ]] || return 1
    local path paths
    IFS=: read -ra paths <<< "${PYTHONPATH:-}"
    for path in "${paths[@]}"; do
        [[ -f $path/rclpy/__init__.py ]] && { printf '%s\n' "$path"; return 0; }
    done
    return 1
}

# The wheels carry a whole ROS 2: what another one left in the environment only misleads them, and
# their bootstrapper must run again in a process started from one of its own.
leave_other_ros() {
    if sourced_rclpy > /dev/null; then return; fi
    unset PYTHONHOME PYTHONPATH AMENT_PREFIX_PATH RMW_IMPLEMENTATION
    if [[ -n ${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-} ]]; then
        unset _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH
    fi
}

# What the demo and the tests set for ROS unless the user has: no traffic leaves the machine,
# images fit into shared memory. This tree comes before an installed copy in a sourced workspace.
set_environment() {
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
    export FASTDDS_DEFAULT_PROFILES_FILE=${FASTDDS_DEFAULT_PROFILES_FILE:-$root/config/fastdds_large_images.xml}
    # rclpy.init fails without a place for its logs.
    if [[ -z ${ROS_LOG_DIR:-} && -z ${ROS_HOME:-} && ! -w ${HOME:-/nonexistent} ]]; then
        export ROS_LOG_DIR=${TMPDIR:-/tmp}/camws_bridge-log-$(id -u)
    fi
}

# An own ROS_DOMAIN_ID: held by a lock on fd 9 until this process and what it became are gone.
claim_ros_domain() {
    local folder=${TMPDIR:-/tmp}/camws_bridge-domains-$(id -u) start=$((RANDOM % 100)) i domain
    mkdir -p "$folder"
    for ((i = 0; i < 100; i++)); do
        domain=$((1 + (start + i) % 100))       # above 101 the ports run into Linux's own
        exec 9> "$folder/$domain"
        if flock -n 9; then
            export ROS_DOMAIN_ID=$domain
            return
        fi
    done
    die 'all of the ROS domains 1 to 100 are in use by tests and demos'
}

# apt_install PACKAGE...: as root or by sudo without a password; fails when it may not.
apt_install() {
    [[ ${CAMWS_APT:-1} != 0 ]] && command -v apt-get > /dev/null || return 1
    local as_root=()
    if [[ $(id -u) != 0 ]]; then
        command -v sudo > /dev/null && sudo -n true 2> /dev/null || return 1
        as_root=(sudo -n)
    fi
    say "installing $* with apt-get"
    local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
                   apt-get install -qq -y --no-install-recommends "$@")
    "${install[@]}" > /dev/null 2>&1 && return
    # The package lists may be old, or absent as in a fresh container.
    "${as_root[@]}" apt-get update -qq > /dev/null 2>&1
    "${install[@]}" > /dev/null
}
