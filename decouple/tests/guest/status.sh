# What is shown: the table, JSON, counters.
. "$(dirname "$0")/lib.sh"

json() { decouple status --json | python3 -c "import json,sys; r=json.load(sys.stdin); c={c['core']: c for c in r['cores']}; print($1)"; }

is 'all idle at first' "['idle']" "$(json 'sorted({c[i]["state"] for i in r["compute_cores"]})')"
is 'core 0 serves Linux' service "$(json 'c[0]["role"]')"
worker
run decouple -c 1 -p "$pid"
kill -USR1 "$pid"
soon 'it has made a system call' grep -q 'usr1 1' "$out"
is 'JSON: the process' "$pid worker 0" "$(json 'c[1]["pid"], c[1]["comm"], c[1]["uid"]' | tr -d "(),'")"
is 'JSON: somebody is there' True "$(json 'c[1]["state"] in ("running", "trapped")')"
is 'JSON: writes are counted' True "$(json 'any(s["name"] == "write" and s["count"] >= 1 for s in c[1]["syscalls_by_number"])')"
is 'JSON: system calls add up' True "$(json 'sum(s["count"] for s in c[1]["syscalls_by_number"]) <= c[1]["syscalls"]')"
is 'JSON: the signal stopped it' True "$(json 'c[1]["stops"] >= 1')"
is 'JSON: answers take time' True "$(json 'c[1]["answer_us"] > 0')"
before=$(value 1 syscalls)
sleep 0.5
is 'a computing thread makes no system calls' "$before" "$(value 1 syscalls)"
run decouple status
has 'the table names the thread' "$pid" "$said"
has 'the table names the command' worker "$said"
has 'the table shows what it calls' 'core 1: ' "$said"
run corectl list
has 'the list names the owner' "PID $pid (worker)" "$said"
run corectl show 1
has 'show has the counters' 'system calls' "$said"
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
run as_nobody cat "$sysfs/core1/syscalls_by_number"
is 'another user does not see what it calls' 1 $status
run as_nobody decouple status
is 'but where it is' '0 yes' "$status $(echo "$said" | grep -q "^ *1 .* $pid .* worker .* - *- *- *- *-\$" && echo yes)"
is 'JSON: without counters' False "$(as_nobody decouple status --json | python3 -c 'import json,sys; print("syscalls" in json.load(sys.stdin)["cores"][1])')"
end_worker "$pid"
soon 'idle again' state_is 1 idle
