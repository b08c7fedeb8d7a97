# What the guest tests share. Each prints `ok NAME` or `not ok NAME: reason` for everything that it checks.

sysfs=/sys/kernel/decouple
work=$(mktemp -d)
workers=
trap 'kill -9 $workers 2>/dev/null; rm -rf "$work"' EXIT

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $(echo "$2" | tr '\n' ' ')"; }

# is NAME EXPECTED ACTUAL
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected '$2', got '$3'"; fi; }

# has NAME PART TEXT
has() { case $3 in *"$2"*) ok "$1" ;; *) not_ok "$1" "'$2' is not in '$3'" ;; esac; }

# soon NAME COMMAND...: the command succeeds within half a minute
soon() {
	name=$1 tries=0
	shift
	until "$@"; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ]; then
			not_ok "$name" "did not become true: $*"
			return 1
		fi
		sleep 0.1
	done
	ok "$name"
}

# run COMMAND...: sets $status and $said (standard output and error)
run() { said=$("$@" 2>&1) && status=0 || status=$?; }

# refused NAME MESSAGE COMMAND...: the command fails with status 125 and this message
refused() {
	name=$1 message=$2
	shift 2
	run "$@"
	is "$name: status" 125 $status
	has "$name: message" "$message" "$said"
}

value() { cat "$sysfs/core$1/$2"; }
state_is() { [ "$(value "$1" state)" = "$2" ]; }
occupied() { case $(value "$1" state) in running | trapped) true ;; *) false ;; esac; }
thread_on() { [ "$(value "$1" tid)" = "$2" ]; }
count_compute() { corectl list --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["compute_cores"]))'; }

# worker [ARGS]: starts one; sets $pid, output goes to $out
worker_number=0
worker() {
	worker_number=$((worker_number + 1))
	out=$work/worker$worker_number
	: >"$out"
	worker_program "$@" >"$out" 2>&1 &
	pid=$!
	workers="$workers $pid"
	while ! grep -q ready "$out"; do sleep 0.1; done
}
worker_program() { exec "$BIN/worker" "$@"; }

end_worker() { kill -9 "$1"; wait "$1" 2>/dev/null; }
