# Everything that is refused: one clear message, status 125, and nothing changed.
. "$(dirname "$0")/lib.sh"

worker
first=$pid
run decouple -c 1 -p "$first"
is 'occupy core 1' '0 ' "$status $said"
refused 'a taken core names its owner' "core 1 is taken by PID $first (worker)" decouple -c 1 true
refused 'a decoupled thread again' "thread $first of PID $first (worker) already is decoupled, on core 1" decouple -p "$first"
worker
second=$pid
refused 'a taken core for a running process' "core 1 is taken by PID $first (worker)" decouple -c 1 -p "$second"
refused 'a service core' 'core 0 is a service core of Linux' decouple -c 0 -p "$second"
refused 'a core that does not exist' 'core 63 does not exist' decouple -c 63 -p "$second"
refused 'a malformed list' "'1,x' is not a list of cores" decouple -c 1,x true
refused 'a list backwards' 'the range 2-1 runs backwards' decouple -c 2-1 true
refused 'a thread that is not there' "process $second has no thread with TID 1" decouple -p "$second" -t 1
refused 'recouple what is not decoupled' "PID $second (worker) has no decoupled thread" recouple -p "$second"
refused 'no PID at all' 'invalid value' decouple -p zero
refused 'an unknown policy' "'maybe' is not a policy" env DECOUPLE=maybe decouple true

nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
refused "somebody else's process" "not permitted to act on PID $second (worker), which belongs to user 0" nobody decouple -p "$second"
refused "somebody else's decoupled process" "not permitted to act on PID $first (worker)" nobody recouple -p "$first"
run nobody decouple -c 2 sh -c 'exit 6'
is 'nobody may decouple its own' 6 $status
is 'all this left the second one alone' '0 0' "$(value 2 pid) $(value 2 tid)"
is 'and the first one where it was' "$first" "$(value 1 tid)"

run decouple --policy=prefer -c 1 sh -c 'echo ran'
has 'prefer warns' 'warning: sh runs undecoupled: core 1 is taken' "$said"
has 'prefer runs the command' ran "$said"
run env DECOUPLE=off decouple -c 1 sh -c 'echo ran'
is 'off does not try' '0 ran' "$status $said"

end_worker "$first"
end_worker "$second"
soon 'core 1 is free' state_is 1 idle
refused 'a dead process' "there is no process with PID $second" decouple -p "$second"
refused 'a dead process to bring back' "there is no process with PID $second" recouple -p "$second"
