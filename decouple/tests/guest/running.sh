# Running processes: decouple, recouple, signals, stop and continue, every kind of end.
. "$(dirname "$0")/lib.sh"

count() {
	: >"$out"
	kill -ALRM "$pid"
	while ! grep -q count "$out"; do sleep 0.1; done
	sed -n 's/count //p' "$out"
}

worker
run decouple -c 1 -p "$pid"
is 'decouple a running process' '0 ' "$status $said"
soon 'it is on its core' thread_on 1 "$pid"
is 'sysfs has its name' worker "$(value 1 comm)"
is 'sysfs has its process' "$pid" "$(value 1 pid)"
first=$(count)
sleep 0.2
second=$(count)
is 'it computes there' yes "$([ "$second" -gt "$first" ] && echo yes)"
kill -USR1 "$pid"
soon 'a signal is delivered' grep -q 'usr1 1' "$out"
kill -USR1 "$pid"
soon 'and another' grep -q 'usr1 2' "$out"
soon 'it is still decoupled' thread_on 1 "$pid"

run recouple -p "$pid"
is 'recouple' '0 ' "$status $said"
soon 'the core is free' state_is 1 idle
first=$(count)
sleep 0.2
second=$(count)
is 'it goes on computing on Linux' yes "$([ "$second" -gt "$first" ] && echo yes)"
run decouple -c 2 -p "$pid"
is 'decouple it again, elsewhere' '0 ' "$status $said"
soon 'it is on the other core' thread_on 2 "$pid"
kill -STOP "$pid"
sleep 0.2
kill -CONT "$pid"
: >"$out"
kill -USR1 "$pid"
soon 'it lives on after stop and continue' grep -q 'usr1 3' "$out"
end_worker "$pid"
soon 'kill -9 gives the core back' state_is 2 idle

worker
run decouple -c 1 -p "$pid"
kill -USR2 "$pid"
wait "$pid"
is 'exit from a handler: status' 5 $?
soon 'exit gives the core back' state_is 1 idle

worker
run decouple -c 1 -p "$pid"
kill -TERM "$pid"
wait "$pid" 2>/dev/null
is 'SIGTERM ends it: status' 143 $?
soon 'SIGTERM gives the core back' state_is 1 idle

worker 2
run decouple -p "$pid" -t all
is 'decouple all threads' '0 ' "$status $said"
is 'core 1 has a thread of it' "$pid" "$(value 1 pid)"
is 'core 2 has a thread of it' "$pid" "$(value 2 pid)"
run recouple -p "$pid"
is 'recouple all threads' '0 ' "$status $said"
soon 'core 1 is free' state_is 1 idle
soon 'core 2 is free' state_is 2 idle
run decouple -p "$pid" -t all
end_worker "$pid"
soon 'kill -9 of all threads: core 1' state_is 1 idle
soon 'kill -9 of all threads: core 2' state_is 2 idle
