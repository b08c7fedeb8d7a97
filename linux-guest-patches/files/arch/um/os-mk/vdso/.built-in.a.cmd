savedcmd_arch/um/os-mk/vdso/built-in.a := rm -f arch/um/os-mk/vdso/built-in.a;  printf "arch/um/os-mk/vdso/%s " image.o vvar.o | xargs ar cDPrST arch/um/os-mk/vdso/built-in.a
