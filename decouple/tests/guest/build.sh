#!/bin/sh
# Builds the C programs of the guest tests on the host: build.sh OUTDIR
# libuser is linked against libdecouple.so in $LIBDECOUPLE (default: target/release of the project).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
libraries=${LIBDECOUPLE:-$here/../../../target/release}
mkdir -p "$out"
gcc -O2 -Wall -pthread -o "$out/worker" "$here/src/worker.c"
gcc -O2 -Wall -static -o "$out/hello_static" "$here/src/hello_static.c"
gcc -O2 -Wall -I "$here/../../include" -L "$libraries" -Wl,-rpath,/usr/local/lib \
	-o "$out/libuser" "$here/src/libuser.c" -ldecouple
mpicc -O2 -Wall -o "$out/mpi_hello" "$here/src/mpi_hello.c"
mpicc -O2 -Wall -shared -fPIC -o "$out/mpi_plugin.so" "$here/src/mpi_plugin.c"
