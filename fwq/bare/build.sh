#!/bin/sh
# Build the bare floor: sh build.sh OUT.elf. Needs gcc and binutils only. $CC overrides the compiler.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 OUT.elf" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cc=${CC:-gcc}
# No floating point and no red zone are needed for interrupts; here they keep the code free of state that nobody set up.
flags="-m64 -O2 -Wall -Wextra -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none
       -fno-asynchronous-unwind-tables -mgeneral-regs-only -mno-red-zone"
# shellcheck disable=SC2086  # the flags are words
$cc $flags -c "$here/bare.c" -o "$work/bare.o"
$cc -m64 -c "$here/start.s" -o "$work/start.o"
$cc -m64 -c "$here/../asm/quantum.s" -o "$work/quantum.o"
ld -nostdlib -static -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments -T "$here/bare.ld" \
   -o "$work/bare.elf" "$work/start.o" "$work/bare.o" "$work/quantum.o"
mv "$work/bare.elf" "$1"
