# The degraded mode, for a host without Python 3: fed to `sh -s`, it prints a block of readings every two seconds.
#
# A block is `wd-begin 1`, lines of `key value`, and `wd-end`; remote/posix_reading.py reads them. It runs until its
# standard input ends, and then kills its whole process group: sshd gives every command one of its own. Once a line was
# sent to it, it also ends when none came for half a minute: a connection can break without anybody closing it.
# POSIX sh, and tools that every system has; what is missing leaves its lines out.

LC_ALL=C
export LC_ALL
PATH="$PATH:/usr/local/bin:/usr/bin:/bin"
export PATH

wd_fields='index,uuid,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,power.limit,clocks.sm,fan.speed,pstate'
wd_few='index,name,utilization.gpu,memory.used,memory.total,temperature.gpu'

wd_bounded() {
    if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi
}

wd_prefixed() {
    head -n 200 | while IFS= read -r wd_line; do printf '%s %s\n' "$1" "$wd_line"; done
}

wd_facts() {
    echo "host $(uname -n 2>/dev/null)"
    echo "system $(uname -srm 2>/dev/null)"
    echo "user $(id -un 2>/dev/null)"
    for wd_tool in python3 tmux rsync git nvidia-smi; do
        if command -v "$wd_tool" >/dev/null 2>&1; then echo "program $wd_tool"; else echo "missing $wd_tool"; fi
    done
    wd_cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null) && echo "cores $wd_cores"
    if [ -r /proc/sys/kernel/random/boot_id ]; then echo "boot $(cat /proc/sys/kernel/random/boot_id)"; fi
}

wd_machine() {
    echo "time $(date +%s 2>/dev/null)"
    if [ -r /proc/loadavg ]; then
        read -r wd_load wd_rest </proc/loadavg
        echo "load $wd_load"
    fi
    if [ -r /proc/meminfo ]; then
        while read -r wd_key wd_value wd_rest; do
            case "$wd_key" in
                MemTotal:) echo "memory_total_kib $wd_value" ;;
                MemAvailable:) echo "memory_available_kib $wd_value" ;;
            esac
        done </proc/meminfo
    fi
    wd_place="${WAVEDECK_HOME:-$HOME}"
    [ -d "$wd_place" ] || wd_place="$HOME"
    wd_bounded df -kP "$wd_place" 2>/dev/null | while read -r wd_name wd_size wd_used wd_free wd_rest; do
        case "$wd_size" in
            *[!0-9]* | '') ;;
            *) echo "disk_total_kib $wd_size"; echo "disk_free_kib $wd_free" ;;
        esac
    done
}

wd_gpus() {
    command -v nvidia-smi >/dev/null 2>&1 || return 0
    wd_said=$(wd_bounded nvidia-smi "--query-gpu=$wd_fields" --format=csv,noheader,nounits 2>&1)
    wd_status=$?
    case "$wd_said" in
        *'is not a valid field to query'*)
            wd_fields="$wd_few"
            wd_said=$(wd_bounded nvidia-smi "--query-gpu=$wd_fields" --format=csv,noheader,nounits 2>&1)
            wd_status=$?
            ;;
    esac
    echo "gpu_status $wd_status"
    echo "gpu_fields $wd_fields"
    printf '%s\n' "$wd_said" | wd_prefixed gpu
}

wd_sessions() {
    command -v tmux >/dev/null 2>&1 || return 0
    wd_format='#{session_created} #{session_activity} #{session_attached} #{session_windows} #{session_name}'
    wd_bounded tmux -L "${WAVEDECK_TMUX_SOCKET:-wavedeck}" -f /dev/null list-sessions -F "$wd_format" 2>/dev/null |
        wd_prefixed ours
    (unset TMUX; wd_bounded tmux list-sessions -F "$wd_format" 2>/dev/null) | wd_prefixed theirs
}

wd_loop() {
    wd_first=1
    wd_quiet=-1
    trap 'wd_quiet=0' USR1
    while [ "$wd_quiet" -lt 15 ]; do
        echo 'wd-begin 1'
        [ "$wd_first" = 1 ] && wd_facts
        wd_first=0
        wd_machine
        wd_gpus
        wd_sessions
        echo 'wd-end' || break
        sleep 2
        [ "$wd_quiet" -ge 0 ] && wd_quiet=$((wd_quiet + 1))
    done
    kill -s TERM 0
}

wd_main() {
    wd_loop </dev/null &
    wd_pid=$!
    while IFS= read -r wd_word; do kill -s USR1 "$wd_pid" 2>/dev/null; done
    trap '' TERM
    kill -s TERM 0
    exit 0
}

wd_main
