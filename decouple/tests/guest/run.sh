#!/bin/sh
# Runs all guest tests inside Linux on Tacet, which needs two free compute cores, 1 and 2: run.sh BINDIR
# BINDIR has the programs that build.sh made. Prints a line for every check; exits 0 if all are ok.
here=$(cd "$(dirname "$0")" && pwd)
BIN=$(cd "$1" && pwd) || exit 125
export BIN
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for name in start running mpi refusals status reserve; do
	echo "# $name"
	# A script that breaks off is a failure too.
	sh "$here/$name.sh" || echo "not ok $name: the script ended with status $?"
done | tee "$log"
echo "# $(grep -c '^ok ' "$log") ok, $(grep -c '^not ok ' "$log") not ok"
! grep -q '^not ok ' "$log"
