# Open MPI jobs.
. "$(dirname "$0")/lib.sh"

run mpirun -n 2 decouple "$BIN/mpi_hello"
is 'two ranks: status' 0 $status
has 'rank 0 is decoupled after MPI_Init' 'rank 0 of 2: before 0 after 1 sum 2' "$said"
has 'rank 1 is decoupled after MPI_Init' 'rank 1 of 2: before 0 after 2 sum 2' "$said"
soon 'core 1 is given back' state_is 1 idle
soon 'core 2 is given back' state_is 2 idle

run mpirun -n 2 decouple -c 2,1 "$BIN/mpi_hello"
has 'the order of the list counts' 'rank 0 of 2: before 0 after 2 sum 2' "$said"
run mpirun -n 1 decouple --now "$BIN/mpi_hello"
has 'decoupled at once' 'rank 0 of 1: before 1 after 1 sum 1' "$said"
run mpirun -n 1 decouple sh -c "'$BIN/mpi_hello'; exit \$?"
has 'MPI in a child of a script' 'rank 0 of 1: before 0 after 1 sum 1' "$said"
is 'MPI in a child of a script: status' 0 $status
run mpirun -n 1 decouple python3 -c "import ctypes; print(ctypes.CDLL('$BIN/mpi_plugin.so').run())"
is 'MPI loaded late, as by Python' '0 42' "$status $said"

ranks=$(($(count_compute) + 1))
run mpirun -n $ranks decouple "$BIN/mpi_hello"
is 'too many ranks: the job fails' yes "$([ $status -ne 0 ] && echo yes)"
has 'too many ranks: message' "local MPI rank $((ranks - 1)) of $ranks has no compute core" "$said"
run mpirun -n 1 decouple true
is 'a rank without MPI_Init: status' 125 $status
has 'a rank without MPI_Init: message' 'ended without calling MPI_Init' "$said"
for core in 1 2; do soon "core $core is free after all" state_is $core idle; done
