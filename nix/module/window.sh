# mkupgrade-window LOWER UPPER skip|wait: succeeds in the window [LOWER, UPPER), times as HH:MM.
# Outside of it: 1, which systemd takes for "not now", or the window is waited for.
set -euo pipefail

minutes() { # HH:MM -> minutes since midnight; 10# because 08 is no octal number
    echo $((10#${1%:*} * 60 + 10#${1#*:}))
}

lower=$(minutes "$1")
upper=$(minutes "$2")

while :; do
    now=$(minutes "$(date +%H:%M)")
    if [ "$lower" -lt "$upper" ]; then
        [ "$now" -lt "$lower" ] || [ "$now" -ge "$upper" ] || exit 0
    else
        [ "$now" -lt "$lower" ] && [ "$now" -ge "$upper" ] || exit 0
    fi
    if [ "$3" = skip ]; then
        echo "it is $(date +%H:%M), outside of $1-$2: nothing is done"
        exit 1
    fi
    # Asked anew each minute: the clock may be set, and the host may sleep.
    [ -n "${said-}" ] || echo "it is $(date +%H:%M), outside of $1-$2: waiting for $1"
    said=yes
    sleep 60
done
