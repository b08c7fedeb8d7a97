savedcmd_arch/um/os-mk/vdso/vdso.so := objcopy -S  arch/um/os-mk/vdso/vdso.so.dbg arch/um/os-mk/vdso/vdso.so
