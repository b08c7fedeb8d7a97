# Reservations, reset, and the C library.
. "$(dirname "$0")/lib.sh"

run corectl reserve 2 -- sh -c 'cat /sys/kernel/decouple/core2/state; decouple true && echo inside'
is 'a command uses its reservation' "0 reserved
inside" "$status $said"
soon 'it ends with the command' state_is 2 idle

run corectl reserve 1-2
has 'reserve in the background' 'reserved cores 1-2' "$said"
holder=$(value 1 reserved_by)
refused 'a reserved core names the holder' "core 1 is reserved by PID $holder (corectl-hold)" decouple -c 1 true
refused 'reserve it again' 'is reserved by PID' corectl reserve 1
run decouple --reservation "$holder" -v true
has 'who names the holder may' 'decoupled onto core 1' "$said"
run corectl release 1
is 'release one' '0 ' "$status $said"
is 'the other one is kept' 'idle reserved' "$(value 1 state) $(value 2 state)"
run corectl release all
is 'release all' '0 ' "$status $said"
soon 'the holder ends' test ! -e "/proc/$holder/exe"
refused 'release what is not reserved' 'core 1 is not reserved' corectl release 1

worker
run decouple -c 1 -p "$pid"
run corectl reserve 2
run corectl reset
is 'reset' 0 $status
soon 'reset brings the thread back' state_is 1 idle
soon 'reset gives up the reservation' state_is 2 idle
end_worker "$pid"

run "$BIN/libuser"
is 'the C library' '0 ok libuser' "$status $said"
for core in 1 2; do soon "core $core is free after all" state_is $core idle; done
