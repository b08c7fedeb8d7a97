# Commands that are started decoupled: placement, exit status, children, exec, static programs, Python.
. "$(dirname "$0")/lib.sh"

run decouple -c 1 -v sh -c 'exit 7'
is 'exit status is the one of the command' 7 $status
has 'verbose tells the core' 'decoupled onto core 1' "$said"
run decouple sh -c 'kill -TERM $$'
is 'a signal that ends the command is its status' 143 $status
run decouple no-such-command
is 'a command that is not there' 127 $status
run decouple /etc/passwd
is 'a command that cannot be executed' 126 $status

here='for c in 1 2; do read tid < /sys/kernel/decouple/core$c/tid; if [ $tid = $$ ]; then echo on $c; fi; done'
run decouple -c 2 sh -c "$here"
is 'the shell runs on the core that was asked for' 'on 2' "$said"
run decouple -c 2 sh -c "sh -c '$here'; :"
is 'a child starts on Linux' '' "$said"
run decouple -c 2 sh -c "exec sh -c '$here'"
is 'after an exec it is decoupled again' 'on 2' "$said"

run decouple "$BIN/hello_static" 5
is 'a static program runs decoupled: output' hello "$said"
is 'a static program runs decoupled: status' 5 $status

run decouple python3 -c '
import os, subprocess, threading
assert subprocess.check_output(["echo", "child"]) == b"child\n"
results = []
thread = threading.Thread(target=lambda: results.append(sum(range(100000))))
thread.start(); thread.join()
pid = os.fork()
if pid == 0: os._exit(9)
print(results[0], os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))'
is 'Python computes, starts threads, forks' '4999950000 9' "$said"
is 'Python ends well' 0 $status

soon 'core 1 is given back' state_is 1 idle
soon 'core 2 is given back' state_is 2 idle
